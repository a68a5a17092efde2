//go:build node

// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package node

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"os/exec"
	"testing"
	"time"

	"github.com/garyclub/webhook-operator/api/v1alpha1"
)

func installGateway(t *testing.T) {
	t.Helper()
	for _, name := range []string{"gateway-0", "gateway-1"} {
		apply(t, persistentVolume(t, name))
	}
	must(t, "apply", "--server-side", "-k", "install-gateway")
	must(t, "-n", operatorNamespace, "rollout", "status", "deployment/webhook-manager", "--timeout=120s")
	must(t, "-n", operatorNamespace, "rollout", "status", "statefulset/webhook-gateway", "--timeout=120s")
}

// With a gateway, a pod's deletion takes nothing along: what waits for its retry is handed over, and delivered under the
// same id.
func TestADeletedPodHandsOverToTheGateway(t *testing.T) {
	installGateway(t)
	n := newTenant(t, "handover")
	r := n.refusesFirst()
	n.endpoint("a", r.URL("/"), "  retry: {initialBackoffSeconds: 45}")
	n.waitsForRetry("a", r, func() { n.app("agent", 1, "", "-count=1") })
	n.explains("agent")
	must(t, "-n", "handover", "delete", "deployment/agent", "--wait=false")
	must(t, "-n", "handover", "wait", "--for=delete", "pod", "-l", "app=agent", "--timeout=60s")
	if requests := len(r.Requests()); requests > 2 { // the test event and the first attempt
		t.Fatalf("%d requests before the pod was gone: nothing was left to hand over", requests)
	}
	n.twoRequests(r, 2*time.Minute)
	eventually(t, soon, func() error { return n.settled("a") })
	t.Log("\n" + must(t, "-n", "handover", "get", "deliveryattempts", "-o",
		"custom-columns=NAME:.metadata.name,OUTCOME:.status.outcome,ATTEMPTS:.status.attemptCount,HANDOVERS:.status.handOvers"))
	n.orders("a")
}

// orders counts what could be sent again, which is nothing here: the order is carried out, and says who gave it.
func (n *tenant) orders(endpoint string) {
	n.t.Helper()
	apply(n.t, fmt.Sprintf(`
apiVersion: webhooks.gary.club/v1alpha1
kind: Redelivery
metadata: {name: count, namespace: %s}
spec: {endpointRef: {name: %s}, dryRun: true}`, n.namespace, endpoint))
	must(n.t, "-n", n.namespace, "wait", "--for=jsonpath={.status.completionTime}", "redelivery/count", "--timeout=120s")
	got := must(n.t, "-n", n.namespace, "get", "redelivery", "count", "-o",
		`jsonpath={.status.conditions[?(@.type=="Complete")].reason} {.status.matched} {.spec.requestedBy}`)
	if me := must(n.t, "auth", "whoami", "-o", "jsonpath={.status.userInfo.username}"); got != "Counted 0 "+me {
		n.t.Errorf("the order came to %q, and I am %q", got, me)
	}
}

// explains logs, when the test has failed, what the app's dispatcher said to its end and what the gateway says.
func (n *tenant) explains(app string) {
	n.t.Helper()
	said := &bytes.Buffer{}
	follow := exec.CommandContext(n.t.Context(), "kubectl", "-n", n.namespace, "logs", "-f", "-l", "app="+app, "-c", v1alpha1.SidecarName)
	follow.Stdout, follow.Stderr = said, said
	if err := follow.Start(); err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() { // the test's context has ended, and so has the command
		_ = follow.Wait()
		if !n.t.Failed() {
			return
		}
		gateway, err := kubectl(context.WithoutCancel(n.t.Context()), "-n", operatorNamespace, "logs", "-l", "app.kubernetes.io/component=gateway", "--tail=100", "--prefix")
		n.t.Logf("the dispatcher said:\n%s\nthe gateway said (%v):\n%s", said, err, gateway)
	})
}

// A producer without a sidecar: it posts for the namespace that it has the right for, and for no other.
func TestAProducerPostsToTheGateway(t *testing.T) {
	installGateway(t)
	n, other := newTenant(t, "producer"), newTenant(t, "stranger")
	r := n.receive()
	n.endpoint("a", r.URL("/"), "")
	n.connected("a", 2)
	must(t, "-n", "producer", "create", "rolebinding", "producers", "--clusterrole=webhook-event-producer", "--serviceaccount=producer:default")
	token := must(t, "-n", "producer", "create", "token", "default", "--audience="+v1alpha1.EventsAudience)
	post := gatewayClient(t, must(t, "-n", "producer", "get", "configmap", v1alpha1.ConfigMapCA, "-o", "jsonpath={.data.ca\\.crt}"))
	for _, tc := range []struct {
		path, token string
		want        int
	}{
		{"/v1/events", token, http.StatusAccepted},
		{"/v1/namespaces/producer/events", token, http.StatusAccepted},
		{"/v1/namespaces/" + other.namespace + "/events", token, http.StatusForbidden},
		{"/v1/events", "", http.StatusUnauthorized},
		{"/v1/events", must(t, "-n", "producer", "create", "token", "default"), http.StatusUnauthorized},
	} {
		if got := post(tc.path, tc.token); got != tc.want {
			t.Errorf("%s is answered %d, want %d", tc.path, got, tc.want)
		}
	}
	eventually(t, soon, func() error {
		if seen := arrived(r.Requests()); len(seen) != 2 {
			return fmt.Errorf("%d events have arrived, want 2", len(seen))
		}
		return nil
	})
}

// gatewayClient posts an event through the gateway's Service, whose name it trusts by the manager's CA.
func gatewayClient(t *testing.T, ca string) func(path, token string) int {
	t.Helper()
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM([]byte(ca)) {
		t.Fatal("no CA is published")
	}
	address := must(t, "-n", operatorNamespace, "get", "service", "webhook-gateway", "-o", "jsonpath={.spec.clusterIP}") + ":443"
	dial := func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, address)
	}
	client := &http.Client{Transport: &http.Transport{DialContext: dial, TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS13}}}
	return func(path, token string) int {
		body := `{"event":"call.completed","timestamp":"2026-01-01T00:00:00Z","call":{"id":"call_gateway"}}`
		request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://webhook-gateway.webhook-system.svc"+path, bytes.NewReader([]byte(body)))
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Content-Type", "application/json")
		if token != "" {
			request.Header.Set("Authorization", "Bearer "+token)
		}
		response, err := client.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		_ = response.Body.Close()
		return response.StatusCode
	}
}
