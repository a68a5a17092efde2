// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"net/netip"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/garyclub/webhook-operator/api/v1alpha1"
	"github.com/garyclub/webhook-operator/internal/delivery"
	"github.com/garyclub/webhook-operator/internal/egress"
	"github.com/garyclub/webhook-operator/internal/endpoint"
)

const (
	// inspectEvery is how old a good inspection may become, inspectAgain how old a bad one.
	inspectEvery = time.Hour
	inspectAgain = 30 * time.Second
)

// inspect judges the address and the certificate by the latest look at them. It owns Accepted.
func (p *pass) inspect() {
	if p.unresolved != nil {
		p.object.Status.Certificate = nil
		p.set(v1alpha1.ConditionAccepted, metav1.ConditionFalse, p.unresolved.reason, p.unresolved.message)
		return
	}
	name, of := client.ObjectKeyFromObject(p.object), placeHash(p.resolved)
	found := p.reconciler.Prober.inspected(name, of)
	if found == nil {
		p.inspecting = true
		p.reconciler.Prober.inspect(name, of, p.resolved)
		p.again(inspectAgain)
		p.keepOrAwait()
		return
	}
	p.judge(found)
	due := inspectEvery
	if found.failure != nil {
		due = inspectAgain
	}
	age := p.now.Sub(found.at)
	if age >= due {
		p.reconciler.Prober.inspect(name, of, p.resolved)
		age = 0
	}
	p.again(due - age)
}

// keepOrAwait leaves a verdict of before in force, as after a restart, until the new look is there.
func (p *pass) keepOrAwait() {
	if current := p.condition(v1alpha1.ConditionAccepted); current != nil && current.ObservedGeneration == p.object.Generation {
		if current.Status == metav1.ConditionFalse {
			p.refused = &problem{reason: current.Reason, message: current.Message}
		}
		return
	}
	p.set(v1alpha1.ConditionAccepted, metav1.ConditionUnknown, v1alpha1.ReasonInspecting, "the address and certificate are being looked at")
}

func (p *pass) judge(found *inspection) {
	p.object.Status.Certificate = nil
	if !found.certificate.NotAfter.IsZero() {
		notAfter := metav1.NewTime(found.certificate.NotAfter)
		issuer := found.certificate.Issuer
		p.object.Status.Certificate = &v1alpha1.CertificateStatus{Issuer: issuer[:min(len(issuer), 256)], NotAfterTime: &notAfter}
	}
	p.refused = refusal(found.failure, p.resolved.URL)
	if p.refused != nil {
		p.set(v1alpha1.ConditionAccepted, metav1.ConditionFalse, p.refused.reason, p.refused.message)
		return
	}
	message := "the URL, its address and its certificate are in order"
	if found.failure != nil {
		// Out of reach for now is the receiver's state and no fault of the configuration: attempts tell.
		message = "the URL is in order; when last looked at, " + found.failure.Message
	}
	p.set(v1alpha1.ConditionAccepted, metav1.ConditionTrue, v1alpha1.ReasonAccepted, message)
}

// refusal is the pure decision what a failed look means.
func refusal(failure *delivery.Failure, url string) *problem {
	if failure == nil {
		return nil
	}
	reasons := map[*delivery.Failure]string{
		egress.ErrAddressRefused: v1alpha1.ReasonAddressRefused, egress.ErrURL: v1alpha1.ReasonInvalidURL,
		egress.ErrHostNotFound: v1alpha1.ReasonHostNotFound, egress.ErrExpired: v1alpha1.ReasonCertificateExpired,
		egress.ErrUntrusted: v1alpha1.ReasonCertificateUntrusted, egress.ErrWrongName: v1alpha1.ReasonCertificateUntrusted,
		egress.ErrHandshake: v1alpha1.ReasonTLSFailed, egress.ErrTLSMaterial: v1alpha1.ReasonInvalidTLS,
	}
	reason, ok := reasons[failure]
	if !ok {
		return nil
	}
	advice := map[string]string{
		v1alpha1.ReasonAddressRefused:       "use a public address, or have the operator allow this one",
		v1alpha1.ReasonHostNotFound:         "correct the host of the URL; it is looked up again every 30 seconds",
		v1alpha1.ReasonCertificateExpired:   "renew it on the receiver",
		v1alpha1.ReasonCertificateUntrusted: "correct it on the receiver, or name its CA in spec.tls.caSecretRef",
	}[reason]
	message := failure.Message
	if advice != "" {
		message = fmt.Sprintf("%s: %s", failure.Message, advice)
	}
	return &problem{reason: reason, message: message, stalled: reason == v1alpha1.ReasonAddressRefused && literal(url)}
}

// literal says whether the URL's host is an address: then no answer of the DNS can change the verdict.
func literal(url string) bool {
	host := egress.Host(url)
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	_, err := netip.ParseAddr(host)
	return err == nil
}

// placeHash stands for where deliveries go. It is salted with the UID, so equal URLs of two endpoints do not show.
func placeHash(e *endpoint.Endpoint) string {
	h := sha256.New()
	for _, part := range []string{e.UID, e.URL, string(e.TLS.CABundle), string(e.TLS.ClientCert), e.TLS.ServerName} {
		_, _ = fmt.Fprintf(h, "%d:%s", len(part), part) // a hash takes everything
	}
	return hex.EncodeToString(h.Sum(nil)[:16])
}

func failureOf(err error) *delivery.Failure {
	if err == nil {
		return nil
	}
	var known *delivery.Failure
	if errors.As(err, &known) {
		return known
	}
	return egress.ErrUnreachable
}
