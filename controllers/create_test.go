// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"testing"
	"time"

	. "github.com/onsi/gomega"
	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/garyclub/webhook-operator/api/v1alpha1"
	"github.com/garyclub/webhook-operator/internal/delivery"
	"github.com/garyclub/webhook-operator/internal/endpoint"
	"github.com/garyclub/webhook-operator/internal/fixture/receiver"
)

func TestAnEndpointFromCreationToReady(t *testing.T) {
	s := newStand(t)
	r := s.receiver("a.test", receiver.Options{})
	s.create("a", urlAt("a.test", r))
	o := s.untilReady("a")

	s.untilCondition("a", v1alpha1.ConditionAccepted, metav1.ConditionTrue, v1alpha1.ReasonAccepted)
	s.untilCondition("a", v1alpha1.ConditionSigningKeyReady, metav1.ConditionTrue, v1alpha1.ReasonGenerated)
	s.untilCondition("a", v1alpha1.ConditionTestDelivered, metav1.ConditionTrue, v1alpha1.ReasonDelivered)
	s.untilCondition("a", v1alpha1.ConditionDelivering, metav1.ConditionUnknown, v1alpha1.ReasonNoDeliveriesYet)
	s.Expect(o.Status.Conditions).To(HaveLen(5), "Reconciling and Stalled are gone")
	s.Expect(o.Status.Host).To(Equal("a.test:" + port(r)))
	s.Expect(o.Status.Certificate.Issuer).To(Equal("Suite CA"))
	s.Expect(o.Status.Test).To(HaveField("Outcome", v1alpha1.AttemptOutcome("Delivered")))
	s.Expect(o.Status.Test).To(And(HaveField("StatusCode", int32(200)), HaveField("Event", "call.completed"), HaveField("Requested", "")))
	s.Expect(o.Status.Dispatchers).To(Equal(&v1alpha1.DispatchersStatus{}))

	key := s.key("a-webhook-signing")
	s.Expect(o.Status.Signing).To(Equal(&v1alpha1.SigningStatus{SecretName: "a-webhook-signing", Keys: 1}))
	got := r.Requests()
	s.Expect(got).To(HaveLen(1))
	s.verify(got[0], key)
	s.Expect(got[0].Header.Get("Webhook-Test")).To(Equal("true"))
	s.Expect(got[0].Header.Get("Authorization")).To(Equal("Bearer hush-header"))
	s.Expect(string(got[0].Body)).To(ContainSubstring(`"call_test_`))
	s.Expect(got[0].Path + "?" + got[0].Query).To(Equal("/hush-path?key=hush-query"))

	records := s.records.all()
	s.Expect(records).To(HaveLen(1))
	s.Expect(records[0]).To(And(HaveField("State", delivery.Delivered), HaveField("Trigger", delivery.TriggerTest),
		HaveField("EventID", got[0].Header.Get("Webhook-Id")), HaveField("PayloadBytes", len(got[0].Body))))
	s.Eventually(s.events).Should(And(ContainSubstring("a Normal SigningKeyGenerated"), ContainSubstring("a Normal Ready: ")))
	s.Expect(s.wire.statusWrites("a")).To(BeNumerically("<=", 4), "status writes on the way to Ready")
	s.Expect(s.logs.text()).NotTo(BeEmpty())
}

// key returns the signing key of a generated Secret, as the receiver's owner reads it.
func (s *stand) key(name string) string {
	s.t.Helper()
	secret := &corev1.Secret{}
	s.Expect(s.client.Get(s.t.Context(), client.ObjectKey{Namespace: s.namespace, Name: name}, secret)).To(Succeed())
	s.Expect(secret.Labels).To(And(HaveKeyWithValue(v1alpha1.LabelCredentials, "true"), HaveKeyWithValue(managedByLabel, managedBy)))
	text := string(secret.Data[v1alpha1.KeySigningKey])
	s.Expect(text).To(HavePrefix("whsec_"))
	s.hush = append(s.hush, text[len("whsec_"):])
	return text
}

// verify holds a request against the key with a verifier that is not ours.
func (s *stand) verify(q receiver.Request, key string) {
	s.t.Helper()
	verifier, err := standardwebhooks.NewWebhook(key)
	s.Expect(err).NotTo(HaveOccurred())
	s.Expect(verifier.Verify(q.Body, q.Header)).To(Succeed())
}

func TestAnEndpointThatNothingHappensToIsNotWritten(t *testing.T) {
	s := newStand(t)
	r := s.receiver("a.test", receiver.Options{})
	s.create("a", urlAt("a.test", r))
	before := s.untilReady("a")
	writes := s.wire.statusWrites("a")
	s.ledger.set(string(before.UID), Totals{})
	for range 50 {
		s.poke("a")
	}
	s.secret("auth", true, "value", "Bearer hush-header", "another", "entry")
	s.secret("unrelated", true, "value", "x")
	// What is behind all of these in the reconciler's queue: an endpoint of which there is news.
	s.create("b", urlAt("a.test", r), func(o *v1alpha1.WebhookEndpoint) { o.Spec.Test.When = v1alpha1.TestOnRequest })
	s.untilReady("b")
	s.Eventually(func() int { return len(s.changed) }).Should(BeZero())
	s.Consistently(func() string { return s.get("a").ResourceVersion }, "500ms").Should(Equal(before.ResourceVersion))
	s.Expect(s.wire.statusWrites("a")).To(Equal(writes))
	s.Expect(r.Count()).To(Equal(1))
}

func TestADeletedEndpointIsForgottenAndItsSuccessorHasItsKey(t *testing.T) {
	s := newStand(t)
	r := s.receiver("a.test", receiver.Options{})
	first := s.create("a", urlAt("a.test", r))
	s.untilReady("a")
	key := s.key("a-webhook-signing")

	s.delete(first)

	second := s.create("a", urlAt("a.test", r))
	s.untilReady("a")
	s.Expect(s.key("a-webhook-signing")).To(Equal(key))
	s.Expect(s.untilHold("a", endpoint.HoldNone).UID).To(Equal(string(second.UID)))
	got := r.Requests()
	s.Expect(got).To(HaveLen(2))
	s.verify(got[1], key)
}

func TestAnotherManagerGoesOnWithoutTestingAgain(t *testing.T) {
	s := newStand(t)
	r := s.receiver("a.test", receiver.Options{})
	s.create("a", urlAt("a.test", r))
	before := s.untilReady("a")
	revision := s.untilHold("a", endpoint.HoldNone).Revision

	s.start()
	s.Expect(s.untilHold("a", endpoint.HoldNone).Revision).To(Equal(revision))
	s.Eventually(func() float64 { return s.counted("webhook_manager_inspections_total", v1alpha1.ReasonAccepted) }).Should(Equal(1.0))
	s.Consistently(func() string { return s.get("a").ResourceVersion }, "500ms").Should(Equal(before.ResourceVersion))
	s.Expect(r.Count()).To(Equal(1))
}

func TestAManagerThatDiedDuringATestSendsItUnderTheSameID(t *testing.T) {
	s := newStand(t)
	r := s.receiver("a.test", receiver.Options{Script: []receiver.Step{{Hang: true}, {}}})
	s.create("a", urlAt("a.test", r))
	s.Expect(r.Wait(t.Context(), 1)).To(Succeed())
	s.untilCondition("a", v1alpha1.ConditionTestDelivered, metav1.ConditionUnknown, v1alpha1.ReasonPending)
	begun := time.Now()
	s.start()
	s.Expect(time.Since(begun)).To(BeNumerically("<", 5*time.Second), "the receiver that hangs held up the stop")
	s.untilReady("a")
	got := r.Requests()
	s.Expect(got).To(HaveLen(2))
	s.Expect(got[1].Header.Get("Webhook-Id")).To(Equal(got[0].Header.Get("Webhook-Id")))
}

// counted is the value of a counter with one label.
func (s *stand) counted(name, label string) float64 {
	families, err := s.metrics.Gather()
	s.Expect(err).NotTo(HaveOccurred())
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() == name && m.GetLabel()[0].GetValue() == label {
				return m.GetCounter().GetValue()
			}
		}
	}
	return -1
}
