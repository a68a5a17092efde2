// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package control

import (
	"encoding/base64"
	"encoding/json"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

const (
	// reviewRate and reviewBurst are per second, of strangers as of those who are known: enough for a few hundred callers
	// at once, and too few to use up the manager's writes, whoever sends tokens.
	reviewRate  = 25
	reviewBurst = 250
	// claimRate and claimBurst are those of one namespace, and of all tokens that name none.
	claimRate  = 10
	claimBurst = 100

	// maxClaims bounds those that are kept apart; more are paced like tokens that name none.
	maxClaims = 1024
	// knownFor is how long a namespace is known after one of its tokens was good. It is more than the life of a
	// token that a kubelet rotates.
	knownFor = 2 * time.Hour
	// sweepPause is the least time between two looks for namespaces that can be forgotten.
	sweepPause = time.Second
)

// TokenPace bounds how often the API server is asked about tokens. A namespace has a pace of its own, and those whose tokens
// were good have one in common that strangers have no part in: neither garbage nor the tokens of one namespace keep those
// of others from being looked at.
//
// The namespace is what the token claims, before anybody has looked at it. A false claim costs the namespace that it names
// no more than that one's own pace. No token is kept.
type TokenPace struct {
	known, strangers *rate.Limiter

	mu       sync.Mutex
	claims   map[string]*claim
	nameless *claim
	swept    time.Time
}

type claim struct {
	pace *rate.Limiter
	good time.Time // when a token of it was good last
}

func newClaim() *claim {
	return &claim{pace: rate.NewLimiter(claimRate, claimBurst)}
}

func (n *claim) known(now time.Time) bool {
	return !n.good.IsZero() && now.Sub(n.good) < knownFor
}

// forgettable says that it would be the same anew.
func (n *claim) forgettable(now time.Time) bool {
	return !n.known(now) && n.pace.TokensAt(now) >= claimBurst
}

// NewTokenPace returns a pace of which nothing is used up.
func NewTokenPace() *TokenPace {
	return &TokenPace{known: rate.NewLimiter(reviewRate, reviewBurst), strangers: rate.NewLimiter(reviewRate, reviewBurst),
		claims: map[string]*claim{}, nameless: newClaim()}
}

// Allow says whether the API server may be asked about a token that nobody has seen.
func (t *TokenPace) Allow(token string, now time.Time) bool {
	name := claimedNamespace(token)
	t.mu.Lock()
	n := t.of(name, now)
	known := n.known(now)
	t.mu.Unlock()
	if !n.pace.AllowN(now, 1) {
		return false
	}
	if known {
		return t.AllowKnown(now)
	}
	return t.strangers.AllowN(now, 1)
}

// AllowKnown says whether it may be asked again about a token that was good.
func (t *TokenPace) AllowKnown(now time.Time) bool { return t.known.AllowN(now, 1) }

// Good notes that a token was good.
func (t *TokenPace) Good(token string, now time.Time) {
	name := claimedNamespace(token)
	t.mu.Lock()
	defer t.mu.Unlock()
	if n := t.of(name, now); n != t.nameless {
		n.good = now
	}
}

// of is the namespace of that name, kept apart as far as there is room.
func (t *TokenPace) of(name string, now time.Time) *claim {
	if name == "" {
		return t.nameless
	}
	if n := t.claims[name]; n != nil {
		return n
	}
	if len(t.claims) >= maxClaims && now.Sub(t.swept) >= sweepPause {
		t.sweep(now)
	}
	if len(t.claims) >= maxClaims {
		return t.nameless
	}
	n := newClaim()
	t.claims[name] = n
	return n
}

func (t *TokenPace) sweep(now time.Time) {
	t.swept = now
	for name, n := range t.claims {
		if n.forgettable(now) {
			delete(t.claims, name)
		}
	}
}

// claimedNamespace is the namespace of the service account that a token says it is of; empty when it says nothing of the kind.
func claimedNamespace(token string) string {
	_, rest, _ := strings.Cut(token, ".")
	payload, _, _ := strings.Cut(rest, ".")
	raw, err := base64.RawURLEncoding.DecodeString(payload)
	if err != nil {
		return ""
	}
	var body struct {
		Subject string `json:"sub"`
	}
	if json.Unmarshal(raw, &body) != nil {
		return ""
	}
	account, isAccount := strings.CutPrefix(body.Subject, "system:serviceaccount:")
	name, _, whole := strings.Cut(account, ":")
	if !isAccount || !whole || len(name) > 63 {
		return ""
	}
	return strings.Clone(name) // lets go of the token
}
