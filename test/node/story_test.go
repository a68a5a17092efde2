//go:build node

// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package node

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/garyclub/webhook-operator/api/v1alpha1"
	"github.com/garyclub/webhook-operator/internal/fixture/pki"
	"github.com/garyclub/webhook-operator/internal/fixture/receiver"
)

// From a declared endpoint to a delivered event: the app posts to its sidecar, a pod receives over TLS, kubectl lists it.
func TestAnEventOfAnInjectedPodIsDelivered(t *testing.T) {
	n := newTenant(t, "story")
	const host = "receiver.story.svc.cluster.local"
	cert, key := pki.EncodeLeaf(ca.Leaf([]string{host}))
	apply(t, fmt.Sprintf(`
apiVersion: v1
kind: Secret
metadata: {name: receiver-tls, namespace: story}
type: kubernetes.io/tls
stringData:
  tls.crt: %q
  tls.key: %q
---
apiVersion: v1
kind: Service
metadata: {name: receiver, namespace: story}
spec:
  selector: {app: receiver}
  ports: [{port: 443, targetPort: 8443}]
---
apiVersion: v1
kind: Pod
metadata: {name: receiver, namespace: story, labels: {app: receiver}}
spec:
  automountServiceAccountToken: false
  securityContext: {runAsNonRoot: true, runAsUser: 10001, fsGroup: 10001, seccompProfile: {type: RuntimeDefault}}
  containers:
  - name: receiver
    image: webhook-operator/node-app:test
    args: [receive]
    securityContext: {allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}
    volumeMounts: [{name: tls, mountPath: /tls}]
  volumes: [{name: tls, secret: {secretName: receiver-tls}}]
`, cert, key))
	must(t, "-n", "story", "wait", "--for=condition=Ready", "pod/receiver", "--timeout=60s")
	n.endpoint("crm", "https://"+host+"/hooks/inbound", "")
	n.app("agent", 1, "", "-count=3", "-rate=10")
	n.connected("crm", 1)
	eventually(t, soon, func() error {
		seen := arrived(n.received("receiver"))
		if n.accounts.count() != 3 || len(n.accounts.missing(seen)) > 0 {
			return fmt.Errorf("%d accepted, %d received", n.accounts.count(), len(seen))
		}
		return nil
	})
	eventually(t, soon, func() error {
		out := must(t, "-n", "story", "get", "deliveryattempts", "--field-selector", "status.outcome=Delivered,spec.endpointRef.name=crm")
		if got := strings.Count(out, "call.completed"); got < 3 {
			return fmt.Errorf("%d deliveries listed:\n%s", got, out)
		}
		return nil
	})
	t.Log("\n" + must(t, "-n", "story", "get", "webhookendpoints,deliveryattempts,pods"))
}

// received is what the receiver in a pod lists.
func (n *tenant) received(pod string) (requests []receiver.Request) {
	n.t.Helper()
	p := &corev1.Pod{}
	if err := cluster.Get(n.t.Context(), client.ObjectKey{Namespace: n.namespace, Name: pod}, p); err != nil {
		n.t.Fatal(err)
	}
	request, err := http.NewRequestWithContext(n.t.Context(), http.MethodGet, "http://"+p.Status.PodIP+":8080/requests", nil)
	if err != nil {
		n.t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		n.t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	if err := json.NewDecoder(response.Body).Decode(&requests); err != nil {
		n.t.Fatal(err)
	}
	return requests
}

// The app's container reaches neither token nor queue nor keys; ours has no API token; the pod's account has no rights.
func TestTheAppSeesNothingOfTheDispatcher(t *testing.T) {
	n := newTenant(t, "apart")
	n.endpoint("a", n.receive().URL("/"), "")
	n.app("agent", 1, "", "-count=1")
	n.connected("a", 1)
	pod := n.pods("agent")[0]
	if out := must(t, "-n", "apart", "exec", pod.Name, "-c", "app", "--", "/node-app", "look"); out != "" {
		t.Errorf("the app's container sees:\n%s", out)
	}
	n.looksWhereThereIsSomething()
	p := one(t, "dispatcher", string(pod.UID))
	if files := p.list(t, "/var/run/secrets/kubernetes.io/serviceaccount"); len(files) > 0 {
		t.Errorf("the dispatcher's container has an API token: %v", files)
	}
	if files := p.list(t, "/var/run/webhooks"); !strings.Contains(strings.Join(files, " "), "token") {
		t.Errorf("the dispatcher's container lacks its own token: %v", files)
	}
	for _, what := range []string{"get secrets", "list webhookendpoints.webhooks.gary.club", "create webhookendpoints.webhooks.gary.club",
		"list deliveryattempts.webhooks.gary.club", "update deliveryattempts.webhooks.gary.club", "create webhookevents.webhooks.gary.club"} {
		args := append([]string{"auth", "can-i", "-n", "apart", "--as=system:serviceaccount:apart:default"}, strings.Fields(what)...)
		if out, err := kubectl(t.Context(), args...); err == nil || !strings.HasSuffix(out, "no") {
			t.Errorf("may the pod's account %s? %s, %v", what, out, err)
		}
	}
}

// looksWhereThereIsSomething proves that a look finds what it looks for: in a container that has it.
func (n *tenant) looksWhereThereIsSomething() {
	n.t.Helper()
	apply(n.t, fmt.Sprintf(`
apiVersion: v1
kind: Secret
metadata: {name: key, namespace: %[1]s}
stringData: {signing-key: whsec_bm8ga2V5IG9mIGFueWJvZHkncw==}
---
apiVersion: v1
kind: Pod
metadata: {name: open, namespace: %[1]s}
spec:
  securityContext: {runAsNonRoot: true, runAsUser: 10001, seccompProfile: {type: RuntimeDefault}}
  containers:
  - name: app
    image: webhook-operator/node-app:test
    args: [produce]
    env: [{name: WEBHOOK_EVENTS_URL, value: "http://127.0.0.1:1"}]
    securityContext: {allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}
    volumeMounts: [{name: key, mountPath: /var/lib/webhooks}]
  volumes: [{name: key, secret: {secretName: key}}]
`, n.namespace))
	must(n.t, "-n", n.namespace, "wait", "--for=condition=Ready", "pod/open", "--timeout=60s")
	out := must(n.t, "-n", n.namespace, "exec", "open", "--", "/node-app", "look")
	for _, want := range []string{"folder /var/lib/webhooks", "signing key in /var/lib/webhooks"} {
		if !strings.Contains(out, want) {
			n.t.Errorf("a look where there is something to see finds:\n%s\nwant %q", out, want)
		}
	}
}

// A rolling update under load: nothing that was accepted is missing.
func TestRollingUpdateUnderLoad(t *testing.T) {
	n := newTenant(t, "rolling")
	r := n.receive()
	n.endpoint("a", r.URL("/"), "")
	n.app("agent", 2, "", "-rate=50")
	n.connected("a", 2)
	before := n.accounts.count()
	for range 3 {
		must(t, "-n", "rolling", "rollout", "restart", "deployment/agent")
		must(t, "-n", "rolling", "rollout", "status", "deployment/agent", "--timeout=90s")
	}
	must(t, "-n", "rolling", "scale", "deployment/agent", "--replicas=0")
	eventually(t, soon, func() error {
		if all := must(t, "-n", "rolling", "get", "pods", "-o", "name"); all != "" {
			return fmt.Errorf("pods are left: %s", all)
		}
		return nil
	})
	n.allArrive(r)
	total, requests := n.accounts.count(), 0
	for _, times := range arrived(r.Requests()) {
		requests += times
	}
	if total-before < 500 {
		t.Errorf("only %d events were posted during the rollouts", total-before)
	}
	t.Logf("%d accepted, %d requests, %d duplicates", total, requests, requests-total)
}

// allArrive waits until the receiver has what producers were answered 202 for.
func (n *tenant) allArrive(r *receiver.Receiver) {
	n.t.Helper()
	eventually(n.t, soon, func() error {
		if missing := n.accounts.missing(arrived(r.Requests())); len(missing) > 0 {
			return fmt.Errorf("%d of %d accepted events have not arrived", len(missing), n.accounts.count())
		}
		return nil
	})
}

// SIGKILL of everything in the pod, and of every manager: the same queue goes on.
func TestKilledContainersGoOn(t *testing.T) {
	n := newTenant(t, "killed")
	r := n.receive()
	n.endpoint("a", r.URL("/"), "")
	n.app("agent", 1, "", "-rate=50")
	n.connected("a", 1)
	pod := n.pods("agent")[0]
	for range 3 {
		before := n.accounts.count()
		one(t, "dispatcher", string(pod.UID)).kill(t)
		eventually(t, soon, func() error {
			if n.accounts.count() < before+100 {
				return fmt.Errorf("%d events since the kill", n.accounts.count()-before)
			}
			return nil
		})
	}
	running := managers(t)
	if len(running) != 2 {
		t.Errorf("%d managers, want 2 to kill", len(running))
	}
	for _, manager := range running {
		one(t, "manager", string(manager.UID)).kill(t)
	}
	must(t, "-n", "killed", "scale", "deployment/agent", "--replicas=0")
	n.allArrive(r)
	must(t, "-n", operatorNamespace, "rollout", "status", "deployment/webhook-manager", "--timeout=90s")
	t.Logf("%d events accepted and delivered", n.accounts.count())
}

func managers(t *testing.T) []corev1.Pod {
	t.Helper()
	list := &corev1.PodList{}
	if err := cluster.List(t.Context(), list, client.InNamespace(operatorNamespace),
		client.MatchingLabels{"app.kubernetes.io/component": "manager"}); err != nil {
		t.Fatal(err)
	}
	return list.Items
}

// Without a manager, pods without the label start as ever; one with it is refused, and the ReplicaSet says why.
func TestWithoutAManagerLabelledPodsAreRefused(t *testing.T) {
	n := newTenant(t, "refused")
	must(t, "-n", operatorNamespace, "scale", "deployment/webhook-manager", "--replicas=0")
	defer func() {
		must(t, "-n", operatorNamespace, "scale", "deployment/webhook-manager", "--replicas=2")
		must(t, "-n", operatorNamespace, "rollout", "status", "deployment/webhook-manager", "--timeout=90s")
		must(t, "-n", "refused", "rollout", "status", "deployment/labelled", "--timeout=90s")
	}()
	eventually(t, soon, func() error {
		if left := managers(t); len(left) > 0 {
			return fmt.Errorf("%d managers are left", len(left))
		}
		return nil
	})
	plain := strings.ReplaceAll(n.appManifest("plain", 1, "", "-count=1"), v1alpha1.LabelInject+`: "true"`, "other: label")
	plain = strings.ReplaceAll(plain, `"produce"`, `"receive"`) // needs no sidecar, and fails later than it starts
	apply(t, plain)
	apply(t, n.appManifest("labelled", 1, "", "-count=1"))
	eventually(t, soon, func() error {
		if len(n.pods("plain")) == 0 {
			return fmt.Errorf("the pod without the label was not made")
		}
		events := must(t, "-n", "refused", "get", "events", "--field-selector", "reason=FailedCreate", "-o", "jsonpath={.items[*].message}")
		if !strings.Contains(events, "inject.webhooks.gary.club") {
			return fmt.Errorf("no event says that the injection is missing: %s", events)
		}
		return nil
	})
	if len(n.pods("labelled")) > 0 {
		t.Error("a labelled pod was made without a manager")
	}
}
