// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/garyclub/webhook-operator/api/v1alpha1"
	"github.com/garyclub/webhook-operator/internal/control"
	"github.com/garyclub/webhook-operator/internal/endpoint"
	"github.com/garyclub/webhook-operator/internal/fixture/receiver"
	"github.com/garyclub/webhook-operator/internal/fixture/system"
)

// A gateway counts as a dispatcher of every namespace, so the tests with one are not parallel and stop it at their end.

// startGateway starts a gateway that is removed at the end of the test.
func startGateway(t *testing.T, pod string, args ...string) *system.Gateway {
	t.Helper()
	g, err := sys.NewGateway(t.Context(), pod, args...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := g.Remove(context.Background()); err != nil {
			t.Error(err)
		}
	})
	if err := g.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	return g
}

// bindProducer has the service account "default" of one namespace post in another.
func bindProducer(t *testing.T, from, to string) {
	t.Helper()
	b := &rbacv1.RoleBinding{
		RoleRef:  rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "webhook-event-producer"},
		Subjects: []rbacv1.Subject{{Kind: "ServiceAccount", Namespace: from, Name: "default"}}}
	b.Namespace, b.Name = to, "producers-of-"+from
	if err := sys.Client.Create(t.Context(), b); err != nil {
		t.Fatal(err)
	}
}

func producerToken(t *testing.T, namespace, pod, audience string) string {
	t.Helper()
	token, err := sys.PodToken(t.Context(), namespace, "default", pod, audience)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// clientOf trusts what the file holds.
func clientOf(t *testing.T, caFile string) *http.Client {
	t.Helper()
	pem, err := os.ReadFile(caFile)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		t.Fatal("there is no CA")
	}
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: 10 * time.Second}
}

// send posts an event to a gateway.
func send(t *testing.T, g *system.Gateway, namespace, token string, body []byte, header ...string) answer {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, g.URL(namespace), bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/json")
	if token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	for i := 0; i+1 < len(header); i += 2 {
		request.Header.Set(header[i], header[i+1])
	}
	response, err := clientOf(t, g.CA()).Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	a := answer{code: response.StatusCode, text: string(text)}
	if err := json.Unmarshal(text, &a); err != nil {
		t.Errorf("%d %s is no JSON: %v", a.code, text, err)
	}
	if token != "" && strings.Contains(a.text, token) {
		t.Error("an answer shows a token")
	}
	return a
}

// admitted waits until the API server's own cache knows of a new binding.
func admitted(t *testing.T, g *system.Gateway, namespace, token string, body []byte) (a answer) {
	t.Helper()
	err := system.Eventually(t.Context(), soon, func() error {
		if a = send(t, g, namespace, token, body); a.code != http.StatusAccepted {
			return fmt.Errorf("answer %d %s", a.code, a.text)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestGatewayTakesEventsOfThoseWhoMay(t *testing.T) {
	a, b := newTenant(t, "gateway-a"), newTenant(t, "gateway-b")
	ra, rb := receive(t, receiver.Options{}), receive(t, receiver.Options{})
	a.endpoint("one", ra)
	b.endpoint("one", rb)
	bindProducer(t, "gateway-a", "gateway-a")
	bindProducer(t, "gateway-b", "gateway-b")
	g := startGateway(t, system.FirstGateway)
	a.condition("one", v1alpha1.ConditionReady, "True", v1alpha1.ReasonReady)
	b.condition("one", v1alpha1.ConditionReady, "True", v1alpha1.ReasonReady)
	a.upToDate("one")
	b.upToDate("one")
	tokenA := producerToken(t, "gateway-a", "producer", v1alpha1.EventsAudience)
	tokenB := producerToken(t, "gateway-b", "producer", v1alpha1.EventsAudience)

	got := admitted(t, g, "", tokenA, call("call.completed", "call_gateway_a"))
	if got.Deliveries == nil || *got.Deliveries != 1 {
		t.Errorf("answer %s, want one delivery: that of its own namespace", got.text)
	}
	admitted(t, g, "gateway-b", tokenB, call("call.completed", "call_gateway_b"))
	qa, qb := a.arrived(ra, 1, soon)[0], b.arrived(rb, 1, soon)[0]
	if err := a.verifier("one").Verify(qa.Body, qa.Header); err != nil {
		t.Errorf("signature for A: %v", err)
	}
	if err := b.verifier("one").Verify(qb.Body, qb.Header); err != nil {
		t.Errorf("signature for B: %v", err)
	}
	// The same key in two namespaces is two events; twice in one it is one.
	keyed := func(token string) answer {
		return send(t, g, "", token, call("call.completed", "call_keyed"), "Idempotency-Key", "k")
	}
	first, again, other := keyed(tokenA), keyed(tokenA), keyed(tokenB)
	if first.code != 202 || first.ID != again.ID || other.code != 202 || other.ID == first.ID {
		t.Errorf("keys of namespaces: %s %s %s", first.text, again.text, other.text)
	}

	for name, tc := range map[string]struct {
		namespace, token string
		code             int
		detail           string
	}{
		"another namespace":     {"gateway-b", tokenA, 403, "create webhookevents.webhooks.gary.club in the namespace gateway-b"},
		"no token":              {"", "", 401, "webhooks.gary.club/events"},
		"the API server's":      {"", producerToken(t, "gateway-a", "producer", ""), 401, "webhooks.gary.club/events"},
		"a dispatcher's":        {"", producerToken(t, "gateway-a", "producer", v1alpha1.TokenAudience), 401, "webhooks.gary.club/events"},
		"of a pod that is gone": {"", staleToken(t, "gateway-a"), 401, "pod is gone"},
		"nonsense":              {"", "nonsense", 401, "webhooks.gary.club/events"},
	} {
		got := send(t, g, tc.namespace, tc.token, call("call.completed", "call_refused"))
		if got.code != tc.code || !strings.Contains(got.Detail, tc.detail) {
			t.Errorf("%s: %d %s, want %d with %q", name, got.code, got.text, tc.code, tc.detail)
		}
	}
	a.counted("one", 2, 0)
	b.counted("one", 2, 0)
	if n := len(eventRequests(ra)) + len(eventRequests(rb)); n != 4 {
		t.Errorf("%d requests arrived, want 4", n)
	}
}

func TestGatewayManifestsAreAccepted(t *testing.T) {
	out, err := sys.Kubectl(t.Context(), "apply", "--server-side", "--dry-run=server", "--force-conflicts", "-k", "../../config/with-gateway")
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, want := range []string{"statefulset.apps/webhook-gateway", "service/webhook-gateway-handover", "clusterrole.rbac.authorization.k8s.io/webhook-event-producer",
		"poddisruptionbudget.policy/webhook-gateway", "deployment.apps/webhook-manager"} {
		if !strings.Contains(out, want) {
			t.Errorf("%s is not among what is applied:\n%s", want, out)
		}
	}
	if strings.Contains(out, "Warning") {
		t.Errorf("the API server warns:\n%s", out)
	}
}

func staleToken(t *testing.T, namespace string) string {
	t.Helper()
	token := producerToken(t, namespace, "gone", v1alpha1.EventsAudience)
	pod := &corev1.Pod{}
	pod.Namespace, pod.Name = namespace, "gone"
	if err := sys.Client.Delete(t.Context(), pod, client.GracePeriodSeconds(0)); err != nil {
		t.Fatal(err)
	}
	return token
}

func TestSidecarSeesItsOwnNamespaceAloneBesideAGateway(t *testing.T) {
	a, b := newTenant(t, "sees-a"), newTenant(t, "sees-b")
	a.endpoint("one", receive(t, receiver.Options{}), onRequest)
	b.endpoint("two", receive(t, receiver.Options{}), onRequest)
	a.accepted("one")
	b.accepted("two")
	startGateway(t, system.FirstGateway)
	if err := a.Trust(t.Context()); err != nil {
		t.Fatal(err)
	}
	got := make(chan []*endpoint.Endpoint, 1)
	c, err := control.NewClient(control.ClientOptions{Address: sys.ControlAddress(), ServerName: system.ControlHost, CAFile: a.CAFile(),
		TokenFile: a.TokenFile(), QueueID: "q", Version: "test", Known: func() []*endpoint.Endpoint { return nil },
		Apply: func(list []*endpoint.Endpoint) error {
			select {
			case got <- list:
			default:
			}
			return nil
		}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), soon)
	done := make(chan error, 1)
	go func() { done <- c.Start(ctx) }()
	defer func() { cancel(); err := errors.Join(<-done, c.Close()); _ = err }()
	select {
	case list := <-got:
		if len(list) != 1 || list[0].Namespace != "sees-a" || list[0].Name != "one" {
			t.Errorf("a sidecar of A is told of %d endpoints", len(list))
		}
	case <-ctx.Done():
		t.Fatal("nothing came")
	}
}
