// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package deliver

import (
	"sync"

	"github.com/garyclub/webhook-operator/internal/delivery"
	"github.com/garyclub/webhook-operator/internal/endpoint"
)

// gate admits deliveries: by the endpoint's hold, by its limit, by the slots of all, and by those of its namespace. Where
// many namespaces share a gate, a thousand endpoints of one whose receivers take seconds to answer would otherwise have
// all slots, and an endpoint of another namespace would wait for them.
type gate struct {
	endpoints Endpoints
	gone      func(endpoint.Ref) string

	mu           sync.Mutex
	room                          // of all
	perNamespace int              // slots
	namespaces   map[string]*room // of those that have something in flight
	limits       map[endpoint.Ref]*limit
	tickets      map[endpoint.Ref][classes]int // held, by endpoint
}

// room is slots and who has them. Endpoints that hang may use half of them, and with those that have shown nothing yet
// three quarters: whoever answers always finds a quarter, and so does whoever is new beside them.
type room struct {
	slots    int
	inFlight int
	held     [classes]int  // of those in flight, by the class at their admission
	waiting  [classes]line // refused for want of a slot here, not for their own limit
}

// free is how many slots the class may still take.
func (r *room) free(c class) int {
	free := r.slots - r.inFlight
	if c != answers {
		free = min(free, max(r.slots*3/4, 1)-r.held[unproven]-r.held[hanging])
	}
	if c == hanging {
		free = min(free, max(r.slots/2, 1)-r.held[hanging])
	}
	return max(free, 0)
}

// offered takes as many of those that wait as there are slots, and that can use one. When nothing is in flight it is all
// of them: no later release would name those whose forerunners had nothing to deliver any more.
func (r *room) offered(c class, usable func(endpoint.Ref) bool) []endpoint.Ref {
	n := r.free(c)
	if r.inFlight == 0 {
		n = len(r.waiting[c].order)
	}
	return r.waiting[c].take(n, usable)
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

// take returns the first n that are usable; those before them leave the line too.
func (l *line) take(n int, usable func(endpoint.Ref) bool) (taken []endpoint.Ref) {
	for len(l.order) > 0 && len(taken) < n {
		ref := l.order[0]
		l.order = l.order[1:]
		delete(l.in, ref)
		if usable(ref) {
			taken = append(taken, ref)
		}
	}
	return taken
}

// newGate lets a namespace have all slots; less is to be set before it is used.
func newGate(endpoints Endpoints, gone func(endpoint.Ref) string, slots int) *gate {
	return &gate{endpoints: endpoints, gone: gone, room: room{slots: slots}, perNamespace: slots,
		namespaces: map[string]*room{}, limits: map[endpoint.Ref]*limit{}, tickets: map[endpoint.Ref][classes]int{}}
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
	own := g.namespaces[ref.Namespace]
	if own == nil {
		own = &room{slots: g.perNamespace}
		g.namespaces[ref.Namespace] = own
	}
	if own.free(l.class) == 0 {
		own.waiting[l.class].add(ref)
		return false
	}
	l.inFlight++
	g.inFlight++
	own.inFlight++
	g.count(ref, l.class, 1)
	return true
}

func (g *gate) count(ref endpoint.Ref, c class, n int) {
	g.held[c] += n
	g.namespaces[ref.Namespace].held[c] += n
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
	g.namespaces[ref.Namespace].inFlight--
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

// next is ref and as many of those that wait as there are slots, of its namespace and of all. One that would be refused
// again is passed over, so that its slot is offered to the next.
func (g *gate) next(ref endpoint.Ref) []endpoint.Ref {
	unpark, own := []endpoint.Ref{ref}, g.namespaces[ref.Namespace]
	for c := range classes {
		unpark = append(unpark, own.offered(c, g.notFull)...)
	}
	if own.inFlight == 0 {
		delete(g.namespaces, ref.Namespace)
	}
	promised := map[string]int{}
	for c := range classes {
		unpark = append(unpark, g.offered(c, func(ref endpoint.Ref) bool {
			own := g.namespaces[ref.Namespace]
			if own != nil && own.inFlight > 0 && own.free(c) <= promised[ref.Namespace] {
				own.waiting[c].add(ref) // until what its namespace has in flight ends
				return false
			}
			if !g.notFull(ref) {
				return false
			}
			promised[ref.Namespace]++
			return true
		})...)
	}
	return unpark
}

// notFull says whether the endpoint's own limit has room; when it has none, the endpoint's own release comes.
func (g *gate) notFull(ref endpoint.Ref) bool {
	l := g.limits[ref]
	return l == nil || !l.full()
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
