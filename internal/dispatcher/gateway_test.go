// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package dispatcher

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/go-logr/logr"

	"github.com/garyclub/webhook-operator/internal/endpoint"
	"github.com/garyclub/webhook-operator/internal/handover"
)

func gatewayOptions() Options {
	o := DefaultOptions()
	o.Namespace, o.Gateway, o.Listen = "webhook-system", true, GatewayListen
	return o
}

func TestGatewayOptions(t *testing.T) {
	good := gatewayOptions()
	if err := good.Validate(); err != nil {
		t.Fatal(err)
	}
	for name, spoil := range map[string]func(*Options){
		"no port":            func(o *Options) { o.Listen = "gateway" },
		"no hand-over port":  func(o *Options) { o.HandoverListen = "" },
		"no certificate":     func(o *Options) { o.TLSCertFile = "" },
		"no key":             func(o *Options) { o.TLSKeyFile = "" },
		"no service account": func(o *Options) { o.GatewayServiceAccount = "" },
		"no namespace":       func(o *Options) { o.Namespace = "" },
	} {
		o := gatewayOptions()
		spoil(&o)
		if o.Validate() == nil {
			t.Errorf("%s: no error", name)
		}
	}
	sidecar := gatewayOptions()
	sidecar.Gateway = false
	if sidecar.Validate() == nil {
		t.Error("a sidecar may listen on all addresses")
	}
}

func TestWhoIsAGateway(t *testing.T) {
	o := gatewayOptions()
	for i, want := range map[handover.Identity]bool{
		{Namespace: "webhook-system", ServiceAccount: "webhook-gateway"}: true,
		{Namespace: "webhook-system", ServiceAccount: "default"}:         false,
		{Namespace: "acme", ServiceAccount: "webhook-gateway"}:           false,
	} {
		if o.isGateway(i) != want {
			t.Errorf("%+v is a gateway: %v", i, !want)
		}
	}
}

func TestGatewayServesAllNamespaces(t *testing.T) {
	list := []*endpoint.Endpoint{endpointOf("a", "https://127.0.0.1/"), endpointOf("b", "https://127.0.0.1/")}
	list[1].Namespace = "other"
	o := gatewayOptions()
	if err := (&endpoints{namespace: o.served()}).check(list); err != nil {
		t.Errorf("a gateway refuses: %v", err)
	}
	o.Gateway = false
	if (&endpoints{namespace: o.served()}).check(list) == nil {
		t.Error("a sidecar takes endpoints of other namespaces")
	}
}

// writePair writes a certificate of its own for the gateway.
func writePair(t *testing.T, certFile, keyFile string) []byte {
	t.Helper()
	leaf := ca.Leaf([]string{"127.0.0.1"})
	key, err := x509.MarshalPKCS8PrivateKey(leaf.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	for path, block := range map[string]*pem.Block{
		certFile: {Type: "CERTIFICATE", Bytes: leaf.Certificate[0]}, keyFile: {Type: "PRIVATE KEY", Bytes: key},
	} {
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return leaf.Certificate[0]
}

func TestCertificateFollowsItsFiles(t *testing.T) {
	now, dir := time.Unix(0, 0), t.TempDir()
	c := &certificate{certFile: filepath.Join(dir, "tls.crt"), keyFile: filepath.Join(dir, "tls.key"),
		now: func() time.Time { return now }, log: logr.Discard()}
	if _, err := c.GetCertificate(nil); err == nil {
		t.Fatal("a certificate that is not there is shown")
	}
	shown := func() []byte {
		t.Helper()
		var got *tls.Certificate
		got, err := c.GetCertificate(nil)
		if err != nil {
			t.Fatal(err)
		}
		return got.Certificate[0]
	}
	first := writePair(t, c.certFile, c.keyFile)
	if !bytes.Equal(shown(), first) {
		t.Error("another certificate is shown")
	}
	second := writePair(t, c.certFile, c.keyFile)
	if !bytes.Equal(shown(), first) {
		t.Error("the files are read at each handshake")
	}
	now = now.Add(certificateKept)
	if !bytes.Equal(shown(), second) {
		t.Error("the new certificate is not shown")
	}
	if err := os.WriteFile(c.keyFile, []byte("half written"), 0o600); err != nil {
		t.Fatal(err)
	}
	now = now.Add(certificateKept)
	if !bytes.Equal(shown(), second) {
		t.Error("files that do not fit end the one in use")
	}
}
