// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"strings"
	"testing"
)

// The API server's own judgement of all that make deploy applies: CRDs, roles, the manager's Deployment and Services.
func TestManifestsAreAccepted(t *testing.T) {
	t.Parallel()
	out, err := sys.Kubectl(t.Context(), "apply", "--server-side", "--dry-run=server", "--force-conflicts", "-k", "../../config/default")
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, want := range []string{"deployment.apps/webhook-manager", "service/webhook-manager-control", "serviceaccount/webhook-manager",
		"clusterrole.rbac.authorization.k8s.io/webhook-manager", "customresourcedefinition.apiextensions.k8s.io/webhookendpoints.webhooks.gary.club"} {
		if !strings.Contains(out, want) {
			t.Errorf("%s is not among what is applied:\n%s", want, out)
		}
	}
	if strings.Contains(out, "Warning") {
		t.Errorf("the API server warns:\n%s", out)
	}
}
