// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"strings"
	"testing"
)

// The API server's own judgement of all that is installed: CRDs, roles, workloads, policies, the webhook.
func TestManifestsAreAccepted(t *testing.T) {
	t.Parallel()
	for _, overlay := range []string{"default", "with-gateway", "samples"} {
		t.Run(overlay, func(t *testing.T) {
			out, err := sys.Kubectl(t.Context(), "apply", "--server-side", "--dry-run=server", "--force-conflicts", "-k", "../../config/"+overlay)
			if err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			if strings.Contains(out, "Warning") {
				t.Errorf("the API server warns:\n%s", out)
			}
		})
	}
}
