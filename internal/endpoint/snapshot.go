// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package endpoint

import (
	"slices"
	"strings"
	"sync/atomic"

	"github.com/garyclub/webhook-operator/internal/event"
)

// Snapshot is an immutable view of the current endpoints. It is indexed by all that Matches asks about, so that a match
// costs the same among ten endpoints and among thousands.
type Snapshot struct {
	byRef  map[Ref]*Endpoint
	byWish map[wish][]*Endpoint
}

// wish is what an endpoint asks for: events of a type, and of an agent unless that is empty.
type wish struct {
	namespace string
	kind      event.Type
	agent     string
}

// NewSnapshot indexes the endpoints, which must not change afterwards.
func NewSnapshot(endpoints []*Endpoint) *Snapshot {
	s := &Snapshot{byRef: make(map[Ref]*Endpoint, len(endpoints)), byWish: map[wish][]*Endpoint{}}
	for _, p := range endpoints {
		s.byRef[p.Ref] = p
		for _, t := range p.Events {
			s.add(wish{namespace: p.Namespace, kind: t}, p)
		}
	}
	return s
}

func (s *Snapshot) add(w wish, p *Endpoint) {
	if len(p.Agents) == 0 {
		s.byWish[w] = append(s.byWish[w], p)
	}
	for _, w.agent = range p.Agents {
		s.byWish[w] = append(s.byWish[w], p)
	}
}

// Match returns the endpoints that e is to be delivered to, held ones included.
func (s *Snapshot) Match(e *event.Event) []*Endpoint {
	w := wish{namespace: e.Namespace, kind: e.Type}
	all := s.byWish[w]
	if e.AgentID == "" {
		return slices.Clone(all)
	}
	w.agent = e.AgentID
	return slices.Concat(all, s.byWish[w])
}

// Get returns the endpoint of that name, or nil.
func (s *Snapshot) Get(ref Ref) *Endpoint { return s.byRef[ref] }

// All returns the endpoints ordered by namespace and name.
func (s *Snapshot) All() []*Endpoint {
	all := make([]*Endpoint, 0, len(s.byRef))
	for _, p := range s.byRef {
		all = append(all, p)
	}
	slices.SortFunc(all, func(a, b *Endpoint) int {
		if c := strings.Compare(a.Namespace, b.Namespace); c != 0 {
			return c
		}
		return strings.Compare(a.Name, b.Name)
	})
	return all
}

// Current holds the snapshot in force. Its zero value knows no complete list yet.
type Current struct{ p atomic.Pointer[Snapshot] }

// Load returns the snapshot in force, or nil before the first complete list has come.
func (c *Current) Load() *Snapshot { return c.p.Load() }

// Store puts s in force.
func (c *Current) Store(s *Snapshot) { c.p.Store(s) }
