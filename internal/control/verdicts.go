// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package control

import (
	"crypto/sha256"
	"sync"
	"time"
)

// maxVerdicts is some 2 MiB.
const maxVerdicts = 10_000

// verdict is what the API server said of a token.
type verdict struct {
	identity Identity
	good     bool
	until    time.Time
}

func (v verdict) answer() (Identity, error) {
	if !v.good {
		return Identity{}, errUnauthenticated
	}
	return v.identity, nil
}

type tokenDigest = [sha256.Size]byte

// verdicts remembers them for a while, by digest: the tokens are not kept.
type verdicts struct {
	limit int

	mu    sync.Mutex
	known map[tokenDigest]verdict
}

func newVerdicts(limit int) *verdicts {
	return &verdicts{limit: limit, known: map[tokenDigest]verdict{}}
}

func (c *verdicts) get(key tokenDigest, now time.Time) (verdict, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	v, ok := c.known[key]
	return v, ok && now.Before(v.until)
}

// put makes room first when there is none: what is over goes, and then any one, which costs one review more.
func (c *verdicts) put(key tokenDigest, v verdict, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.known) >= c.limit {
		for k, old := range c.known {
			if !now.Before(old.until) {
				delete(c.known, k)
			}
		}
	}
	for k := range c.known {
		if len(c.known) < c.limit {
			break
		}
		delete(c.known, k)
	}
	c.known[key] = v
}
