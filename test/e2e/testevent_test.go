// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/garyclub/webhook-operator/api/v1alpha1"
	"github.com/garyclub/webhook-operator/internal/fixture/pki"
	"github.com/garyclub/webhook-operator/internal/fixture/receiver"
)

func TestTestEventsOnCreateOnChangeAndOnRequest(t *testing.T) {
	t.Parallel()
	n := newTenant(t, "test-events")
	first, second := receive(t, receiver.Options{}), receive(t, receiver.Options{})
	n.endpoint("a", first)
	n.ready("a")
	if got := first.Count(); got != 1 {
		t.Errorf("%d test events at creation, want 1", got)
	}
	n.change("a", func(p *v1alpha1.WebhookEndpoint) { p.Spec.URL = second.URL("/" + markPath) })
	n.eventually(soon, func() error { return second.Wait(short(t), 1) })
	n.ready("a")
	n.change("a", func(p *v1alpha1.WebhookEndpoint) { p.Spec.DisplayName = "another name" })
	n.ready("a")
	for i, event := range []string{"call.completed", "booking.created", "contact.created", "custom.survey"} {
		token := fmt.Sprintf("%s/%d", event, i)
		n.change("a", func(p *v1alpha1.WebhookEndpoint) {
			p.Annotations = map[string]string{v1alpha1.AnnotationRequestedTest: token}
		})
		n.eventually(soon, func() error {
			if s := n.get("a").Status.Test; s.Requested != token || s.Outcome != "Delivered" || s.StatusCode != 200 || s.Event != event {
				return fmt.Errorf("status.test is %+v, want the outcome of %s", s, token)
			}
			return nil
		})
	}
	requests := second.Requests()
	if len(requests) != 5 || first.Count() != 1 {
		t.Fatalf("%d and %d test events, want 1 and 5", first.Count(), len(requests))
	}
	verifier := n.verifier("a")
	for i, want := range []string{"call.completed", "call.completed", "booking.created", "contact.created", "custom.survey"} {
		q := requests[i]
		if q.Header.Get("Webhook-Test") != "true" || !bytes.Contains(q.Body, []byte(`"call_test_`)) || !bytes.Contains(q.Body, []byte(want)) {
			t.Errorf("test event %d: webhook-test %q, body %s", i, q.Header.Get("Webhook-Test"), q.Body)
		}
		if err := verifier.Verify(q.Body, q.Header); err != nil {
			t.Errorf("test event %d: %v", i, err)
		}
	}
	n.change("a", func(p *v1alpha1.WebhookEndpoint) {
		p.Annotations = map[string]string{v1alpha1.AnnotationRequestedTest: "call.finished"}
	})
	message := n.condition("a", v1alpha1.ConditionTestDelivered, metav1.ConditionFalse, v1alpha1.ReasonUnknownEvent)
	if !strings.Contains(message, "booking.created") {
		t.Errorf("the message does not say what to write instead: %s", message)
	}
}

// Each row is something that is wrong in a user's set-up, with the condition that says so and what it must mention.
func TestWhatIsWrongIsSaidInAWayThatHelps(t *testing.T) {
	t.Parallel()
	n := newTenant(t, "wrong")
	r := receive(t, receiver.Options{})
	leaf := ca.Leaf([]string{"127.0.0.1"}, pki.WithNotAfter(time.Now().Add(-time.Hour)))
	expired := receive(t, receiver.Options{Certificate: &leaf})
	stranger := pki.NewCA("somebody else").Leaf([]string{"127.0.0.1"})
	untrusted := receive(t, receiver.Options{Certificate: &stranger})
	n.secret("bad-key", map[string]string{v1alpha1.KeySigningKey: "whsec_c2hvcnQ="})
	unlabelled := &corev1.Secret{StringData: map[string]string{"url": r.URL("/")}}
	unlabelled.Namespace, unlabelled.Name = n.namespace, "unlabelled"
	if err := sys.Client.Create(t.Context(), unlabelled); err != nil {
		t.Fatal(err)
	}
	fromSecret := func(name string) func(*v1alpha1.WebhookEndpointSpec) {
		return func(s *v1alpha1.WebhookEndpointSpec) {
			s.URL = ""
			s.URLFrom = &v1alpha1.URLSource{SecretKeyRef: v1alpha1.SecretKeyReference{Name: name, Key: "url"}}
		}
	}
	url := func(text string) func(*v1alpha1.WebhookEndpointSpec) {
		return func(s *v1alpha1.WebhookEndpointSpec) { s.URL = text }
	}
	for name, tc := range map[string]struct {
		to           *receiver.Receiver
		change       func(*v1alpha1.WebhookEndpointSpec)
		kind, reason string
		mentions     string
	}{
		"expired":      {to: expired, change: onRequest, kind: v1alpha1.ConditionAccepted, reason: v1alpha1.ReasonCertificateExpired, mentions: "new one"},
		"untrusted":    {to: untrusted, change: onRequest, kind: v1alpha1.ConditionAccepted, reason: v1alpha1.ReasonCertificateUntrusted, mentions: "spec.tls.caSecretRef"},
		"private":      {to: r, change: url("https://10.1.2.3/x"), kind: v1alpha1.ConditionAccepted, reason: v1alpha1.ReasonAddressRefused, mentions: "public address"},
		"metadata":     {to: r, change: url("https://169.254.169.254/latest"), kind: v1alpha1.ConditionAccepted, reason: v1alpha1.ReasonAddressRefused, mentions: "public address"},
		"no-such-host": {to: r, change: url("https://no-such-host.invalid/x"), kind: v1alpha1.ConditionAccepted, reason: v1alpha1.ReasonHostNotFound, mentions: "spelling"},
		"no-secret":    {to: r, change: fromSecret("missing"), kind: v1alpha1.ConditionAccepted, reason: v1alpha1.ReasonURLSecretNotFound, mentions: v1alpha1.LabelCredentials},
		"not-labelled": {to: r, change: fromSecret("unlabelled"), kind: v1alpha1.ConditionAccepted, reason: v1alpha1.ReasonSecretNotLabelled, mentions: "kubectl label secret unlabelled"},
		"wrong-key": {to: r, change: func(s *v1alpha1.WebhookEndpointSpec) {
			s.Signing.SecretRef = &v1alpha1.SecretReference{Name: "bad-key"}
		}, kind: v1alpha1.ConditionSigningKeyReady, reason: v1alpha1.ReasonInvalidSigningKey, mentions: "whsec_"},
		"answers-errors": {to: receive(t, receiver.Options{Script: []receiver.Step{{Status: 500}}}), change: func(*v1alpha1.WebhookEndpointSpec) {}, kind: v1alpha1.ConditionTestDelivered, reason: "Rejected", mentions: "500"},
	} {
		n.endpoint(name, tc.to, tc.change)
		defer func() {
			status := metav1.ConditionFalse
			n.eventually(2*soon, func() error { // the test event has its retries
				for _, c := range n.get(name).Status.Conditions {
					if c.Type == tc.kind && c.Status == status && c.Reason == tc.reason {
						return nil
					}
				}
				return fmt.Errorf("endpoint %s: %+v", name, n.get(name).Status.Conditions)
			})
			if message := n.condition(name, tc.kind, status, tc.reason); !strings.Contains(message, tc.mentions) {
				t.Errorf("%s: the message does not mention %q: %s", name, tc.mentions, message)
			}
		}()
	}
	n.eventually(soon, func() error { // what the label mends is mended at once
		if len(n.get("not-labelled").Status.Conditions) == 0 {
			return fmt.Errorf("not judged yet")
		}
		return nil
	})
}

func TestAChangedSecretIsTakenUpWithinASecond(t *testing.T) {
	t.Parallel()
	n := newTenant(t, "secret-change")
	r := receive(t, receiver.Options{})
	n.endpoint("a", r)
	n.start()
	n.ready("a")
	s := &corev1.Secret{}
	if err := sys.Client.Get(t.Context(), client.ObjectKey{Namespace: n.namespace, Name: headerSecret}, s); err != nil {
		t.Fatal(err)
	}
	s.Data["value"] = []byte(markHeader + "-2")
	if err := sys.Client.Update(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	changed := time.Now()
	n.eventually(soon, func() error {
		n.accept(call("call.completed", "call_secret"))
		all := n.arrived(r, 1, soon)
		if got := all[len(all)-1].Header.Get("X-Receiver-Credential"); got != markHeader+"-2" {
			return fmt.Errorf("the header is still the old one")
		}
		return nil
	})
	took := time.Since(changed)
	t.Logf("the new value was sent %s after the change", took)
	if took > 5*time.Second {
		t.Errorf("the new value was sent only %s after the change", took)
	}
}
