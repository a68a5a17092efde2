// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package manager

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
)

const day = 24 * time.Hour

var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func mustRotate(t *testing.T, data map[string][]byte, now time.Time) (map[string][]byte, bool) {
	t.Helper()
	rotated, changed, err := rotate(data, now)
	if err != nil {
		t.Fatal(err)
	}
	return rotated, changed
}

func entries(data map[string][]byte) string {
	return strings.Join(slices.Sorted(maps.Keys(data)), " ")
}

func TestRotate(t *testing.T) {
	fresh, _ := mustRotate(t, nil, epoch)
	succeeded, _ := mustRotate(t, fresh, epoch.Add(caSucceeds))
	promoted, _ := mustRotate(t, succeeded, epoch.Add(caPromoted))
	const one, two, three = "ca.crt ca.key", "ca.crt ca.key next-ca.crt next-ca.key", "ca.crt ca.key previous-ca.crt"
	spoilt := maps.Clone(succeeded)
	spoilt[entryNextKey] = fresh[entryKey]
	for name, tc := range map[string]struct {
		data        map[string][]byte
		now         time.Duration // since the first was made
		want        string        // the entries
		wantSigner  []byte        // nil for a new one
		wantChanged bool
	}{
		"nothing there":                    {nil, 0, one, nil, true},
		"nonsense there":                   {map[string][]byte{entryCert: []byte("x"), "more": nil}, 0, one, nil, true},
		"a key of another":                 {map[string][]byte{entryCert: fresh[entryCert], entryKey: succeeded[entryNextKey]}, 0, one, nil, true},
		"young":                            {fresh, caSucceeds - day, one, fresh[entryCert], false},
		"old enough for a successor":       {fresh, caSucceeds, two, fresh[entryCert], true},
		"the successor is made once":       {succeeded, caSucceeds + day, two, fresh[entryCert], false},
		"the successor signs":              {succeeded, caPromoted, three, succeeded[entryNextCert], true},
		"and stays":                        {promoted, caPromoted + day, three, succeeded[entryNextCert], false},
		"expired without a successor":      {fresh, caLife + day, one, nil, true},
		"expired with a successor":         {succeeded, caLife + day, one, succeeded[entryNextCert], true},
		"unreadable with a successor":      {map[string][]byte{entryNextCert: succeeded[entryNextCert], entryNextKey: succeeded[entryNextKey]}, caSucceeds + day, one, succeeded[entryNextCert], true},
		"a late successor is waited for":   {mustSucceed(t, fresh, caPromoted+day), caPromoted + 2*day, two, fresh[entryCert], false},
		"but not until the end":            {mustSucceed(t, fresh, caLife-10*day), caLife - 6*day, three, nil, true},
		"a successor that is none":         {spoilt, caPromoted, two, fresh[entryCert], true},
		"the successor of the successor":   {promoted, caSucceeds + caSucceeds, two, succeeded[entryNextCert], true},
		"both expired":                     {succeeded, 2 * caLife, one, nil, true},
		"the previous one is kept for now": {promoted, caLife - day, three, succeeded[entryNextCert], false},
	} {
		t.Run(name, func(t *testing.T) {
			before := maps.Clone(tc.data)
			got, changed := mustRotate(t, tc.data, epoch.Add(tc.now))
			if entries(got) != tc.want || changed != tc.wantChanged {
				t.Errorf("entries %s, changed %t", entries(got), changed)
			}
			if tc.wantSigner != nil && !bytes.Equal(got[entryCert], tc.wantSigner) {
				t.Error("another CA signs")
			}
			if _, err := readPair(got[entryCert], got[entryKey]); err != nil {
				t.Error(err)
			}
			if len(tc.data) > 0 && !maps.EqualFunc(before, tc.data, bytes.Equal) {
				t.Error("what was read was changed")
			}
		})
	}
}

func mustSucceed(t *testing.T, data map[string][]byte, age time.Duration) map[string][]byte {
	got, changed := mustRotate(t, data, epoch.Add(age))
	if !changed || len(got[entryNextCert]) == 0 {
		t.Fatal("no successor was made")
	}
	return got
}

// TestABundleOfWeeksAgoStillTrustsWhatIsServed goes through five years, a day at a time, as a dispatcher would that reads
// the bundle rarely: what it read up to four weeks ago must do, and what it reads today must do for a replica that has
// not refreshed yet.
func TestABundleOfWeeksAgoStillTrustsWhatIsServed(t *testing.T) {
	const kept = 28
	var bundles [][]byte
	var data map[string][]byte
	signers := map[string]bool{}
	var served *x509.Certificate
	for n := range 5 * 365 {
		now := epoch.Add(time.Duration(n) * day)
		data, _ = mustRotate(t, data, now)
		signer, err := readPair(data[entryCert], data[entryKey])
		if err != nil {
			t.Fatal(err)
		}
		signers[string(signer.certPEM)] = true
		bundles = append(bundles, bundle(data))
		before := served
		served = leaf(t, signer, now)
		for age := range min(kept, n+1) {
			if err := trusts(bundles[n-age], served, now); err != nil {
				t.Fatalf("day %d, with the bundle of %d days before: %v", n, age, err)
			}
		}
		if before != nil {
			if err := trusts(bundles[n], before, now); err != nil {
				t.Fatalf("day %d, with the certificate of the day before: %v", n, err)
			}
		}
	}
	if len(signers) < 6 {
		t.Errorf("%d CAs in five years", len(signers))
	}
}

func leaf(t *testing.T, p pair, now time.Time) *x509.Certificate {
	t.Helper()
	made, err := p.serve([]string{"manager.test", "10.0.0.1"}, now, servingLife)
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := x509.ParseCertificate(made.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	return certificate
}

func trusts(bundle []byte, served *x509.Certificate, now time.Time) error {
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(bundle)
	_, err := served.Verify(x509.VerifyOptions{Roots: roots, CurrentTime: now, DNSName: "manager.test"})
	return err
}

func TestServe(t *testing.T) {
	if _, err := (pair{}).serve([]string{"a"}, epoch, time.Hour); err == nil {
		t.Error("a certificate without a CA")
	}
	p, err := newPair(epoch, caLife)
	if err != nil {
		t.Fatal(err)
	}
	served := leaf(t, p, epoch)
	for _, host := range []string{"manager.test", "10.0.0.1"} {
		if err := served.VerifyHostname(host); err != nil {
			t.Error(err)
		}
	}
	if served.IsCA || served.VerifyHostname("other.test") == nil || !slices.Equal(served.ExtKeyUsage, []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}) {
		t.Errorf("certificate is %+v", served)
	}
	if err := trusts(p.certPEM, served, epoch.Add(-clockSkew)); err != nil {
		t.Errorf("a host whose clock is behind: %v", err)
	}
	if err := trusts(p.certPEM, served, epoch.Add(servingLife+time.Hour)); err == nil {
		t.Error("trusted after its end")
	}
	other, _ := newPair(epoch, caLife)
	if err := trusts(other.certPEM, served, epoch); err == nil {
		t.Error("trusted by another CA")
	}
	if block, _ := pem.Decode(p.keyPEM); block == nil || block.Type != "PRIVATE KEY" {
		t.Error("the key is not in PEM form")
	}
}

// replica is an authority whose clock is a variable.
func replica(c client.Client, now *time.Time) *authority {
	return &authority{client: c, key: client.ObjectKey{Namespace: "webhook-system", Name: "webhook-control-ca"},
		hosts: []string{"manager.test"}, now: func() time.Time { return *now }}
}

func newClient(funcs interceptor.Funcs) client.Client {
	return fake.NewClientBuilder().WithScheme(clientgoscheme.Scheme).WithInterceptorFuncs(funcs).Build()
}

func TestReplicasThatStartAtOnceShareOneCA(t *testing.T) {
	now := epoch
	// All of them look before any of them writes.
	const replicas = 3
	var looked sync.WaitGroup
	looked.Add(replicas)
	c := newClient(interceptor.Funcs{Create: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.CreateOption) error {
		looked.Done()
		looked.Wait()
		return c.Create(ctx, o, opts...)
	}})
	var all []*authority
	var running sync.WaitGroup
	for range replicas {
		a := replica(c, &now)
		all = append(all, a)
		running.Go(func() {
			if err := a.Refresh(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	running.Wait()
	for _, a := range all {
		served, err := a.GetCertificate(nil)
		if err != nil {
			t.Fatal(err)
		}
		certificate, _ := x509.ParseCertificate(served.Certificate[0])
		if err := trusts(all[0].CABundle(), certificate, now); err != nil || a.NeedLeaderElection() {
			t.Errorf("replica's certificate: %v", err)
		}
		if !bytes.Equal(a.HashKey(), all[0].HashKey()) {
			t.Error("a replica has a hash key of its own")
		}
	}
}

func TestTheServingCertificateIsRenewedAndFollowsTheCA(t *testing.T) {
	now := epoch
	c := newClient(interceptor.Funcs{})
	a := replica(c, &now)
	if _, err := a.GetCertificate(nil); err == nil {
		t.Error("a certificate before there is a CA")
	}
	refresh := func() *tls.Certificate {
		t.Helper()
		if err := a.Refresh(t.Context()); err != nil {
			t.Fatal(err)
		}
		served, err := a.GetCertificate(nil)
		if err != nil {
			t.Fatal(err)
		}
		return served
	}
	first := refresh()
	if refresh() != first {
		t.Error("made anew without need")
	}
	now = epoch.Add(servingLife * 2 / 3)
	second := refresh()
	if second == first {
		t.Error("not renewed after two thirds of its life")
	}
	now = epoch.Add(caSucceeds)
	third := refresh()
	if n := strings.Count(string(a.CABundle()), "BEGIN CERTIFICATE"); n != 2 {
		t.Errorf("%d CAs in the bundle, want the successor too", n)
	}
	secret := &corev1.Secret{}
	if err := c.Get(t.Context(), a.key, secret); err != nil || secret.Labels["app.kubernetes.io/managed-by"] != "webhook-operator" {
		t.Fatalf("%v, labels %v", err, secret.Labels)
	}
	now = epoch.Add(caPromoted)
	if fourth := refresh(); fourth == third {
		t.Error("the successor signs, and the certificate is of the one before")
	}
	// Somebody deleted the Secret: there is a CA again.
	if err := c.Delete(t.Context(), secret); err != nil {
		t.Fatal(err)
	}
	refresh()
}

func TestTheHashKeyOutlivesTheCA(t *testing.T) {
	now := epoch
	c := newClient(interceptor.Funcs{})
	a := replica(c, &now)
	stored := func() *corev1.Secret {
		t.Helper()
		secret := &corev1.Secret{}
		if err := a.Refresh(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := c.Get(t.Context(), a.key, secret); err != nil {
			t.Fatal(err)
		}
		return secret
	}
	secret := stored()
	first := secret.Data[entryHashKey]
	if len(first) != hashKeyBytes {
		t.Fatalf("entries %s, a hash key of %d bytes", entries(secret.Data), len(first))
	}
	kept := func(when string) {
		t.Helper()
		if secret = stored(); !bytes.Equal(secret.Data[entryHashKey], first) || !bytes.Equal(a.HashKey(), first) {
			t.Errorf("%s: there is another hash key", when)
		}
	}
	for _, age := range []time.Duration{day, caSucceeds, caPromoted, 3 * caLife} {
		now = epoch.Add(age)
		kept("after " + age.String())
	}
	if err := c.Delete(t.Context(), secret); err != nil {
		t.Fatal(err)
	}
	kept("the Secret was deleted")
	delete(secret.Data, entryHashKey)
	if err := c.Update(t.Context(), secret); err != nil {
		t.Fatal(err)
	}
	kept("the entry was deleted")
	a = replica(c, &now)
	kept("in another process")
	maps.DeleteFunc(secret.Data, func(entry string, _ []byte) bool { return entry != entryHashKey })
	if err := c.Update(t.Context(), secret); err != nil {
		t.Fatal(err)
	}
	a = replica(c, &now)
	kept("a new CA was ordered")
}

func TestLastingHashKey(t *testing.T) {
	one, other := bytes.Repeat([]byte{1}, hashKeyBytes), bytes.Repeat([]byte{2}, hashKeyBytes)
	for name, tc := range map[string]struct {
		stored, used, want []byte // nil for a new one
	}{
		"the stored one":                 {one, nil, one},
		"the stored one goes first":      {one, other, one},
		"the one in use":                 {nil, other, other},
		"a stored one that is too short": {one[:hashKeyBytes-1], other, other},
		"none":                           {nil, nil, nil},
	} {
		t.Run(name, func(t *testing.T) {
			got := lastingHashKey(tc.stored, tc.used)
			if len(got) < hashKeyBytes || tc.want != nil && !bytes.Equal(got, tc.want) {
				t.Errorf("got %x", got)
			}
			if tc.want == nil && bytes.Equal(got, lastingHashKey(tc.stored, tc.used)) {
				t.Error("the same key twice")
			}
		})
	}
}
