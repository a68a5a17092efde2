// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package deliver

import (
	"sync"

	"github.com/garyclub/webhook-operator/internal/delivery"
	"github.com/garyclub/webhook-operator/internal/endpoint"
)

// gate admits deliveries: by the endpoint's hold, by its limit, and by the slots of all. Endpoints that hang may use half
// of the slots, and with those that have shown nothing yet three quarters: whoever answers always finds a quarter, and
// so does whoever is new beside them.
type gate struct {
	endpoints Endpoints
	gone      func(endpoint.Ref) string

	mu       sync.Mutex
	slots    int
	inFlight int
	held     [classes]int // of those in flight, by the class at their admission
	limits   map[endpoint.Ref]*limit
	tickets  map[endpoint.Ref][classes]int // held, by endpoint
	waiting  [classes]line                 // refused for want of a slot, not for their own limit
}

// line is endpoints in the order in which they were refused.
type line struct {
	order []endpoint.Ref
	in    map[endpoint.Ref]struct{}
}

func (l *line) add(ref endpoint.Ref) {
	if _, ok := l.in[ref]; ok {
		return
	}
	if l.in == nil {
		l.in = map[endpoint.Ref]struct{}{}
	}
	l.in[ref] = struct{}{}
	l.order = append(l.order, ref)
}

// take returns the first n.
func (l *line) take(n int) []endpoint.Ref {
	n = min(n, len(l.order))
	taken := l.order[:n:n]
	l.order = l.order[n:]
	for _, ref := range taken {
		delete(l.in, ref)
	}
	return taken
}

func newGate(endpoints Endpoints, gone func(endpoint.Ref) string, slots int) *gate {
	return &gate{endpoints: endpoints, gone: gone, slots: slots, limits: map[endpoint.Ref]*limit{},
		tickets: map[endpoint.Ref][classes]int{}}
}

// free is how many slots the class may still take.
func (g *gate) free(c class) int {
	free := g.slots - g.inFlight
	if c != answers {
		free = min(free, max(g.slots*3/4, 1)-g.held[unproven]-g.held[hanging])
	}
	if c == hanging {
		free = min(free, max(g.slots/2, 1)-g.held[hanging])
	}
	return max(free, 0)
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
	if g.free(l.class) == 0 {
		g.waiting[l.class].add(ref)
		return false
	}
	l.inFlight++
	g.inFlight++
	g.count(ref, l.class, 1)
	return true
}

func (g *gate) count(ref endpoint.Ref, c class, n int) {
	g.held[c] += n
	t := g.tickets[ref]
	if t[c] += n; t == [classes]int{} {
		delete(g.tickets, ref)
		return
	}
	g.tickets[ref] = t
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
	// Which of the endpoint's attempts this was is not known, nor does it matter: the worst class goes first.
	for c := classes; c > 0; c-- {
		if g.tickets[ref][c-1] > 0 {
			g.count(ref, c-1, -1)
			break
		}
	}
	l.learn(o)
	return g.next(ref)
}

// next is ref and as many of those that wait as there are slots. When nothing is in flight it is all of them: no later
// release would name those whose forerunners had nothing to deliver any more.
func (g *gate) next(ref endpoint.Ref) []endpoint.Ref {
	unpark := []endpoint.Ref{ref}
	for c := range classes {
		n := g.free(c)
		if g.inFlight == 0 {
			n = len(g.waiting[c].order)
		}
		unpark = append(unpark, g.waiting[c].take(n)...)
	}
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
