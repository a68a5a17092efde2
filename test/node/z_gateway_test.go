//go:build node

// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package node

import (
	"testing"
	"time"
)

// With a gateway, a pod's deletion takes nothing along: what waits for its retry is handed over, and delivered under the
// same id.
func TestADeletedPodHandsOverToTheGateway(t *testing.T) {
	for _, name := range []string{"gateway-0", "gateway-1"} {
		apply(t, persistentVolume(t, name))
	}
	must(t, "apply", "--server-side", "-k", "install-gateway")
	must(t, "-n", operatorNamespace, "rollout", "status", "deployment/webhook-manager", "--timeout=120s")
	must(t, "-n", operatorNamespace, "rollout", "status", "statefulset/webhook-gateway", "--timeout=120s")
	n := newTenant(t, "handover")
	r := n.refusesFirst()
	n.endpoint("a", r.URL("/"), "  retry: {initialBackoffSeconds: 45}")
	n.waitsForRetry("a", r, func() { n.app("agent", 1, "", "-count=1") })
	must(t, "-n", "handover", "delete", "deployment/agent", "--wait=false")
	must(t, "-n", "handover", "wait", "--for=delete", "pod", "-l", "app=agent", "--timeout=60s")
	if requests := len(r.Requests()); requests > 2 { // the test event and the first attempt
		t.Fatalf("%d requests before the pod was gone: nothing was left to hand over", requests)
	}
	n.twoRequests(r, 2*time.Minute)
	eventually(t, soon, func() error { return n.settled("a") })
	t.Log("\n" + must(t, "-n", "handover", "get", "deliveryattempts", "-o",
		"custom-columns=NAME:.metadata.name,OUTCOME:.status.outcome,ATTEMPTS:.status.attemptCount,HANDOVERS:.status.handOvers"))
}
