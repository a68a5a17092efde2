// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package handover

import (
	"sync"
	"time"

	"github.com/garyclub/webhook-operator/internal/delivery"
	"github.com/garyclub/webhook-operator/internal/endpoint"
)

// maxSkipped bounds the deliveries that are passed over one by one; beyond it their endpoints are.
const maxSkipped = 1024

// skips are what a gateway does not take now. It holds one entry per endpoint, and maxSkipped deliveries.
type skips struct {
	now func() time.Time

	mu         sync.Mutex
	endpoints  map[endpoint.Ref]time.Time
	deliveries map[skipped]time.Time
}

// skipped names a delivery.
type skipped struct {
	ref      endpoint.Ref
	event    string
	accepted int64
}

func skippedOf(d *delivery.Delivery) skipped {
	return skipped{d.Ref, d.EventID, d.Accepted.UnixNano()}
}

func newSkips(now func() time.Time) *skips {
	return &skips{now: now, endpoints: map[endpoint.Ref]time.Time{}, deliveries: map[skipped]time.Time{}}
}

// passOver leaves an endpoint out for a while.
func (s *skips) passOver(ref endpoint.Ref, wait time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.endpoints[ref] = s.now().Add(wait)
}

// refuse leaves one delivery out: others of its endpoint may be taken.
func (s *skips) refuse(d *delivery.Delivery) {
	s.mu.Lock()
	defer s.mu.Unlock()
	until := s.now().Add(passedOver)
	if len(s.deliveries) >= maxSkipped {
		s.endpoints[d.Ref] = until
		return
	}
	s.deliveries[skippedOf(d)] = until
}

// wanted says whether an endpoint's deliveries can be handed over, as far as is known.
func (s *skips) wanted(ref endpoint.Ref) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	until, known := s.endpoints[ref]
	return !known || !s.now().Before(until)
}

// refused says whether the delivery is left out by itself.
func (s *skips) refused(d *delivery.Delivery) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, known := s.deliveries[skippedOf(d)]
	return known
}

// tidy forgets what is over.
func (s *skips) tidy() {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	over := func(until time.Time) bool { return !now.Before(until) }
	for ref, until := range s.endpoints {
		if over(until) {
			delete(s.endpoints, ref)
		}
	}
	for d, until := range s.deliveries {
		if over(until) {
			delete(s.deliveries, d)
		}
	}
}

// forgive forgets the endpoints: there may not be the time to wait until they are asked for again.
func (s *skips) forgive() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.endpoints)
}

// next is how long it takes until an endpoint may be asked for again; there is none when none was passed over.
func (s *skips) next() (wait time.Duration, some bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, until := range s.endpoints {
		if left := max(until.Sub(s.now()), time.Millisecond); !some || left < wait {
			wait, some = left, true
		}
	}
	return wait, some
}
