// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"fmt"
	"net/netip"
	"net/url"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/garyclub/webhook-operator/api/v1alpha1"
	"github.com/garyclub/webhook-operator/internal/conditions"
	"github.com/garyclub/webhook-operator/internal/egress"
	"github.com/garyclub/webhook-operator/internal/reconcile"
)

// inspect owns Accepted when everything that the spec refers to was found. It only reads what the prober knows, which
// calls for another reconciliation when it knows more.
func (r *WebhookEndpointReconciler) inspect(_ context.Context, w *work) error {
	if !w.resolved {
		w.obj.Status.Certificate = nil
		return nil
	}
	subject := *w.endpoint // the steps go on changing theirs
	seen := r.Prober.Inspect(&subject)
	if !seen.Known {
		if r.keepsVerdict(w, seen) {
			return stalledAsBefore(w)
		}
		w.obj.Status.Certificate = nil
		w.set(inspecting(seen))
		return nil
	}
	w.obj.Status.Certificate = certificateStatus(seen.Certificate)
	verdict, stalled := accepted(seen, w.obj.Status.Host)
	w.set(verdict)
	if stalled {
		return reconcile.Stalled(verdict.Reason, verdict.Message)
	}
	return nil
}

// keepsVerdict says whether the status holds a verdict that is still good: after a restart of the manager nothing is
// known, and nothing has changed. One about missing references is over, since they were found.
func (r *WebhookEndpointReconciler) keepsVerdict(w *work, seen Inspection) bool {
	before := conditions.Get(w.Base.Status.Conditions, v1alpha1.ConditionAccepted)
	if seen.Changed || before.ObservedGeneration != w.obj.Generation {
		return false
	}
	switch before.Reason {
	case v1alpha1.ReasonAccepted, v1alpha1.ReasonAddressRefused, v1alpha1.ReasonHostNotFound, v1alpha1.ReasonCertificateExpired,
		v1alpha1.ReasonCertificateUntrusted, v1alpha1.ReasonTLSFailed:
		return true
	}
	return false
}

func stalledAsBefore(w *work) error {
	before := w.condition(v1alpha1.ConditionAccepted)
	if before.Reason == v1alpha1.ReasonAddressRefused && literalAddress(w.endpoint.URL) {
		return reconcile.Stalled(before.Reason, before.Message)
	}
	return nil
}

func inspecting(seen Inspection) metav1.Condition {
	message := "the address and its certificate are being looked at"
	if seen.Trouble != nil {
		message += "; so far: " + seen.Trouble.Message
	}
	return conditions.Unknown(v1alpha1.ConditionAccepted, v1alpha1.ReasonInspecting, message)
}

// accepted is the pure judgement of an inspection. A receiver that does not answer is none of its business: that is for
// the test event to say. Stalled is only what no retry can mend.
func accepted(seen Inspection, host string) (c metav1.Condition, stalled bool) {
	const kind = v1alpha1.ConditionAccepted
	reason := inspectionResult(seen.Failure)
	refuse := func(advice string) metav1.Condition {
		return conditions.False(kind, reason, fmt.Sprintf("%s: %s; %s", host, seen.Failure.Message, advice))
	}
	const again = "it is looked at again from time to time"
	switch reason {
	case v1alpha1.ReasonAccepted:
		return conditions.True(kind, reason, host+" may be delivered to, and its certificate is in order"), false
	case v1alpha1.ReasonAddressRefused:
		if literalAddress("https://" + host) {
			return refuse("deliveries are held; use a public address"), true
		}
		return refuse("deliveries are held; " + again), false
	case v1alpha1.ReasonHostNotFound:
		return refuse("check the spelling of the host; " + again), false
	case v1alpha1.ReasonCertificateExpired:
		return refuse("the receiver needs a new one; " + again), false
	case v1alpha1.ReasonCertificateUntrusted:
		return refuse("for a private authority set spec.tls.caSecretRef, for another name spec.tls.serverName; " + again), false
	case v1alpha1.ReasonTLSFailed:
		return refuse(again), false
	case v1alpha1.ReasonInvalidURL, v1alpha1.ReasonInvalidTLS:
		return refuse("change it"), true
	}
	return conditions.True(kind, v1alpha1.ReasonAccepted,
		fmt.Sprintf("%s may be delivered to, but did not answer when it was looked at: %s", host, seen.Failure.Message)), false
}

// literalAddress says whether the URL's host is an address, or a number that some resolvers take for one.
func literalAddress(text string) bool {
	u, err := url.Parse(text)
	if err != nil {
		return false
	}
	host := strings.TrimSuffix(u.Hostname(), ".")
	if _, err := netip.ParseAddr(host); err == nil {
		return true
	}
	last := strings.ToLower(host[strings.LastIndexByte(host, '.')+1:])
	if digits, hexadecimal := strings.CutPrefix(last, "0x"); hexadecimal {
		return strings.Trim(digits, "0123456789abcdef") == ""
	}
	return last != "" && strings.Trim(last, "0123456789") == ""
}

func certificateStatus(c egress.Certificate) *v1alpha1.CertificateStatus {
	if c.NotAfter.IsZero() {
		return nil
	}
	const maxIssuer = 256
	issuer := truncated(strings.ToValidUTF8(c.Issuer, ""), maxIssuer)
	notAfter := metav1.NewTime(c.NotAfter.UTC())
	return &v1alpha1.CertificateStatus{Issuer: issuer, NotAfterTime: &notAfter}
}
