// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"errors"
	"math"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	corev1 "k8s.io/api/core/v1"

	"github.com/garyclub/webhook-operator/api/v1alpha1"
	"github.com/garyclub/webhook-operator/internal/egress"
	"github.com/garyclub/webhook-operator/internal/endpoint"
	"github.com/garyclub/webhook-operator/internal/fixture/pki"
	"github.com/garyclub/webhook-operator/internal/sign"
)

// secretOf is a Secret that was read already.
func secretOf(data map[string][]byte) *secretReader {
	s := &corev1.Secret{Data: data}
	s.Namespace, s.Name = "a", "secret"
	return &secretReader{namespace: "a", read: map[string]*corev1.Secret{"secret": s}}
}

// checkRefusal holds a refusal against the rule that it names objects and tells nothing of what is in them. A secret of a
// few bytes stands in any text by chance.
func checkRefusal(t *testing.T, err error, secrets ...string) {
	t.Helper()
	var refused *refusal
	if !errors.As(err, &refused) || refused.reason == "" || refused.message == "" {
		t.Fatalf("the error is %v, want a refusal with reason and message", err)
	}
	if len(refused.message) > 1024 || !utf8.ValidString(refused.message) {
		t.Errorf("the message does not fit into a condition: %q", refused.message)
	}
	const rule = "whsec_ followed by the base64 of 24 to 64 random bytes"
	for _, secret := range secrets {
		if secret = strings.TrimSpace(secret); len(secret) > 12 && !strings.Contains(rule, secret) && strings.Contains(refused.message, secret) {
			t.Errorf("the message tells %q: %s", secret, refused.message)
		}
	}
}

// FuzzSigningKeys: what a Secret holds becomes one or two keys that can sign, or a refusal.
func FuzzSigningKeys(f *testing.F) {
	good := []byte(sign.FormatKey(make([]byte, sign.MinKeyBytes)))
	f.Add(good, good, true)
	f.Add(good, []byte("hunter2 hunter2 hunter2"), true)
	f.Add([]byte("whsec_hunter2hunter2hunter2"), []byte{}, false)
	f.Add([]byte{}, []byte{}, true)
	f.Fuzz(func(t *testing.T, current, previous []byte, rotating bool) {
		data := map[string][]byte{v1alpha1.KeySigningKey: current}
		if rotating {
			data[v1alpha1.KeyPreviousSigningKey] = previous
		}
		keys, err := parseSigningKeys(secretOf(data).read["secret"])
		if err != nil {
			checkRefusal(t, err, string(current), string(previous))
			return
		}
		if len(keys) != len(data) {
			t.Fatalf("of %d entries %d keys were read", len(data), len(keys))
		}
		for _, key := range keys {
			if len(key) < sign.MinKeyBytes || len(key) > sign.MaxKeyBytes {
				t.Errorf("a key of %d bytes was taken", len(key))
			}
		}
	})
}

// FuzzURL: a URL that is accepted can be delivered to, and shows its host alone; one that is not is told of by the rule.
func FuzzURL(f *testing.F) {
	for _, s := range []string{"https://hooks.example/catch/1?key=2", "https://u:p@hooks.example/", "http://a/", "https://[::1]:443/",
		"https://a:00443/", "https://a:0/", "https://a/#f", "https://a b/", "https://bücher.example/", "https://:1/", "https://a\u0000/", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if err := checkURL(text, "spec.url"); err != nil {
			checkRefusal(t, err, text)
			return
		}
		host := shownHost(text)
		if host == "" || egress.Host(text) == "" {
			t.Fatalf("%q is accepted, and cannot be delivered to", text)
		}
		if len(host) > maxHostBytes+len("[]:65535") || strings.ContainsAny(host, "/?#@ ") {
			t.Errorf("the host of %q is shown as %q", text, host)
		}
	})
}

// FuzzHeaderValue: a value that is taken can be sent, and one that is not is told of by the header's name.
func FuzzHeaderValue(f *testing.F) {
	for _, s := range []string{"Bearer hunter2hunter2", " padded \n", "two\r\nlines hunter2", "é hunter2hunter2", "\x7f", strings.Repeat("x", 8193), ""} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, value []byte) {
		secrets := secretOf(map[string][]byte{"value": value})
		header := v1alpha1.Header{Name: "Authorization", ValueFrom: &v1alpha1.HeaderValueSource{
			SecretKeyRef: v1alpha1.SecretKeyReference{Name: "secret", Key: "value"}}}
		p := &endpoint.Endpoint{}
		if err := resolveHeaders(t.Context(), secrets, []v1alpha1.Header{header}, p); err != nil {
			checkRefusal(t, err, string(value))
			return
		}
		got := p.Headers[0].Value
		if len(got) > maxHeaderValueBytes || strings.ContainsAny(got, "\r\n\x00") || got != strings.TrimSpace(string(value)) {
			t.Errorf("%q is sent as %q", value, got)
		}
	})
}

// FuzzTLSMaterial: material that is taken is what the client can use, and what is refused is told of by the Secret's name.
func FuzzTLSMaterial(f *testing.F) {
	ca := pki.NewCA("fuzz")
	cert, key := pki.EncodeLeaf(ca.Leaf([]string{"client"}))
	f.Add(ca.PEM(), cert, key)
	f.Add(ca.PEM(), cert, []byte("hunter2 hunter2 hunter2"))
	f.Add([]byte("hunter2 hunter2 hunter2"), cert, key)
	f.Add([]byte("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"), []byte{}, []byte{})
	f.Fuzz(func(t *testing.T, bundle, cert, key []byte) {
		secrets := secretOf(map[string][]byte{"ca.crt": bundle, "tls.crt": cert, "tls.key": key})
		spec := &v1alpha1.TLSSpec{CASecretRef: &v1alpha1.CASecretReference{Name: "secret", Key: "ca.crt"},
			ClientCertificateSecretRef: &v1alpha1.SecretReference{Name: "secret"}}
		p := &endpoint.Endpoint{}
		if err := resolveTLS(t.Context(), secrets, spec, p); err != nil {
			checkRefusal(t, err, string(bundle), string(cert), string(key))
			return
		}
		if err := egress.CheckTLS(p.TLS); err != nil {
			t.Errorf("it was taken, and the client cannot use it: %v", err)
		}
	})
}

// FuzzTestMark: whatever stands in a status, it is read as a mark that is written and read as itself and fits into the
// status again.
func FuzzTestMark(f *testing.F) {
	for _, s := range []string{"", "place.salt.qw3rty.td", "....", "a.b.-1.t", "a.b.zzzzzzzzzzzzzzzzzzzz.d", "place"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		m := readTestMark(text)
		if again := readTestMark(m.text()); again != m {
			t.Errorf("%q is %+v, which becomes %+v", text, m, again)
		}
		if m.since == math.MaxInt64 && strings.Count(text, ".") == 0 && m.delivered {
			t.Errorf("%q says that a test was delivered", text)
		}
		place := shortHash("place", text) + shortHash("place", text)
		if tested := m.tested(place, true, time.Unix(1<<33, 0)); !tested.delivered || tested.due || tested.place != place {
			t.Errorf("after a test at %s the mark is %+v", place, tested)
		}
	})
}

// FuzzRequestedTest: an annotation asks for a type that is known, or for nothing, and is cut at a character's border.
func FuzzRequestedTest(f *testing.F) {
	for _, s := range []string{"call.completed", "call.completed/2026", "custom.a/" + strings.Repeat("é", 65), "/", "CALL.COMPLETED", "\xff"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		cut := truncated(text, maxRequested)
		if utf8.RuneCountInString(cut) > maxRequested || !strings.HasPrefix(text, cut) || utf8.ValidString(text) && !utf8.ValidString(cut) {
			t.Errorf("%q is cut to %q", text, cut)
		}
		if kind, ok := requestedType(cut); ok && !kind.Known() {
			t.Errorf("%q asks for %q", text, kind)
		}
	})
}

// FuzzCertificate: what a receiver's certificate says of its issuer fits into a status, whatever it says.
func FuzzCertificate(f *testing.F) {
	f.Add("R3", int64(1_700_000_000))
	f.Add(strings.Repeat("\xff", 300), int64(0))
	f.Add(strings.Repeat("é", 300), int64(253402300799))
	f.Fuzz(func(t *testing.T, issuer string, notAfter int64) {
		status := certificateStatus(egress.Certificate{Issuer: issuer, NotAfter: time.Unix(notAfter, 0)})
		if status != nil && (utf8.RuneCountInString(status.Issuer) > 256 || !utf8.ValidString(status.Issuer)) {
			t.Errorf("the issuer is shown as %q", status.Issuer)
		}
	})
}
