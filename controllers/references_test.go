// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"strings"
	"testing"
	"time"

	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/garyclub/webhook-operator/api/v1alpha1"
	"github.com/garyclub/webhook-operator/internal/endpoint"
	"github.com/garyclub/webhook-operator/internal/fixture/pki"
	"github.com/garyclub/webhook-operator/internal/fixture/receiver"
	"github.com/garyclub/webhook-operator/internal/sign"
)

// soon is within what a changed Secret has to reach the dispatchers: a second, and what a busy machine needs.
const soon = 2 * time.Second

func urlFrom(secret string) func(*v1alpha1.WebhookEndpoint) {
	return func(o *v1alpha1.WebhookEndpoint) {
		o.Spec.URL = ""
		o.Spec.URLFrom = &v1alpha1.URLSource{SecretKeyRef: v1alpha1.SecretKeyReference{Name: secret, Key: "url"}}
	}
}

func headerFrom(secret string) func(*v1alpha1.WebhookEndpoint) {
	return func(o *v1alpha1.WebhookEndpoint) {
		o.Spec.Headers[0].ValueFrom.SecretKeyRef = v1alpha1.SecretKeyReference{Name: secret, Key: "value"}
	}
}

func caFrom(secret string) func(*v1alpha1.WebhookEndpoint) {
	return func(o *v1alpha1.WebhookEndpoint) {
		o.Spec.TLS.CASecretRef = &v1alpha1.CASecretReference{Name: secret, Key: "ca.crt"}
	}
}

func clientCertificateFrom(secret string) func(*v1alpha1.WebhookEndpoint) {
	return func(o *v1alpha1.WebhookEndpoint) {
		o.Spec.TLS.ClientCertificateSecretRef = &v1alpha1.SecretReference{Name: secret}
	}
}

func signedBy(secret string) func(*v1alpha1.WebhookEndpoint) {
	return func(o *v1alpha1.WebhookEndpoint) { o.Spec.Signing.SecretRef = &v1alpha1.SecretReference{Name: secret} }
}

// TestWhatAnEndpointRefersToIsWrongAndMended: each row goes through a missing Secret, or a wrong one, to Ready.
func TestWhatAnEndpointRefersToIsWrongAndMended(t *testing.T) {
	s := newStand(t)
	leaf, _ := pki.EncodeLeaf(ca.Leaf([]string{"client"}))
	clientCert, clientKey := pki.EncodeLeaf(ca.Leaf([]string{"client"}))
	const label = "kubectl label secret it webhooks.gary.club/credentials=true"
	const missing, unlabelled = "missing", "unlabelled"
	key := sign.FormatKey(sign.NewKey())
	for name, tc := range map[string]struct {
		change      func(*v1alpha1.WebhookEndpoint)
		wrong       string   // missing, unlabelled, or the wrong content of the entry
		entry, good string   // of the Secret
		more        []string // further entries of a good Secret
		wantReason  string
		wantMessage string
		wantKey     bool // SigningKeyReady is False, not Accepted
		wantStalled bool
	}{
		"url, no Secret": {change: urlFrom("it"), wrong: missing, entry: "url", wantReason: v1alpha1.ReasonURLSecretNotFound,
			wantMessage: `Secret "it", which spec.urlFrom refers to, does not exist: create it, with the label webhooks.gary.club/credentials: "true"`},
		"url, unlabelled": {change: urlFrom("it"), wrong: unlabelled, entry: "url", wantReason: v1alpha1.ReasonSecretNotLabelled, wantMessage: label},
		"url, no entry": {change: urlFrom("it"), entry: "url", wrong: "", wantReason: v1alpha1.ReasonURLSecretKeyNotFound,
			wantMessage: `Secret "it", which spec.urlFrom refers to, has no entry "url": add it`},
		"url, not https": {change: urlFrom("it"), entry: "url", wrong: "http://a.test/hush-path", wantReason: v1alpha1.ReasonInvalidURL,
			wantMessage: "the URL of spec.urlFrom must begin with https://", wantStalled: true},
		"header, no Secret":  {change: headerFrom("it"), wrong: missing, entry: "value", good: "hush", wantReason: v1alpha1.ReasonSecretNotFound, wantMessage: `header "Authorization" refers to, does not exist`},
		"header, unlabelled": {change: headerFrom("it"), wrong: unlabelled, entry: "value", good: "hush", wantReason: v1alpha1.ReasonSecretNotLabelled, wantMessage: label},
		"header, no entry":   {change: headerFrom("it"), wrong: "", entry: "value", good: "hush", wantReason: v1alpha1.ReasonSecretKeyNotFound, wantMessage: `has no entry "value"`},
		"header, two lines": {change: headerFrom("it"), wrong: "hush\r\nX-Other: hush", entry: "value", good: "hush\n", wantReason: v1alpha1.ReasonInvalidHeader,
			wantMessage: `the value of header "Authorization"`, wantStalled: true},
		"ca, no Secret":  {change: caFrom("it"), wrong: missing, entry: "ca.crt", good: string(ca.PEM()), wantReason: v1alpha1.ReasonSecretNotFound, wantMessage: "spec.tls.caSecretRef"},
		"ca, unlabelled": {change: caFrom("it"), wrong: unlabelled, entry: "ca.crt", good: string(ca.PEM()), wantReason: v1alpha1.ReasonSecretNotLabelled, wantMessage: label},
		"ca, not PEM": {change: caFrom("it"), wrong: "hush", entry: "ca.crt", good: string(ca.PEM()), wantReason: v1alpha1.ReasonInvalidTLS,
			wantMessage: "has no certificate in PEM form under ca.crt", wantStalled: true},
		"client certificate, another's key": {change: clientCertificateFrom("it"), wrong: string(leaf), entry: "tls.crt", good: string(clientCert),
			more: []string{"tls.key", string(clientKey)}, wantReason: v1alpha1.ReasonInvalidTLS, wantMessage: "that belong together", wantStalled: true},
		"signing key, no Secret":  {change: signedBy("it"), wrong: missing, entry: "signing-key", good: key, wantKey: true, wantReason: v1alpha1.ReasonSecretNotFound, wantMessage: "spec.signing.secretRef"},
		"signing key, unlabelled": {change: signedBy("it"), wrong: unlabelled, entry: "signing-key", good: key, wantKey: true, wantReason: v1alpha1.ReasonSecretNotLabelled, wantMessage: label},
		"signing key, no entry": {change: signedBy("it"), wrong: "", entry: "signing-key", good: key, wantKey: true, wantReason: v1alpha1.ReasonSecretKeyNotFound,
			wantMessage: `Secret "it" has no entry "signing-key": add it`},
		"signing key, no key": {change: signedBy("it"), wrong: "hush", entry: "signing-key", good: key + "\n", wantKey: true, wantReason: v1alpha1.ReasonInvalidSigningKey,
			wantMessage: "is no signing key: a signing key is whsec_ followed by the base64 of 24 to 64 random bytes", wantStalled: true},
	} {
		t.Run(name, func(t *testing.T) {
			s := s.within(t)
			host := strings.NewReplacer(" ", "-", ",", "", "'", "").Replace(name) + ".test"
			r := s.receiver(host, receiver.Options{})
			if tc.good == "" {
				tc.good = urlAt(host, r)
			}
			content := append([]string{tc.entry, tc.wrong}, tc.more...)
			switch tc.wrong {
			case unlabelled:
				s.secret("it", false, append([]string{tc.entry, tc.good}, tc.more...)...)
			case missing:
			case "":
				s.secret("it", true, "other", "x")
			default:
				s.secret("it", true, content...)
			}
			o := s.create("a", urlAt(host, r), tc.change)
			kind, hold := v1alpha1.ConditionAccepted, endpoint.HoldUnresolved
			ready := v1alpha1.ReasonNotAccepted
			if tc.wantKey {
				kind, hold, ready = v1alpha1.ConditionSigningKeyReady, endpoint.HoldSigningKeyMissing, v1alpha1.ReasonSigningKeyMissing
			}
			s.Expect(s.untilCondition("a", kind, metav1.ConditionFalse, tc.wantReason)).To(ContainSubstring(tc.wantMessage))
			s.untilCondition("a", v1alpha1.ConditionReady, metav1.ConditionFalse, ready)
			stalled := conditionOf(s.get("a"), v1alpha1.ConditionStalled).Reason == ready
			s.Expect(stalled).To(Equal(tc.wantStalled), "Stalled")
			s.untilCondition("a", v1alpha1.ConditionDelivering, metav1.ConditionFalse, v1alpha1.ReasonHeld)
			s.untilHold("a", hold)

			begun := time.Now()
			if tc.wrong == unlabelled {
				s.label("it")
			} else {
				s.secret("it", true, append([]string{tc.entry, tc.good}, tc.more...)...)
			}
			s.untilHold("a", endpoint.HoldNone)
			published := time.Since(begun)
			s.untilReady("a")
			t.Logf("published %v and ready %v after the change", published, time.Since(begun))
			s.Expect(published).To(BeNumerically("<", soon))
			s.Expect(r.Count()).To(Equal(1))
			s.delete(o)
			s.Expect(s.client.Delete(t.Context(), &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: s.namespace, Name: "it"}})).To(Succeed())
		})
	}
}

// within is the stand for a subtest.
func (s *stand) within(t *testing.T) *stand {
	sub := *s
	sub.t, sub.WithT = t, NewWithT(t)
	return &sub
}

func (s *stand) label(secret string) {
	s.t.Helper()
	o := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: s.namespace, Name: secret}}
	patch := client.RawPatch("application/merge-patch+json", []byte(`{"metadata":{"labels":{"webhooks.gary.club/credentials":"true"}}}`))
	s.Expect(s.client.Patch(s.t.Context(), o, patch)).To(Succeed())
}

func TestAChangedSecretReachesTheDispatchersWithinASecond(t *testing.T) {
	s := newStand(t)
	first, second := s.receiver("a.test", receiver.Options{}), s.receiver("b.test", receiver.Options{})
	s.secret("it", true, "url", urlAt("a.test", first)+"\n")
	s.create("a", "", urlFrom("it"))
	s.untilReady("a")
	for i := range 10 {
		host, r := "a.test", first
		if i%2 == 0 {
			host, r = "b.test", second
		}
		begun := time.Now()
		s.secret("it", true, "url", urlAt(host, r))
		s.untilPublished("a", func(p *endpoint.Endpoint) bool { return p.URL == urlAt(host, r) })
		took := time.Since(begun)
		t.Logf("published after %v", took)
		s.Expect(took).To(BeNumerically("<", soon))
	}
	s.untilReady("a")
}

func TestASecretWhoseLabelIsTakenAwayIsUsedNoMore(t *testing.T) {
	s := newStand(t)
	r := s.receiver("a.test", receiver.Options{})
	s.create("a", urlAt("a.test", r))
	s.untilReady("a")
	s.secret("auth", false, "value", "Bearer hush-header")
	s.untilCondition("a", v1alpha1.ConditionAccepted, metav1.ConditionFalse, v1alpha1.ReasonSecretNotLabelled)
	s.Expect(s.untilHold("a", endpoint.HoldUnresolved).Headers).To(BeEmpty())
	s.Eventually(s.events).Should(ContainSubstring("a Warning SecretNotLabelled: "))
	s.label("auth")
	s.untilReady("a")
	s.Expect(r.Count()).To(Equal(1), "the place is the one that was tested")
}
