// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"math"
	"slices"
	"strings"
	"testing"
	"time"

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
		"signing key":        {func(p *endpoint.Endpoint) { p.SigningKeys[0] = []byte("key three") }, false, false, false},
		"no signing key":     {func(p *endpoint.Endpoint) { p.SigningKeys = nil }, false, false, false},
		"previous key":       {func(p *endpoint.Endpoint) { p.SigningKeys = p.SigningKeys[:1] }, false, false, false},
		"hold and policy":    {func(p *endpoint.Endpoint) { p.Hold, p.MaxInFlight = endpoint.HoldGone, 7 }, false, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			p, base := resolved(), resolved()
			tc.change(p)
			for what, got := range map[string]struct{ changed, want bool }{
				"place":       {placeOf(suiteHashKey, p) != placeOf(suiteHashKey, base), tc.wantPlace},
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
	if placeOf(suiteHashKey, resolved()) == placeOf([]byte("another key"), resolved()) {
		t.Error("the place does not depend on the key, so that anybody could try header values against it")
	}
}

func TestTheTestHashKeepsItsMark(t *testing.T) {
	longest := testMark{placeOf(suiteHashKey, resolved()), shortHash("salt", "x"), 1<<35 - 1, true, true} // the year 3058
	if text := longest.text(); len(text) > 64 {
		t.Errorf("%d bytes, the API takes 64: %s", len(text), text)
	}
	for _, want := range []testMark{{}, {place: "place"}, {salt: "salt"}, {place: "place", since: 1000}, {delivered: true}, {due: true}, longest} {
		if got := readTestMark(want.text()); got != want {
			t.Errorf("%+v became %q and then %+v", want, want.text(), got)
		}
	}
	for _, text := range []string{"", "place", "place.salt", "place.salt.no number", "a.b.c.d.e"} {
		if got := readTestMark(text); got.delivered || text != "a.b.c.d.e" && got.since != math.MaxInt64 {
			t.Errorf("%q proves something: %+v", text, got)
		}
	}
}

func TestAMarkAfterATest(t *testing.T) {
	at := time.Unix(1000, 0)
	proven, failed := testMark{place: "here", salt: "s", since: 900, delivered: true}, testMark{place: "here", salt: "s", since: 900}
	for name, tc := range map[string]struct {
		before    testMark
		place     string
		delivered bool
		want      testMark
	}{
		"the first":                     {testMark{}, "here", false, testMark{place: "here", since: 1000}},
		"the first, delivered":          {testMark{}, "here", true, testMark{place: "here", since: 1000, delivered: true}},
		"failed, after a failure":       {failed, "here", false, failed},
		"delivered, after a failure":    {failed, "here", true, proven},
		"failed, after a success":       {proven, "here", false, proven},
		"elsewhere, after a success":    {proven, "there", false, testMark{place: "there", salt: "s", since: 1000}},
		"what was due is due no longer": {testMark{place: "here", since: 900, due: true}, "here", false, testMark{place: "here", since: 900}},
	} {
		t.Run(name, func(t *testing.T) {
			got := tc.before.tested(tc.place, tc.delivered, at)
			if again := got.tested(tc.place, tc.delivered, at); got != tc.want || again != got {
				t.Errorf("got %+v and then %+v", got, again)
			}
		})
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
