//go:build node

// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/garyclub/webhook-operator/api/v1alpha1"
	"github.com/garyclub/webhook-operator/internal/fixture/receiver"
)

// tenant is a namespace in which Pod Security "restricted" is enforced.
type tenant struct {
	t         *testing.T
	namespace string
	accounts  *accountant
}

func newTenant(t *testing.T, namespace string) *tenant {
	t.Helper()
	apply(t, fmt.Sprintf(`
apiVersion: v1
kind: Namespace
metadata: {name: %[1]s, labels: {pod-security.kubernetes.io/enforce: restricted}}
---
apiVersion: v1
kind: Secret
metadata: {name: receivers-ca, namespace: %[1]s, labels: {%[2]s: "true"}}
stringData:
  ca.crt: |
    %[3]s
`, namespace, v1alpha1.LabelCredentials, strings.ReplaceAll(strings.TrimSpace(string(ca.PEM())), "\n", "\n    ")))
	t.Cleanup(func() {
		// The pods go, so that the next test has the node to itself; the rest stays to be looked at.
		_, _ = kubectl(context.Background(), "-n", namespace, "delete", "deployments,replicasets,pods", "--all", "--grace-period=2", "--wait=false")
	})
	return &tenant{t: t, namespace: namespace, accounts: newAccountant(t)}
}

// receive starts a receiver on the node.
func (n *tenant) receive(steps ...receiver.Step) *receiver.Receiver {
	n.t.Helper()
	r, err := receiver.Start(ca, receiver.Options{Addr: nodeAddress + ":0", Hosts: []string{nodeAddress}, Script: steps, Test: &receiver.Step{}})
	if err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(r.Close)
	return r
}

// endpoint declares one and waits until it is ready.
func (n *tenant) endpoint(name, url, more string) {
	n.t.Helper()
	apply(n.t, fmt.Sprintf(`
apiVersion: webhooks.gary.club/v1alpha1
kind: WebhookEndpoint
metadata: {name: %s, namespace: %s}
spec:
  url: %s
  events: [call.completed]
  tls: {caSecretRef: {name: receivers-ca, key: ca.crt}}
%s`, name, n.namespace, url, more))
	must(n.t, "-n", n.namespace, "wait", "--for=condition=Ready", "webhookendpoint/"+name, "--timeout=60s")
}

// app makes a Deployment of producers, injected.
func (n *tenant) app(name string, replicas int, annotations string, args ...string) {
	n.t.Helper()
	apply(n.t, n.appManifest(name, replicas, annotations, args...))
	must(n.t, "-n", n.namespace, "rollout", "status", "deployment/"+name, "--timeout=90s")
}

func (n *tenant) appManifest(name string, replicas int, annotations string, args ...string) string {
	args = append([]string{"produce", "-accountant=" + n.accounts.url}, args...)
	return fmt.Sprintf(`
apiVersion: apps/v1
kind: Deployment
metadata: {name: %[1]s, namespace: %[2]s}
spec:
  replicas: %[3]d
  selector: {matchLabels: {app: %[1]s}}
  template:
    metadata:
      labels: {app: %[1]s, %[4]s: "true"}
      annotations: {%[5]s}
    spec:
      securityContext: {runAsNonRoot: true, runAsUser: 10001, seccompProfile: {type: RuntimeDefault}}
      containers:
      - name: app
        image: webhook-operator/node-app:test
        args: ["%[6]s"]
        resources: {limits: {memory: 128Mi}}
        securityContext: {allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}
`, name, n.namespace, replicas, v1alpha1.LabelInject, annotations, strings.Join(args, `", "`))
}

// pods are those of a Deployment that are not being deleted.
func (n *tenant) pods(app string) []corev1.Pod {
	n.t.Helper()
	list := &corev1.PodList{}
	if err := cluster.List(n.t.Context(), list, client.InNamespace(n.namespace), client.MatchingLabels{"app": app}); err != nil {
		n.t.Fatal(err)
	}
	var alive []corev1.Pod
	for _, p := range list.Items {
		if p.DeletionTimestamp == nil {
			alive = append(alive, p)
		}
	}
	return alive
}

func (n *tenant) get(endpoint string) *v1alpha1.WebhookEndpoint {
	n.t.Helper()
	p := &v1alpha1.WebhookEndpoint{}
	if err := cluster.Get(n.t.Context(), client.ObjectKey{Namespace: n.namespace, Name: endpoint}, p); err != nil {
		n.t.Fatal(err)
	}
	return p
}

func (n *tenant) attempts() []v1alpha1.DeliveryAttempt {
	n.t.Helper()
	list := &v1alpha1.DeliveryAttemptList{}
	if err := cluster.List(n.t.Context(), list, client.InNamespace(n.namespace)); err != nil {
		n.t.Fatal(err)
	}
	return list.Items
}

// connected waits until that many dispatchers have the endpoint.
func (n *tenant) connected(endpoint string, count int32) {
	n.t.Helper()
	eventually(n.t, soon, func() error {
		if d := n.get(endpoint).Status.Dispatchers; d == nil || d.UpToDate < count {
			return fmt.Errorf("dispatchers are %+v, want %d", d, count)
		}
		return nil
	})
}

// arrived are the requests for events by webhook-id, without test events.
func arrived(requests []receiver.Request) map[string]int {
	seen := map[string]int{}
	for _, q := range requests {
		if q.Header.Get("Webhook-Test") == "" {
			seen[q.Header.Get("Webhook-Id")]++
		}
	}
	return seen
}

// accountant keeps what producers were answered 202 for.
type accountant struct {
	url string

	mu       sync.Mutex
	accepted map[string]bool
}

func newAccountant(t *testing.T) *accountant {
	t.Helper()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", nodeAddress+":0")
	if err != nil {
		t.Fatal(err)
	}
	a := &accountant{url: "http://" + listener.Addr().String() + "/accepted", accepted: map[string]bool{}}
	server := &http.Server{Handler: a} //nolint:gosec // for pods of this test
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	}()
	t.Cleanup(func() {
		_ = server.Close()
		<-done
	})
	return a
}

// ServeHTTP notes one event.
func (a *accountant) ServeHTTP(_ http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.accepted[r.URL.Query().Get("id")] = true
}

func (a *accountant) count() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.accepted)
}

// missing are the accepted events that are not among those seen.
func (a *accountant) missing(seen map[string]int) (ids []string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for id := range a.accepted {
		if seen[id] == 0 {
			ids = append(ids, id)
		}
	}
	return ids
}

// settled says that nothing waits or was lost, and that no record is open.
func (n *tenant) settled(endpoint string) error {
	if d := n.get(endpoint).Status.Deliveries; d == nil || d.Pending != 0 || d.Lost != 0 || d.Succeeded == 0 {
		return fmt.Errorf("counters are %+v", d)
	}
	for _, a := range n.attempts() {
		if a.Status.CompletionTime == nil {
			return fmt.Errorf("the record %s is %s", a.Name, a.Status.Outcome)
		}
	}
	return nil
}
