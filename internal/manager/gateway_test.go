// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package manager

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
)

func TestGatewayCertificateIsRenewedInTime(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	signer, err := newPair(now, caLife)
	if err != nil {
		t.Fatal(err)
	}
	trusted := signer.certPEM
	o := Options{Namespace: "webhook-system", GatewayHosts: []string{"127.0.0.1"}}
	g := &gatewayCertificate{client: fake.NewClientBuilder().Build(), signer: func() pair { return signer },
		bundle: func() []byte { return trusted }, hosts: o.gatewayHosts(),
		now: func() time.Time { return now }, key: client.ObjectKey{Namespace: "webhook-system", Name: gatewaySecret}}
	refresh := func() *corev1.Secret {
		t.Helper()
		if err := g.refresh(t.Context()); err != nil {
			t.Fatal(err)
		}
		s := &corev1.Secret{}
		if err := g.client.Get(t.Context(), g.key, s); err != nil {
			t.Fatal(err)
		}
		return s
	}
	same := func(a, b *corev1.Secret) bool {
		return bytes.Equal(a.Data[corev1.TLSCertKey], b.Data[corev1.TLSCertKey])
	}
	first := refresh()
	pair, err := tls.X509KeyPair(first.Data[corev1.TLSCertKey], first.Data[corev1.TLSPrivateKeyKey])
	if err != nil || first.Type != corev1.SecretTypeTLS {
		t.Fatalf("type %s, error %v", first.Type, err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(signer.cert)
	for _, host := range []string{"webhook-gateway.webhook-system.svc", "webhook-gateway-handover.webhook-system.svc.cluster.local", "127.0.0.1"} {
		if _, err := pair.Leaf.Verify(x509.VerifyOptions{DNSName: host, Roots: roots, CurrentTime: now}); err != nil {
			t.Errorf("%s: %v", host, err)
		}
	}
	now = now.Add(gatewayLife/2 + time.Hour)
	trusted = append([]byte("# and its successor\n"), trusted...)
	second := refresh()
	if !bytes.Equal(second.Data["ca.crt"], trusted) {
		t.Error("the CA is not what dispatchers are to trust")
	}
	if !same(first, second) {
		t.Error("it is made anew in the first two thirds of its life")
	}
	now = now.Add(gatewayLife / 5)
	third := refresh()
	if same(second, third) {
		t.Error("it is not made anew in the last third of its life")
	}
	if signer, err = newPair(now, caLife/2); err != nil {
		t.Fatal(err)
	}
	fourth := refresh()
	if same(third, fourth) {
		t.Error("it is not made anew when another CA signs")
	}
	g.hosts = append(g.hosts, "gateway.example.com")
	if fifth := refresh(); same(fourth, fifth) {
		t.Error("it is not made anew for another host")
	}
	fourth.Data = nil
	fourth.ResourceVersion = ""
	if err := g.client.Update(t.Context(), fourth); err != nil {
		t.Fatal(err)
	}
	if last := refresh(); len(last.Data[corev1.TLSPrivateKeyKey]) == 0 {
		t.Error("a Secret that somebody emptied is not filled again")
	}
}
