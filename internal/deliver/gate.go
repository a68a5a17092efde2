// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package deliver

import (
	"sync"

	"github.com/garyclub/webhook-operator/internal/delivery"
	"github.com/garyclub/webhook-operator/internal/endpoint"
)

// gate admits deliveries: by the endpoint's hold, by its limit, and by the slots of all. Endpoints that hang or are out
// of reach may use half of the slots at most, so the others always have the other half.
type gate struct {
	endpoints Endpoints
	gone      func(endpoint.Ref) string

	mu       sync.Mutex
	slots    int
	inFlight int
	slow     int // of those in flight, to slow endpoints
	limits   map[endpoint.Ref]*limit
	waiting  map[endpoint.Ref]struct{} // refused for want of a slot, not of their own limit
	tickets  map[endpoint.Ref]int      // slow slots held
}

func newGate(endpoints Endpoints, gone func(endpoint.Ref) string, slots int) *gate {
	return &gate{endpoints: endpoints, gone: gone, slots: slots, limits: map[endpoint.Ref]*limit{},
		waiting: map[endpoint.Ref]struct{}{}, tickets: map[endpoint.Ref]int{}}
}

// Admit takes a slot for the endpoint, or refuses. What was refused is unparked when that may have changed.
func (g *gate) Admit(ref endpoint.Ref) bool {
	p := g.find(ref)
	if p == nil {
		return false
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	l := g.limits[ref]
	if l == nil {
		l = newLimit(p.MaxInFlight)
		g.limits[ref] = l
	}
	l.resize(p.MaxInFlight)
	if l.full() {
		return false
	}
	if g.inFlight >= g.slots || l.slow && g.slow >= g.slots/2 {
		g.waiting[ref] = struct{}{}
		return false
	}
	l.inFlight++
	g.inFlight++
	if l.slow {
		g.slow++
		g.tickets[ref]++
	}
	return true
}

// find returns the endpoint when deliveries to it may go out now.
func (g *gate) find(ref endpoint.Ref) *endpoint.Endpoint {
	snapshot := g.endpoints.Load()
	if snapshot == nil {
		return nil
	}
	p := snapshot.Get(ref)
	if p == nil || p.Hold != endpoint.HoldNone {
		return nil
	}
	if gone := g.gone(ref); gone != "" && gone == p.Incarnation {
		return nil
	}
	return p
}

// release gives the slot back and returns the endpoints to unpark: this one, and those that waited for a slot.
func (g *gate) release(ref endpoint.Ref, o delivery.Outcome) []endpoint.Ref {
	g.mu.Lock()
	defer g.mu.Unlock()
	l := g.limits[ref]
	l.inFlight--
	g.inFlight--
	if g.tickets[ref] > 0 {
		g.slow--
		if g.tickets[ref]--; g.tickets[ref] == 0 {
			delete(g.tickets, ref)
		}
	}
	l.learn(o)
	unpark := make([]endpoint.Ref, 0, 1+len(g.waiting))
	unpark = append(unpark, ref)
	for waiting := range g.waiting {
		unpark = append(unpark, waiting)
	}
	clear(g.waiting)
	return unpark
}

// forget drops what is known of endpoints that are gone and have nothing in flight.
func (g *gate) forget() {
	snapshot := g.endpoints.Load()
	if snapshot == nil {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	for ref, l := range g.limits {
		if l.inFlight == 0 && snapshot.Get(ref) == nil {
			delete(g.limits, ref)
		}
	}
}

func (g *gate) flying() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.inFlight
}
