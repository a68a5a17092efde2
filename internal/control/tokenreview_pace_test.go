// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package control

import (
	"encoding/base64"
	"strconv"
	"testing"
	"time"
)

var paceStart = time.Unix(0, 0)

func tokenClaiming(subject string) string {
	return "e30." + base64.RawURLEncoding.EncodeToString([]byte(`{"sub":"`+subject+`"}`)) + ".c2ln"
}

func accountToken(namespace string) string {
	return tokenClaiming("system:serviceaccount:" + namespace + ":app")
}

// useUp asks until it is refused.
func useUp(t *TokenPace, token string, now time.Time) (allowed int) {
	for t.Allow(token, now) {
		allowed++
	}
	return allowed
}

func TestWhatATokenClaims(t *testing.T) {
	for token, want := range map[string]string{
		accountToken("shop"): "shop", tokenClaiming("system:serviceaccount:shop"): "", tokenClaiming("jane"): "", "a.b.c": "", "": "",
		"a." + base64.RawURLEncoding.EncodeToString([]byte("[]")) + ".c": "",
	} {
		if got := claimedNamespace(token); got != want {
			t.Errorf("%q claims %q, want %q", token, got, want)
		}
	}
}

func TestNobodyUsesUpWhatOthersNeed(t *testing.T) {
	p := NewTokenPace()
	for name, token := range map[string]string{"garbage": "a.b.c", "one namespace": accountToken("hostile")} {
		if got := useUp(p, token, paceStart); got != claimBurst {
			t.Errorf("%s: %d at once, want %d", name, got, claimBurst)
		}
	}
	if !p.Allow(accountToken("shop"), paceStart) {
		t.Error("another namespace is put off")
	}
	if got := useUp(p, "a.b.c", paceStart.Add(time.Second)); got != claimRate {
		t.Errorf("%d a second later, want %d", got, claimRate)
	}
}

func TestATokenThatRotatesIsNoStranger(t *testing.T) {
	p := NewTokenPace()
	p.Good(accountToken("shop"), paceStart)
	total := 0
	for i := range 2 * reviewBurst {
		total += useUp(p, accountToken("made-up-"+strconv.Itoa(i)), paceStart)
	}
	if total != reviewBurst || p.Allow(accountToken("new"), paceStart) {
		t.Errorf("%d strangers were let through, want %d", total, reviewBurst)
	}
	if !p.Allow(accountToken("shop"), paceStart) {
		t.Error("the next token of a namespace that is known is put off")
	}
	if p.Allow(accountToken("shop"), paceStart.Add(-time.Second+knownFor)); p.claims["shop"].known(paceStart.Add(knownFor)) {
		t.Error("a namespace is known for ever")
	}
}

func TestNamespacesAreBounded(t *testing.T) {
	p := NewTokenPace()
	p.Good(accountToken("shop"), paceStart)
	for i := range 3 * maxClaims {
		p.Allow(accountToken("n"+strconv.Itoa(i)), paceStart)
	}
	if got := len(p.claims); got != maxClaims {
		t.Errorf("%d namespaces are kept, want %d", got, maxClaims)
	}
	later := paceStart.Add(time.Minute)
	p.Allow(accountToken("later"), later)
	if _, kept := p.claims["shop"]; !kept || len(p.claims) != 2 {
		t.Errorf("%d are kept after they have rested", len(p.claims))
	}
}
