// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/garyclub/webhook-operator/api/v1alpha1"
	"github.com/garyclub/webhook-operator/internal/fixture/receiver"
	"github.com/garyclub/webhook-operator/internal/fixture/system"
)

const (
	caSecret     = "receivers-ca"
	headerSecret = "receiver-header"
	// soon bounds what should take a second or two on a machine that is busy with other tests.
	soon = 30 * time.Second
)

// tenant is a namespace with a dispatcher.
type tenant struct {
	t         *testing.T
	namespace string
	*system.Dispatcher
	started bool
}

// newTenant makes the namespace with the Secrets that its endpoints refer to. The dispatcher is not started yet.
func newTenant(t *testing.T, namespace string, args ...string) *tenant {
	t.Helper()
	d, err := sys.NewDispatcher(t.Context(), namespace, "voice-agent-0", args...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.Stop)
	n := &tenant{t: t, namespace: namespace, Dispatcher: d}
	t.Cleanup(n.leave)
	n.secret(caSecret, map[string]string{"ca.crt": string(ca.PEM())})
	n.secret(headerSecret, map[string]string{"value": markHeader})
	return n
}

// leave deletes the endpoints. Whenever a gateway comes or goes, all that there are have their statuses written, at a pace:
// those of a hundred tests that have ended would hold up the ones of the next. What they say is kept for the search.
func (n *tenant) leave() {
	ctx := context.WithoutCancel(n.t.Context())
	list := &v1alpha1.WebhookEndpointList{}
	if err := sys.Client.List(ctx, list, client.InNamespace(n.namespace)); err != nil {
		n.t.Error(err)
		return
	}
	for i := range list.Items {
		p := &list.Items[i]
		left.Store(p.UID, p.Status)
		if err := sys.Client.Delete(ctx, p); client.IgnoreNotFound(err) != nil {
			n.t.Error(err)
		}
	}
}

// start starts the dispatcher of a namespace that has endpoints.
func (n *tenant) start() {
	n.t.Helper()
	if err := n.Trust(n.t.Context()); err != nil {
		n.t.Fatal(err)
	}
	n.restart()
}

func (n *tenant) restart() {
	n.t.Helper()
	if err := n.Start(n.t.Context()); err != nil {
		n.t.Fatal(err)
	}
	n.started = true
}

func (n *tenant) secret(name string, data map[string]string) {
	n.t.Helper()
	s := &corev1.Secret{StringData: data}
	s.Namespace, s.Name, s.Labels = n.namespace, name, map[string]string{v1alpha1.LabelCredentials: "true"}
	if err := sys.Client.Create(n.t.Context(), s); err != nil {
		n.t.Fatal(err)
	}
}

// retry is the contract's schedule with another first wait; times of a test are short where the schedule is not its
// subject.
func retry(initial int32) v1alpha1.RetrySpec {
	return v1alpha1.RetrySpec{MaxRetries: 3, InitialBackoffSeconds: initial, MaxBackoffSeconds: 300, DeadlineSeconds: 86400}
}

// endpoint declares one for all events of the page, at a URL with path and query, with a credential in a header.
func (n *tenant) endpoint(name string, r *receiver.Receiver, changes ...func(*v1alpha1.WebhookEndpointSpec)) {
	n.t.Helper()
	p := &v1alpha1.WebhookEndpoint{Spec: v1alpha1.WebhookEndpointSpec{
		URL:    r.URL("/" + markPath + "?token=" + markQuery),
		Events: []v1alpha1.EventType{v1alpha1.EventCallCompleted, v1alpha1.EventBookingCreated, v1alpha1.EventContactCreated},
		TLS:    &v1alpha1.TLSSpec{CASecretRef: &v1alpha1.CASecretReference{Name: caSecret, Key: "ca.crt"}},
		Headers: []v1alpha1.Header{{Name: "X-Receiver-Credential", ValueFrom: &v1alpha1.HeaderValueSource{
			SecretKeyRef: v1alpha1.SecretKeyReference{Name: headerSecret, Key: "value"}}}},
	}}
	p.Namespace, p.Name = n.namespace, name
	for _, change := range changes {
		change(&p.Spec)
	}
	if err := sys.Client.Create(n.t.Context(), p); err != nil {
		n.t.Fatal(err)
	}
}

func onRequest(s *v1alpha1.WebhookEndpointSpec) { s.Test.When = v1alpha1.TestOnRequest }

func (n *tenant) get(name string) *v1alpha1.WebhookEndpoint {
	n.t.Helper()
	p := &v1alpha1.WebhookEndpoint{}
	if err := sys.Client.Get(n.t.Context(), client.ObjectKey{Namespace: n.namespace, Name: name}, p); err != nil {
		n.t.Fatal(err)
	}
	return p
}

// change patches the spec or the metadata of an endpoint.
func (n *tenant) change(name string, change func(*v1alpha1.WebhookEndpoint)) {
	n.t.Helper()
	p := n.get(name)
	base := p.DeepCopy()
	change(p)
	if err := sys.Client.Patch(n.t.Context(), p, client.MergeFrom(base)); err != nil {
		n.t.Fatal(err)
	}
}

func (n *tenant) eventually(limit time.Duration, check func() error) {
	n.t.Helper()
	if err := system.Eventually(n.t.Context(), limit, check); err != nil {
		n.t.Fatal(err)
	}
}

// ready waits until the endpoint is, for the generation in force and with every connected dispatcher.
func (n *tenant) ready(name string) {
	n.t.Helper()
	n.condition(name, v1alpha1.ConditionReady, metav1.ConditionTrue, v1alpha1.ReasonReady)
	if n.started { // an endpoint without a dispatcher is ready too
		n.upToDate(name)
	}
}

// accepted waits until the endpoint is, whoever has taken it.
func (n *tenant) accepted(name string) {
	n.t.Helper()
	n.condition(name, v1alpha1.ConditionAccepted, metav1.ConditionTrue, v1alpha1.ReasonAccepted)
}

// condition waits for a condition of the generation in force, and returns its message.
func (n *tenant) condition(name, kind string, status metav1.ConditionStatus, reason string) (message string) {
	n.t.Helper()
	n.eventually(soon, func() error {
		p := n.get(name)
		c := meta.FindStatusCondition(p.Status.Conditions, kind)
		if c == nil || c.Status != status || c.Reason != reason || c.ObservedGeneration != p.Generation {
			return fmt.Errorf("endpoint %s: %s is %+v, want %s/%s", name, kind, c, status, reason)
		}
		message = c.Message
		return nil
	})
	return message
}

// upToDate waits until a connected dispatcher has taken the endpoint.
func (n *tenant) upToDate(names ...string) {
	n.t.Helper()
	n.eventually(soon, func() error {
		for _, name := range names {
			p := n.get(name)
			if d := p.Status.Dispatchers; d == nil || d.UpToDate < 1 || p.Status.ObservedGeneration != p.Generation {
				return fmt.Errorf("endpoint %s is with no dispatcher: %+v", name, p.Status.Conditions)
			}
		}
		return nil
	})
}

// short is for a single look within a repeated one.
func short(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	t.Cleanup(cancel)
	return ctx
}

// answer is what the dispatcher answers to an event.
type answer struct {
	code       int
	ID         string `json:"id"`
	Deliveries *int   `json:"deliveries"`
	Detail     string `json:"detail"`
	text       string
}

func post(ctx context.Context, url, contentType string, body []byte, header ...string) (answer, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return answer{}, err
	}
	request.Header.Set("Content-Type", contentType)
	for i := 0; i+1 < len(header); i += 2 {
		request.Header.Set(header[i], header[i+1])
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return answer{}, err
	}
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(response.Body)
	a := answer{code: response.StatusCode, text: string(text)}
	if err == nil && contentType == "application/json" {
		err = json.Unmarshal(text, &a)
	}
	return a, err
}

// accept posts an event that must be accepted.
func (n *tenant) accept(body []byte, header ...string) answer {
	n.t.Helper()
	a, err := post(n.t.Context(), n.EventsURL(), "application/json", body, header...)
	if err != nil || a.code != http.StatusAccepted {
		n.t.Fatalf("answer %d %s, error %v", a.code, a.text, err)
	}
	return a
}

// call is the page's payload with another call id.
func call(event, id string) []byte {
	return fmt.Appendf(nil, `{
  "event": %q,
  "timestamp": "2026-02-15T14:32:00Z",
  "call": { "id": %q, "caller_phone": %q, "agent_id": "agent_xyz", "quality_score": 88.0 },
  "contact": { "name": %q, "email": %q, "phone": %q },
  "summary": "Caller asked about %s options — und über Preise.",
  "data_collected": {"b": 1e2, "a": [ ]}
}
`, event, id, markPhone, markName, markMail, markPhone, markText)
}

func receive(t *testing.T, o receiver.Options) *receiver.Receiver {
	t.Helper()
	r, err := receiver.Start(ca, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	return r
}

// eventRequests are the requests that came, without test events.
func eventRequests(r *receiver.Receiver) (all []receiver.Request) {
	for _, q := range r.Requests() {
		if q.Header.Get("Webhook-Test") == "" {
			all = append(all, q)
		}
	}
	return all
}

// arrived waits until so many requests, test events not counted, have come.
func (n *tenant) arrived(r *receiver.Receiver, want int, limit time.Duration) []receiver.Request {
	n.t.Helper()
	n.eventually(limit, func() error {
		if got := len(eventRequests(r)); got < want {
			return fmt.Errorf("%d of %d requests have come", got, want)
		}
		return nil
	})
	return eventRequests(r)
}

// records are the DeliveryAttempts of an endpoint's events, test events not among them.
func (n *tenant) records(endpoint string) []v1alpha1.DeliveryAttempt {
	n.t.Helper()
	list := &v1alpha1.DeliveryAttemptList{}
	err := sys.Client.List(n.t.Context(), list, client.InNamespace(n.namespace), client.MatchingFields{"spec.endpointRef.name": endpoint})
	if err != nil {
		n.t.Fatal(err)
	}
	var all []v1alpha1.DeliveryAttempt
	for i := range list.Items {
		if list.Items[i].Spec.Trigger == v1alpha1.TriggerEvent {
			all = append(all, list.Items[i])
		}
	}
	return all
}

// finished waits until the endpoint has so many records of that outcome.
func (n *tenant) finished(endpoint string, outcome v1alpha1.DeliveryOutcome, want int, limit time.Duration) (found []v1alpha1.DeliveryAttempt) {
	n.t.Helper()
	n.eventually(limit, func() error {
		found = nil
		for _, a := range n.records(endpoint) {
			if a.Status.Outcome == outcome {
				found = append(found, a)
			}
		}
		if len(found) != want {
			return fmt.Errorf("endpoint %s has %d records that are %s, want %d", endpoint, len(found), outcome, want)
		}
		return nil
	})
	return found
}

// counted waits until the endpoint's counters are these.
func (n *tenant) counted(endpoint string, succeeded, failed int64) {
	n.t.Helper()
	n.eventually(2*soon, func() error {
		c := n.get(endpoint).Status.Deliveries
		if c == nil || c.Succeeded != succeeded || c.Failed != failed || c.Pending != 0 || c.Lost != 0 {
			return fmt.Errorf("endpoint %s: counters %+v, want %d succeeded and %d failed", endpoint, c, succeeded, failed)
		}
		return nil
	})
}

// verifier is the library that receivers use, with the key that the manager made.
func (n *tenant) verifier(endpoint string) *standardwebhooks.Webhook {
	n.t.Helper()
	return verifierWith(n.t, n.key(endpoint, v1alpha1.KeySigningKey))
}

func verifierWith(t *testing.T, key string) *standardwebhooks.Webhook {
	t.Helper()
	v, err := standardwebhooks.NewWebhook(key)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func (n *tenant) key(endpoint, entry string) string {
	n.t.Helper()
	s := &corev1.Secret{}
	key := client.ObjectKey{Namespace: n.namespace, Name: n.get(endpoint).Status.Signing.SecretName}
	if err := sys.Client.Get(n.t.Context(), key, s); err != nil {
		n.t.Fatal(err)
	}
	return string(s.Data[entry])
}
