// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"strings"
	"testing"
	"time"

	. "github.com/onsi/gomega"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/garyclub/webhook-operator/api/v1alpha1"
	"github.com/garyclub/webhook-operator/internal/endpoint"
	"github.com/garyclub/webhook-operator/internal/fixture/pki"
	"github.com/garyclub/webhook-operator/internal/fixture/receiver"
)

func TestAPlaceThatIsNotInOrder(t *testing.T) {
	s := newStand(t)
	expired := ca.Leaf([]string{"expired.test"}, pki.WithNotAfter(time.Now().Add(-24*time.Hour)))
	strange := stranger.Leaf([]string{"strange.test"})
	for name, tc := range map[string]struct {
		host        string
		options     receiver.Options
		wantReason  string
		wantMessage string
		mend        func(s *stand, r *receiver.Receiver) // nil where only the receiver's owner can
	}{
		"the host does not exist": {host: "nowhere.test", wantReason: v1alpha1.ReasonHostNotFound,
			wantMessage: "the host name has no address in DNS; check the spelling of the host",
			mend: func(s *stand, r *receiver.Receiver) {
				s.change("a", func(o *v1alpha1.WebhookEndpoint) {
					o.Spec.URL, o.Spec.TLS.ServerName = urlAt("somewhere.test", r), "nowhere.test"
				})
			}},
		"the certificate has expired": {host: "expired.test", options: receiver.Options{Certificate: &expired},
			wantReason: v1alpha1.ReasonCertificateExpired, wantMessage: "the receiver's certificate has expired or is not valid yet"},
		"a stranger signed the certificate": {host: "strange.test", options: receiver.Options{Certificate: &strange},
			wantReason: v1alpha1.ReasonCertificateUntrusted, wantMessage: "for a private authority set spec.tls.caSecretRef",
			mend: func(s *stand, _ *receiver.Receiver) {
				s.secret("stranger", true, "ca.crt", string(stranger.PEM()))
				s.change("a", caFrom("stranger"))
			}},
		"the certificate is for another name": {host: "other.test", options: receiver.Options{Hosts: []string{"name.test"}},
			wantReason: v1alpha1.ReasonCertificateUntrusted, wantMessage: "for another name spec.tls.serverName",
			mend: func(s *stand, _ *receiver.Receiver) {
				s.change("a", func(o *v1alpha1.WebhookEndpoint) { o.Spec.TLS.ServerName = "name.test" })
			}},
		"the host is no name for DNS": {host: "münchen.test", options: receiver.Options{Hosts: []string{"xn--mnchen-3ya.test"}},
			wantReason: v1alpha1.ReasonInvalidURL, wantMessage: "xn--",
			mend: func(s *stand, r *receiver.Receiver) {
				s.change("a", func(o *v1alpha1.WebhookEndpoint) { o.Spec.URL = urlAt("xn--mnchen-3ya.test", r) })
			}},
	} {
		t.Run(name, func(t *testing.T) {
			s := s.within(t)
			if tc.options.Hosts == nil {
				tc.options.Hosts = []string{tc.host}
			}
			r := s.receiver("", tc.options)
			o := s.create("a", urlAt(tc.host, r))
			s.Expect(s.untilCondition("a", v1alpha1.ConditionAccepted, metav1.ConditionFalse, tc.wantReason)).To(ContainSubstring(tc.wantMessage))
			s.untilCondition("a", v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonNotAccepted)
			s.untilCondition("a", v1alpha1.ConditionTestDelivered, metav1.ConditionUnknown, v1alpha1.ReasonPending)
			hold, stalled := endpoint.HoldNone, false // attempted: the receiver may mend it
			if tc.wantReason == v1alpha1.ReasonInvalidURL {
				hold, stalled = endpoint.HoldUnresolved, true
			}
			s.untilHold("a", hold)
			is := conditionOf(s.get("a"), v1alpha1.ConditionStalled).Reason == v1alpha1.ReasonNotAccepted
			s.Expect(is).To(Equal(stalled), "Stalled")
			s.Eventually(s.events).Should(ContainSubstring("a Warning " + tc.wantReason + ": "))
			s.Expect(r.Count()).To(BeZero(), "no test event goes where it is known to fail")
			if tc.mend != nil {
				tc.mend(s, r)
				s.untilReady("a")
				s.Expect(r.Count()).To(Equal(1))
			}
			s.delete(o)
		})
	}
}

func TestTheHostIsShownWithoutTheZerosOfItsPort(t *testing.T) {
	s := newStand(t)
	r := s.receiver("a.test", receiver.Options{})
	s.create("a", "https://a.test:"+strings.Repeat("0", 300)+port(r)+"/hush-path")
	s.Expect(s.untilReady("a").Status.Host).To(Equal("a.test:" + port(r)))
}

func TestAPrivateAddressIsRefusedAndHeld(t *testing.T) {
	s := prepareStand(t)
	s.start() // as by default: nothing special is allowed
	r := s.receiver("a.test", receiver.Options{Hosts: []string{"a.test", "127.0.0.1"}})
	for name, tc := range map[string]struct {
		host        string
		wantStalled bool
	}{
		"a name may get another address":                  {"a.test", false},
		"an address remains what it is":                   {"127.0.0.1", true},
		"so does one that some resolvers take for one":    {"0x7f000001", true},
		"and one of IPv6, whatever it has at its port":    {"[::1]", true},
		"and the address that cloud metadata is found at": {"169.254.169.254", true},
	} {
		t.Run(name, func(t *testing.T) {
			s := s.within(t)
			o := s.create("a", urlAt(tc.host, r))
			s.Expect(s.untilCondition("a", v1alpha1.ConditionAccepted, metav1.ConditionFalse, v1alpha1.ReasonAddressRefused)).
				To(And(HavePrefix(tc.host), ContainSubstring("--egress-allow"), ContainSubstring("deliveries are held")))
			s.untilHold("a", endpoint.HoldAddressRefused)
			s.untilCondition("a", v1alpha1.ConditionDelivering, metav1.ConditionFalse, v1alpha1.ReasonHeld)
			is := conditionOf(s.get("a"), v1alpha1.ConditionStalled).Reason == v1alpha1.ReasonNotAccepted
			s.Expect(is).To(Equal(tc.wantStalled), "Stalled")
			s.delete(o)
		})
	}
	s.Expect(r.Connections()).To(BeZero())
}

func TestARefusedAddressStaysRefusedOverARestartUntilItIsLookedAt(t *testing.T) {
	s := prepareStand(t)
	s.start()
	r := s.receiver("a.test", receiver.Options{})
	s.create("a", urlAt("a.test", r))
	s.untilHold("a", endpoint.HoldAddressRefused)
	s.untilCondition("a", v1alpha1.ConditionAccepted, metav1.ConditionFalse, v1alpha1.ReasonAddressRefused)

	s.start()
	first := s.untilPublished("a", func(*endpoint.Endpoint) bool { return true })
	s.Expect(first.Hold).To(Equal(endpoint.HoldAddressRefused), "the first word of the new manager")

	s.allow = loopback // the operator allows it
	s.start()
	s.untilReady("a")
	s.untilHold("a", endpoint.HoldNone)
}

func TestAReceiverThatDoesNotAnswerIsAcceptedAndItsTestFails(t *testing.T) {
	s := newStand(t)
	r := s.receiver("a.test", receiver.Options{})
	r.Close()
	s.create("a", urlAt("a.test", r), onRequest, requesting("call.completed"))
	s.Expect(s.untilCondition("a", v1alpha1.ConditionTestDelivered, metav1.ConditionFalse, v1alpha1.ReasonUnreachable)).To(ContainSubstring("the connection was refused"))
	s.Expect(s.untilCondition("a", v1alpha1.ConditionAccepted, metav1.ConditionTrue, v1alpha1.ReasonAccepted)).To(ContainSubstring("did not answer when it was looked at"))
	s.untilHold("a", endpoint.HoldNone)
}
