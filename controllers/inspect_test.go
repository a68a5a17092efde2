// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/garyclub/webhook-operator/api/v1alpha1"
	"github.com/garyclub/webhook-operator/internal/conditions"
	"github.com/garyclub/webhook-operator/internal/egress"
	"github.com/garyclub/webhook-operator/internal/endpoint"
	"github.com/garyclub/webhook-operator/internal/reconcile"
)

func TestWhatAnInspectionComesTo(t *testing.T) {
	for name, tc := range map[string]struct {
		failure      *egress.Error
		host         string
		want         string // status and reason
		wantResult   string // in the metric, where it is another than the reason
		wantMessages []string
		wantStalled  bool
	}{
		"all is well":            {want: "True/Accepted", wantMessages: []string{"a.test may be delivered to"}},
		"a name refused":         {failure: egress.ErrAddressRefused, want: "False/AddressRefused", wantMessages: []string{"held", "again"}},
		"an address refused":     {failure: egress.ErrAddressRefused, host: "[::1]:8443", want: "False/AddressRefused", wantMessages: []string{"[::1]:8443: ", "use a public address"}, wantStalled: true},
		"a number refused":       {failure: egress.ErrAddressRefused, host: "2130706433", want: "False/AddressRefused", wantStalled: true},
		"no such host":           {failure: egress.ErrHostNotFound, want: "False/HostNotFound", wantMessages: []string{"a.test: ", "spelling"}},
		"expired":                {failure: egress.ErrExpired, want: "False/CertificateExpired", wantMessages: []string{"the receiver needs a new one"}},
		"untrusted":              {failure: egress.ErrUntrusted, want: "False/CertificateUntrusted", wantMessages: []string{"spec.tls.caSecretRef"}},
		"another name":           {failure: egress.ErrWrongName, want: "False/CertificateUntrusted", wantMessages: []string{"spec.tls.serverName"}},
		"no handshake":           {failure: egress.ErrHandshake, want: "False/TLSFailed"},
		"a client certificate":   {failure: egress.ErrClientCert, want: "False/TLSFailed"},
		"TLS material":           {failure: egress.ErrTLSMaterial, want: "False/InvalidTLS", wantStalled: true},
		"no URL":                 {failure: egress.ErrURL, want: "False/InvalidURL", wantStalled: true},
		"connection refused":     {failure: egress.ErrRefused, want: "True/Accepted", wantResult: resultUnreachable, wantMessages: []string{"did not answer", "refused"}},
		"no answer in time":      {failure: egress.ErrTimedOut, want: "True/Accepted", wantResult: resultUnreachable},
		"the proxy is not there": {failure: egress.ErrProxy, want: "True/Accepted", wantResult: resultUnreachable},
	} {
		t.Run(name, func(t *testing.T) {
			if tc.host == "" {
				tc.host = "a.test"
			}
			c, stalled := accepted(Inspection{Known: true, Failure: tc.failure}, tc.host)
			if got := string(c.Status) + "/" + c.Reason; got != tc.want || stalled != tc.wantStalled {
				t.Errorf("%s, stalled %t", got, stalled)
			}
			for _, want := range tc.wantMessages {
				if !strings.Contains(c.Message, want) {
					t.Errorf("message %q lacks %q", c.Message, want)
				}
			}
			if tc.wantResult == "" {
				tc.wantResult = c.Reason
			}
			if got := inspectionResult(tc.failure); got != tc.wantResult {
				t.Errorf("result %s, want %s", got, tc.wantResult)
			}
		})
	}
}

func TestAVerdictIsKeptWhileNothingElseIsKnown(t *testing.T) {
	for name, tc := range map[string]struct {
		before     metav1.Condition
		generation int64
		changed    bool
		url        string
		want       string
		stalled    bool
	}{
		"accepted":                 {before: conditions.True("Accepted", "Accepted", "fine"), want: "True/Accepted"},
		"accepted, another input":  {before: conditions.True("Accepted", "Accepted", "fine"), changed: true, want: "Unknown/Inspecting"},
		"accepted, another spec":   {before: conditions.True("Accepted", "Accepted", "fine"), generation: 1, want: "Unknown/Inspecting"},
		"a name refused":           {before: conditions.False("Accepted", "AddressRefused", ""), want: "False/AddressRefused"},
		"an address refused":       {before: conditions.False("Accepted", "AddressRefused", ""), url: "https://10.0.0.1/x", want: "False/AddressRefused", stalled: true},
		"an expired certificate":   {before: conditions.False("Accepted", "CertificateExpired", ""), want: "False/CertificateExpired"},
		"a Secret that is there":   {before: conditions.False("Accepted", "SecretNotFound", ""), want: "Unknown/Inspecting"},
		"nothing was known before": {before: conditions.Unknown("Accepted", "Inspecting", ""), want: "Unknown/Inspecting"},
	} {
		t.Run(name, func(t *testing.T) {
			if tc.url == "" {
				tc.url = "https://a.test/x"
			}
			if tc.generation == 0 {
				tc.generation = 2
			}
			obj := &v1alpha1.WebhookEndpoint{}
			obj.Generation = 2
			conditions.Set(&obj.Status.Conditions, tc.generation, tc.before)
			w := &work{obj: obj, Patcher: reconcile.NewPatcher(nil, obj), resolved: true,
				endpoint: &endpoint.Endpoint{Ref: endpoint.Ref{Name: "a"}, URL: tc.url}}
			r := &WebhookEndpointReconciler{Options: Options{Prober: NewProber(nil, nil)}}
			if tc.changed {
				before := *w.endpoint
				before.URL = "https://b.test/x"
				r.Prober.Inspect(&before)
			}
			w.verdict.Add(r.inspect(t.Context(), w))
			c := conditionOf(obj, v1alpha1.ConditionAccepted)
			if got := string(c.Status) + "/" + c.Reason; got != tc.want || (w.verdict.Stalled != nil) != tc.stalled {
				t.Errorf("%s, stalled %v", got, w.verdict.Stalled)
			}
		})
	}
}

func TestLiteralAddress(t *testing.T) {
	for host, want := range map[string]bool{"a.test": false, "a.test:8443": false, "10.0.0.1": true, "10.0.0.1:443": true, "[fd00::1]": true,
		"[::ffff:10.0.0.1]:443": true, "2130706433": true, "0177.0.0.1": true, "0x7f.1": true, "0X7F000001": true, "10.0.0.1.": true, "1.a0": false, "0xyz": false, "": false} {
		if got := literalAddress("https://" + host + "/"); got != want {
			t.Errorf("%q: %t", host, got)
		}
	}
}

func TestCertificateStatusIsBoundedAndValid(t *testing.T) {
	if got := certificateStatus(egress.Certificate{Issuer: "R11"}); got != nil {
		t.Errorf("without a certificate: %+v", got)
	}
	at := time.Date(2026, 5, 1, 2, 0, 0, 0, time.FixedZone("", 7200))
	got := certificateStatus(egress.Certificate{Issuer: "é\xff" + strings.Repeat("é", 300), NotAfter: at})
	if got.Issuer != strings.Repeat("é", 256) || got.NotAfterTime.Format(time.RFC3339) != "2026-05-01T00:00:00Z" {
		t.Errorf("%+v", got)
	}
}

func TestHold(t *testing.T) {
	all := holdFacts{suspended: true, unresolved: true, keyMissing: true, addressRefused: true, gone: true}
	for _, want := range []endpoint.Hold{endpoint.HoldSuspended, endpoint.HoldUnresolved, endpoint.HoldSigningKeyMissing,
		endpoint.HoldAddressRefused, endpoint.HoldGone, endpoint.HoldNone} {
		if got := holdOf(all); got != want {
			t.Errorf("%+v: %q, want %q", all, got, want)
		}
		switch want { // each in turn is mended, the most urgent first
		case endpoint.HoldSuspended:
			all.suspended = false
		case endpoint.HoldUnresolved:
			all.unresolved = false
		case endpoint.HoldSigningKeyMissing:
			all.keyMissing = false
		case endpoint.HoldAddressRefused:
			all.addressRefused = false
		case endpoint.HoldGone:
			all.gone = false
		}
	}
}

func TestWhichVerdictsHold(t *testing.T) {
	for name, tc := range map[string]struct {
		accepted                              metav1.Condition
		wantUndeliverable, wantAddressRefused bool
	}{
		"accepted":               {conditions.True("Accepted", v1alpha1.ReasonAccepted, ""), false, false},
		"being looked at":        {conditions.Unknown("Accepted", v1alpha1.ReasonInspecting, ""), false, false},
		"no URL":                 {conditions.False("Accepted", v1alpha1.ReasonInvalidURL, ""), true, false},
		"TLS material":           {conditions.False("Accepted", v1alpha1.ReasonInvalidTLS, ""), true, false},
		"an address refused":     {conditions.False("Accepted", v1alpha1.ReasonAddressRefused, ""), false, true},
		"no such host":           {conditions.False("Accepted", v1alpha1.ReasonHostNotFound, ""), false, false},
		"an expired certificate": {conditions.False("Accepted", v1alpha1.ReasonCertificateExpired, ""), false, false},
		"no handshake":           {conditions.False("Accepted", v1alpha1.ReasonTLSFailed, ""), false, false},
	} {
		t.Run(name, func(t *testing.T) {
			undeliverable, addressRefused := heldBy(tc.accepted)
			if undeliverable != tc.wantUndeliverable || addressRefused != tc.wantAddressRefused {
				t.Errorf("undeliverable %t, address refused %t", undeliverable, addressRefused)
			}
		})
	}
}

// TestAnInspectionThatCanSendNothingHolds publishes what passed the reading of the spec, and not the inspection.
func TestAnInspectionThatCanSendNothingHolds(t *testing.T) {
	for reason, want := range map[string]endpoint.Hold{
		v1alpha1.ReasonInvalidURL: endpoint.HoldUnresolved, v1alpha1.ReasonInvalidTLS: endpoint.HoldUnresolved,
		v1alpha1.ReasonAddressRefused: endpoint.HoldAddressRefused, v1alpha1.ReasonTLSFailed: endpoint.HoldNone,
	} {
		w := testWork(metav1.Condition{}, nil)
		w.note = &note{}
		w.set(conditions.False(v1alpha1.ConditionAccepted, reason, ""))
		registry := endpoint.NewRegistry()
		r := &WebhookEndpointReconciler{Options: Options{Registry: registry}}
		if err := r.publish(t.Context(), w); err != nil {
			t.Fatal(err)
		}
		list, _, _ := registry.View("n")
		if len(list) != 1 || list[0].Hold != want {
			t.Errorf("%s: published %+v, want the hold %q", reason, list, want)
		}
	}
}
