// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package endpoint

import (
	"slices"
	"strings"
	"sync/atomic"

	"github.com/garyclub/webhook-operator/internal/event"
)

// Snapshot is an immutable view of the current endpoints.
type Snapshot struct {
	byRef  map[Ref]*Endpoint
	byType map[event.Type][]*Endpoint
}

// NewSnapshot indexes the endpoints, which must not change afterwards.
func NewSnapshot(endpoints []*Endpoint) *Snapshot {
	s := &Snapshot{byRef: make(map[Ref]*Endpoint, len(endpoints)), byType: map[event.Type][]*Endpoint{}}
	for _, p := range endpoints {
		s.byRef[p.Ref] = p
		for _, t := range p.Events {
			s.byType[t] = append(s.byType[t], p)
		}
	}
	return s
}

// Match returns the endpoints that e is to be delivered to, held ones included.
func (s *Snapshot) Match(e *event.Event) []*Endpoint {
	var matched []*Endpoint
	for _, p := range s.byType[e.Type] {
		if p.Matches(e) {
			matched = append(matched, p)
		}
	}
	return matched
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
