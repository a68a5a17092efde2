// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"testing"

	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/garyclub/webhook-operator/api/v1alpha1"
	"github.com/garyclub/webhook-operator/internal/endpoint"
	"github.com/garyclub/webhook-operator/internal/fixture/receiver"
	"github.com/garyclub/webhook-operator/internal/sign"
)

func (s *stand) owners(secret string) []metav1.OwnerReference {
	s.t.Helper()
	o := &corev1.Secret{}
	s.Expect(s.client.Get(s.t.Context(), client.ObjectKey{Namespace: s.namespace, Name: secret}, o)).To(Succeed())
	return o.OwnerReferences
}

func policy(p v1alpha1.DeletionPolicy) func(*v1alpha1.WebhookEndpoint) {
	return func(o *v1alpha1.WebhookEndpoint) { o.Spec.Signing.DeletionPolicy = p }
}

func TestTheOwnerOfAGeneratedKeyFollowsTheDeletionPolicy(t *testing.T) {
	s := newStand(t)
	r := s.receiver("a.test", receiver.Options{})
	const secret = "a-webhook-signing"
	o := s.create("a", urlAt("a.test", r), policy(v1alpha1.DeletionPolicyDelete))
	s.untilReady("a")
	s.Expect(s.owners(secret)).To(Equal([]metav1.OwnerReference{
		{APIVersion: "webhooks.gary.club/v1alpha1", Kind: "WebhookEndpoint", Name: "a", UID: o.UID}}))
	key := s.key(secret)

	s.change("a", policy(v1alpha1.DeletionPolicyRetain))
	s.Eventually(func() []metav1.OwnerReference { return s.owners(secret) }).Should(BeEmpty())
	s.change("a", policy(v1alpha1.DeletionPolicyDelete))
	s.Eventually(func() []metav1.OwnerReference { return s.owners(secret) }).Should(HaveLen(1))
	s.untilReady("a")
	s.Expect(s.key(secret)).To(Equal(key))

	// The garbage collector, which does not run here, has not come by yet when the endpoint is there again: its Secret
	// must not be taken away with the one before.
	s.delete(o)
	successor := s.create("a", urlAt("a.test", r))
	s.untilReady("a")
	s.Eventually(func() []metav1.OwnerReference { return s.owners(secret) }).Should(BeEmpty())
	s.change("a", policy(v1alpha1.DeletionPolicyDelete))
	s.Eventually(func() []metav1.OwnerReference { return s.owners(secret) }).Should(ConsistOf(HaveField("UID", successor.UID)))
}

func TestAKeyThatTheManagerDidNotMakeHasNoOwner(t *testing.T) {
	s := newStand(t)
	r := s.receiver("a.test", receiver.Options{})
	key := sign.FormatKey(sign.NewKey())
	s.secret("a-webhook-signing", true, "signing-key", key) // under the name of a generated one
	s.create("a", urlAt("a.test", r), policy(v1alpha1.DeletionPolicyDelete))
	s.untilReady("a")
	s.Expect(s.owners("a-webhook-signing")).To(BeEmpty())
	s.verify(r.Requests()[0], key)
}

func TestALostKeyIsReplacedAndToldOf(t *testing.T) {
	s := newStand(t)
	r := s.receiver("a.test", receiver.Options{})
	s.create("a", urlAt("a.test", r))
	s.untilReady("a")
	before := s.key("a-webhook-signing")
	revision := s.untilHold("a", endpoint.HoldNone).Revision
	s.Expect(s.client.Delete(t.Context(), &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: s.namespace, Name: "a-webhook-signing"}})).To(Succeed())
	s.untilPublished("a", func(p *endpoint.Endpoint) bool { return p.Revision != revision })
	s.untilReady("a")
	s.Expect(r.Count()).To(Equal(1), "it goes where it went")
	after := s.key("a-webhook-signing")
	s.Expect(after).NotTo(Equal(before))
	s.change("a", requesting("call.completed"))
	s.untilRequested("a", "call.completed")
	s.verify(r.Requests()[1], after)
	s.Eventually(s.events).Should(ContainSubstring("a Warning SigningKeyReplaced: "))
}

func TestAKeyIsRotatedWithBothSignaturesMeanwhile(t *testing.T) {
	s := newStand(t)
	r := s.receiver("a.test", receiver.Options{})
	keys := []string{sign.FormatKey(sign.NewKey()), sign.FormatKey(sign.NewKey())}
	s.secret("mine", true, "signing-key", keys[0])
	s.create("a", urlAt("a.test", r), signedBy("mine"))
	s.Expect(s.untilReady("a").Status.Signing).To(Equal(&v1alpha1.SigningStatus{SecretName: "mine", Keys: 1}))
	s.untilCondition("a", v1alpha1.ConditionSigningKeyReady, metav1.ConditionTrue, v1alpha1.ReasonReferenced)

	s.secret("mine", true, "signing-key", keys[1], "previous-signing-key", keys[0])
	o := s.until("a", func(g Gomega, o *v1alpha1.WebhookEndpoint) { g.Expect(o.Status.Signing.Keys).To(Equal(int32(2))) })
	s.Expect(conditionOf(o, v1alpha1.ConditionReady).Status).To(Equal(metav1.ConditionTrue), "it goes where it went")
	s.Expect(s.untilHold("a", endpoint.HoldNone).SigningKeys).To(HaveLen(2))
	s.Expect(r.Count()).To(Equal(1), "no test event is due")
	s.change("a", requesting("call.completed"))
	s.untilRequested("a", "call.completed")
	got := r.Requests()
	for _, key := range keys {
		s.verify(got[len(got)-1], key)
	}

	s.secret("mine", true, "signing-key", keys[1], "previous-signing-key", "hush")
	s.Expect(s.untilCondition("a", v1alpha1.ConditionSigningKeyReady, metav1.ConditionFalse, v1alpha1.ReasonInvalidSigningKey)).
		To(ContainSubstring(`entry "previous-signing-key" of Secret "mine"`))
	s.untilHold("a", endpoint.HoldSigningKeyMissing)
	s.secret("mine", true, "signing-key", keys[1])
	s.Expect(s.untilReady("a").Status.Signing.Keys).To(Equal(int32(1)))
	s.Expect(r.Count()).To(Equal(2))
	s.hush = append(s.hush, keys[0][len("whsec_"):])
}

func TestAKeyOfNobodyIsNotTaken(t *testing.T) {
	s := newStand(t)
	r := s.receiver("a.test", receiver.Options{})
	s.secret("a-webhook-signing", false, "signing-key", sign.FormatKey(sign.NewKey()))
	s.create("a", urlAt("a.test", r))
	s.Expect(s.untilCondition("a", v1alpha1.ConditionSigningKeyReady, metav1.ConditionFalse, v1alpha1.ReasonSecretNotLabelled)).
		To(ContainSubstring("kubectl label secret a-webhook-signing"))
	s.label("a-webhook-signing")
	s.untilReady("a")
}
