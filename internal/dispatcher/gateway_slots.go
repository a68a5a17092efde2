// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package dispatcher

import (
	"context"
	"sync"
	"time"

	"github.com/garyclub/webhook-operator/internal/deliver"
	"github.com/garyclub/webhook-operator/internal/delivery"
	"github.com/garyclub/webhook-operator/internal/endpoint"
)

// leases is the queue as the deliver stage sees it.
func (d *Dispatcher) leases() deliver.Queue {
	if d.options.Gateway {
		return newSlots(deliverQueue{d.queue}, d.options.MaxInFlight)
	}
	return deliverQueue{d.queue}
}

// slots keep half of a gateway's attempts from any one namespace. Endpoints take turns, each with a limit of its own; so
// a thousand endpoints whose receivers take seconds to answer would have all attempts under way, and one of another
// namespace would wait for them.
type slots struct {
	deliver.Queue
	most int // that one namespace may have under way

	mu      sync.Mutex
	held    map[string]int
	waiting map[string]*refused
}

// refused are the endpoints of a namespace that were refused, in that order. An entry whose endpoint is not in the set
// was admitted since.
type refused struct {
	order []endpoint.Ref
	in    map[endpoint.Ref]struct{}
}

func newSlots(q deliver.Queue, all int) *slots {
	return &slots{Queue: q, most: max(all/2, 1), held: map[string]int{}, waiting: map[string]*refused{}}
}

// Lease implements deliver.Queue.
func (s *slots) Lease(ctx context.Context, admit func(endpoint.Ref) bool) (deliver.Lease, error) {
	lease, err := s.Queue.Lease(ctx, func(ref endpoint.Ref) bool {
		if !s.take(ref) {
			return false
		}
		if !admit(ref) {
			s.drop(ref.Namespace) // as it was before: nobody needs to hear of it
			return false
		}
		return true
	})
	if err != nil {
		return nil, err
	}
	return &slotLease{Lease: lease, slots: s, namespace: lease.Delivery().Ref.Namespace}, nil
}

// take takes a slot for the endpoint, or notes that it waits for one.
func (s *slots) take(ref endpoint.Ref) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	w := s.waiting[ref.Namespace]
	if s.held[ref.Namespace] < s.most {
		s.held[ref.Namespace]++
		if w != nil {
			delete(w.in, ref)
		}
		return true
	}
	if w == nil {
		w = &refused{in: map[endpoint.Ref]struct{}{}}
		s.waiting[ref.Namespace] = w
	}
	if _, ok := w.in[ref]; !ok {
		w.in[ref] = struct{}{}
		w.order = append(w.order, ref)
	}
	return false
}

func (s *slots) drop(namespace string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.held[namespace]--; s.held[namespace] == 0 {
		delete(s.held, namespace)
	}
}

// give gives a slot back and has as many of those that wait looked at again as there are slots, since one may have
// nothing to deliver any more; all of them when the namespace has nothing under way whose end would be the next occasion.
func (s *slots) give(namespace string) {
	s.drop(namespace)
	for _, ref := range s.next(namespace) {
		s.Unpark(ref)
	}
}

func (s *slots) next(namespace string) (unpark []endpoint.Ref) {
	s.mu.Lock()
	defer s.mu.Unlock()
	w := s.waiting[namespace]
	if w == nil {
		return nil
	}
	held := s.held[namespace]
	for len(w.order) > 0 && (held == 0 || len(unpark) < s.most-held) {
		ref := w.order[0]
		w.order = w.order[1:]
		if _, ok := w.in[ref]; ok {
			delete(w.in, ref)
			unpark = append(unpark, ref)
		}
	}
	if len(w.order) == 0 {
		delete(s.waiting, namespace)
	}
	return unpark
}

// slotLease gives its slot back with the lease.
type slotLease struct {
	deliver.Lease
	slots     *slots
	namespace string
	once      sync.Once
}

// Settle implements deliver.Lease. After a fault the lease goes on, until it is released.
func (l *slotLease) Settle(ctx context.Context, d delivery.Delivery) error {
	if err := l.Lease.Settle(ctx, d); err != nil {
		return err
	}
	l.over()
	return nil
}

// Release implements deliver.Lease.
func (l *slotLease) Release(at time.Time) {
	l.Lease.Release(at)
	l.over()
}

func (l *slotLease) over() { l.once.Do(func() { l.slots.give(l.namespace) }) }
