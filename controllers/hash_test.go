// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"slices"
	"strings"
	"testing"

	"github.com/garyclub/webhook-operator/api/v1alpha1"
	"github.com/garyclub/webhook-operator/internal/endpoint"
)

func resolved() *endpoint.Endpoint {
	return &endpoint.Endpoint{UID: "uid", Generation: 1, URL: "https://a.test/1", SigningKeys: [][]byte{[]byte("key one"), []byte("key two")},
		Headers: []endpoint.Header{{Name: "a", Value: "b"}},
		TLS:     endpoint.TLS{CABundle: []byte("ca"), ClientCert: []byte("cert"), ClientKey: []byte("key"), ServerName: "name"}}
}

func TestWhatTheHashesDependOn(t *testing.T) {
	for name, tc := range map[string]struct {
		change                                    func(*endpoint.Endpoint)
		wantPlace, wantIncarnation, wantInspected bool // another one
	}{
		"nothing":            {func(*endpoint.Endpoint) {}, false, false, false},
		"UID":                {func(p *endpoint.Endpoint) { p.UID = "another" }, true, true, false},
		"generation":         {func(p *endpoint.Endpoint) { p.Generation = 2 }, false, true, false},
		"URL":                {func(p *endpoint.Endpoint) { p.URL = "https://a.test/2" }, true, true, true},
		"header value":       {func(p *endpoint.Endpoint) { p.Headers[0].Value = "c" }, true, false, false},
		"header name":        {func(p *endpoint.Endpoint) { p.Headers[0].Name = "c" }, true, false, false},
		"header moved":       {func(p *endpoint.Endpoint) { p.Headers[0] = endpoint.Header{Name: "ab"} }, true, false, false},
		"a header more":      {func(p *endpoint.Endpoint) { p.Headers = append(p.Headers, endpoint.Header{}) }, true, false, false},
		"CA":                 {func(p *endpoint.Endpoint) { p.TLS.CABundle = nil }, true, false, true},
		"client certificate": {func(p *endpoint.Endpoint) { p.TLS.ClientCert = nil }, true, false, true},
		"client key":         {func(p *endpoint.Endpoint) { p.TLS.ClientKey = nil }, true, false, true},
		"server name":        {func(p *endpoint.Endpoint) { p.TLS.ServerName = "another" }, true, false, true},
		"bytes that move":    {func(p *endpoint.Endpoint) { p.TLS.ClientCert, p.TLS.ClientKey = []byte("certk"), []byte("ey") }, true, false, true},
		"signing key":        {func(p *endpoint.Endpoint) { p.SigningKeys[0] = []byte("key three") }, true, false, false},
		"previous key":       {func(p *endpoint.Endpoint) { p.SigningKeys = p.SigningKeys[:1] }, false, false, false},
		"hold and policy":    {func(p *endpoint.Endpoint) { p.Hold, p.MaxInFlight = endpoint.HoldGone, 7 }, false, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			p, base := resolved(), resolved()
			tc.change(p)
			for what, got := range map[string]struct{ changed, want bool }{
				"place":       {placeOf(p) != placeOf(base), tc.wantPlace},
				"incarnation": {incarnationOf(p, "salt") != incarnationOf(base, "salt"), tc.wantIncarnation},
				"inspected":   {inspectedOf(p) != inspectedOf(base), tc.wantInspected},
			} {
				if got.changed != got.want {
					t.Errorf("%s changed: %t, want %t", what, got.changed, got.want)
				}
			}
		})
	}
	if incarnationOf(resolved(), "") == incarnationOf(resolved(), "salt") {
		t.Error("a requested test that succeeded does not change the incarnation")
	}
	p := resolved()
	p.SigningKeys = nil
	if placeOf(p) != "" {
		t.Error("a place without a key, which anybody could try header values against")
	}
}

func TestTheTestHashHoldsPlaceAndSalt(t *testing.T) {
	for _, tc := range []struct{ place, salt, want string }{
		{"", "", ""}, {"place", "", "place"}, {"place", "salt", "place.salt"}, {"", "salt", ".salt"},
	} {
		got := joinTestHash(tc.place, tc.salt)
		place, salt := splitTestHash(got)
		if got != tc.want || place != tc.place || salt != tc.salt {
			t.Errorf("%q and %q became %q and then %q and %q", tc.place, tc.salt, got, place, salt)
		}
	}
	if longest := joinTestHash(placeOf(resolved()), shortHash("salt", "x")); len(longest) > 64 {
		t.Errorf("%d bytes, the API takes 64", len(longest))
	}
}

func TestTheNameOfAGeneratedKey(t *testing.T) {
	if got := signingSecretName("zapier"); got != "zapier-webhook-signing" {
		t.Errorf("got %q", got)
	}
	long := strings.Repeat("a", 235) + "." + strings.Repeat("b", 17)
	seen := map[string]string{}
	for _, name := range []string{long, long[:252], long[:237], long[:236] + "x", long[:235] + "-x"} {
		got := signingSecretName(name)
		if len(got) > 253 || !strings.HasSuffix(got, signingSuffix) || strings.Contains(got, ".-") || strings.Contains(got, "--") {
			t.Errorf("%d bytes became %d: %q", len(name), len(got), got)
		}
		if other, ok := seen[got]; ok {
			t.Errorf("%q and %q share %q", name, other, got)
		}
		seen[got] = name
	}
}

func TestTheSecretsThatAnEndpointRefersTo(t *testing.T) {
	o := &v1alpha1.WebhookEndpoint{}
	o.Name = "a"
	if got := secretNames(o); !slices.Equal(got, []string{"a-webhook-signing"}) {
		t.Errorf("got %v, want the generated key's", got)
	}
	value := "x"
	from := &v1alpha1.HeaderValueSource{SecretKeyRef: v1alpha1.SecretKeyReference{Name: "header"}}
	o.Spec = v1alpha1.WebhookEndpointSpec{
		URLFrom: &v1alpha1.URLSource{SecretKeyRef: v1alpha1.SecretKeyReference{Name: "url"}},
		Headers: []v1alpha1.Header{{Value: &value}, {ValueFrom: from}, {ValueFrom: from}},
		TLS: &v1alpha1.TLSSpec{CASecretRef: &v1alpha1.CASecretReference{Name: "ca"},
			ClientCertificateSecretRef: &v1alpha1.SecretReference{Name: "client"}},
		Signing: v1alpha1.SigningSpec{SecretRef: &v1alpha1.SecretReference{Name: "url"}},
	}
	if got := secretNames(o); !slices.Equal(got, []string{"url", "header", "ca", "client"}) {
		t.Errorf("got %v", got)
	}
}
