// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"sync"
	"time"

	"github.com/garyclub/webhook-operator/internal/endpoint"
)

// notes is what the reconciler remembers of each endpoint between reconciliations; all of it can be lost.
type notes struct {
	mu    sync.Mutex
	byRef map[endpoint.Ref]*note
}

// note is changed by the reconciliation of its endpoint alone, of which there is one at a time.
type note struct {
	uid string
	// revision is the published one, and since is when it was; the zero time means long ago.
	revision string
	since    time.Time
	// alone is since when no dispatcher is connected; the zero time while one is.
	alone time.Time
	// failures counts reconciliations in a row that an error ended before the endpoint was published.
	failures int
	// replaced is the resource version that our last status write took the place of.
	replaced string
	// slot is the turn for a status write that waits for the budget.
	slot slot
}

func (n *notes) of(ref endpoint.Ref, uid string) *note {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.byRef == nil {
		n.byRef = map[endpoint.Ref]*note{}
	}
	known := n.byRef[ref]
	if known == nil || known.uid != uid {
		known = &note{uid: uid}
		n.byRef[ref] = known
	}
	return known
}

func (n *notes) drop(ref endpoint.Ref) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.byRef, ref)
}
