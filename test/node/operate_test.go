//go:build node

// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package node

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// The leader goes, and another takes over: deliveries and their records go on.
func TestTheLeaderIsMoved(t *testing.T) {
	n := newTenant(t, "leader")
	r := n.receive()
	n.endpoint("a", r.URL("/"), "  history: {succeeded: 100, failed: 50}")
	n.app("agent", 1, "", "-rate=5")
	n.connected("a", 1)
	leader := leaderPod(t)
	must(t, "-n", operatorNamespace, "delete", "pod", leader, "--wait=false")
	eventually(t, soon, func() error {
		if now := leaderPod(t); now == leader || now == "" {
			return fmt.Errorf("the leader is %q", now)
		}
		return nil
	})
	moved := int64(n.accounts.count())
	eventually(t, soon, func() error {
		if d := n.get("a").Status.Deliveries; d == nil || d.Succeeded <= moved {
			return fmt.Errorf("the new leader counts %+v, of more than %d", d, moved)
		}
		return nil
	})
	must(t, "-n", "leader", "scale", "deployment/agent", "--replicas=0")
	n.allArrive(r)
	eventually(t, soon, func() error {
		if d := n.get("a").Status.Deliveries; d == nil || int(d.Succeeded) != n.accounts.count() || d.Pending != 0 {
			return fmt.Errorf("counters are %+v, want %d succeeded", d, n.accounts.count())
		}
		return nil
	})
	must(t, "-n", operatorNamespace, "rollout", "status", "deployment/webhook-manager", "--timeout=90s")
}

func leaderPod(t *testing.T) string {
	t.Helper()
	holder := must(t, "-n", operatorNamespace, "get", "lease", "webhook-operator", "-o", "jsonpath={.spec.holderIdentity}")
	pod, _, _ := strings.Cut(holder, "_")
	return pod
}

// A new CA: admission goes on with it, and so do the dispatchers that are connected.
func TestTheCAIsReplaced(t *testing.T) {
	n := newTenant(t, "rotated")
	n.endpoint("a", n.receive().URL("/"), "")
	n.app("agent", 1, "", "-count=1")
	n.connected("a", 1)
	bundle := func() string {
		return must(t, "get", "mutatingwebhookconfiguration", "webhook-manager", "-o", "jsonpath={.webhooks[0].clientConfig.caBundle}")
	}
	before := bundle()
	must(t, "-n", operatorNamespace, "patch", "secret", "webhook-control-ca", "--type=json",
		`-p=[{"op":"remove","path":"/data/ca.crt"},{"op":"remove","path":"/data/ca.key"}]`)
	eventually(t, 3*time.Minute, func() error {
		if bundle() == before {
			return fmt.Errorf("the webhook configuration has the old CA")
		}
		return nil
	})
	must(t, "-n", "rotated", "rollout", "restart", "deployment/agent")
	must(t, "-n", "rotated", "rollout", "status", "deployment/agent", "--timeout=90s")
	eventually(t, 3*time.Minute, func() error {
		if d := n.get("a").Status.Dispatchers; d == nil || d.Connected != 1 || d.UpToDate != 1 {
			return fmt.Errorf("dispatchers are %+v, want one that trusts the new CA", d)
		}
		return nil
	})
}

// What an idle sidecar and an idle manager take, as their cgroups say.
func TestIdleCost(t *testing.T) {
	n := newTenant(t, "idle")
	n.endpoint("a", n.receive().URL("/"), "")
	n.app("agent", 1, "", "-count=1")
	n.connected("a", 1)
	pods := map[string]string{"dispatcher": string(n.pods("agent")[0].UID), "manager": string(managers(t)[0].UID)}
	const span = 20 * time.Second
	begin := map[string]float64{}
	<-time.After(10 * time.Second) // until what the start brought is done
	for name, uid := range pods {
		begin[name] = one(t, name, uid).cpuSeconds(t)
	}
	<-time.After(span)
	for name, uid := range pods {
		p := one(t, name, uid)
		share := (p.cpuSeconds(t) - begin[name]) / span.Seconds()
		t.Logf("%s, idle: %.1f MiB, %.2f %% of a core", name, p.memory(t)/(1<<20), 100*share)
		if share > 0.05 {
			t.Errorf("an idle %s takes %.1f %% of a core", name, 100*share)
		}
	}
}
