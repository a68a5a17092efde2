// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package deliver

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/garyclub/webhook-operator/internal/delivery"
	"github.com/garyclub/webhook-operator/internal/endpoint"
)

func ref(name string) endpoint.Ref { return endpoint.Ref{Namespace: "shop", Name: name} }

// gateOf returns a gate over endpoints of the names.
func gateOf(slots int, names ...string) *gate {
	list := make([]*endpoint.Endpoint, len(names))
	for i, name := range names {
		list[i] = &endpoint.Endpoint{Ref: ref(name), MaxInFlight: 16, Incarnation: "1"}
	}
	var current endpoint.Current
	current.Store(endpoint.NewSnapshot(list))
	return newGate(&current, func(endpoint.Ref) string { return "" }, slots)
}

// admitted is how many of n attempts for the name begin.
func (g *gate) admitted(name string, n int) int {
	count := 0
	for range n {
		if g.Admit(ref(name)) {
			count++
		}
	}
	return count
}

func (g *gate) answer(name string, o delivery.Outcome, n int) {
	for range n {
		g.release(ref(name), o)
	}
}

func TestGateHolds(t *testing.T) {
	list := []*endpoint.Endpoint{
		{Ref: ref("open"), Incarnation: "1"},
		{Ref: ref("suspended"), Hold: endpoint.HoldSuspended},
		{Ref: ref("refused"), Hold: endpoint.HoldAddressRefused},
		{Ref: ref("gone"), Incarnation: "1"},
		{Ref: ref("back"), Incarnation: "2"},
	}
	var current endpoint.Current
	g := newGate(&current, func(r endpoint.Ref) string {
		if r.Name == "gone" || r.Name == "back" {
			return "1"
		}
		return ""
	}, 10)
	if g.Admit(ref("open")) {
		t.Error("admitted before the first list of endpoints")
	}
	current.Store(endpoint.NewSnapshot(list))
	for name, want := range map[string]bool{"open": true, "suspended": false, "refused": false, "gone": false, "back": true, "deleted": false} {
		if got := g.Admit(ref(name)); got != want {
			t.Errorf("%s is admitted: %v, want %v", name, got, want)
		}
	}
	if g.inFlight != 2 {
		t.Errorf("%d in flight, want 2", g.inFlight)
	}
}

func TestGateLimitsAnEndpoint(t *testing.T) {
	g := gateOf(100, "a")
	if n := g.admitted("a", 20); n != startLimit {
		t.Fatalf("%d begin, want %d", n, startLimit)
	}
	g.answer("a", delivery.OutcomeDelivered, 4)
	if n := g.admitted("a", 20); n != 5 {
		t.Errorf("after a round of answers %d begin, want 5", n)
	}
	g.answer("a", delivery.OutcomeTimedOut, 5)
	if n := g.admitted("a", 20); n != 1 {
		t.Errorf("after it hung %d begin, want 1", n)
	}
}

func TestHangingEndpointsLeaveSlotsToTheOthers(t *testing.T) {
	const slots = 16
	names := []string{"good", "new"}
	for i := range 40 {
		names = append(names, fmt.Sprintf("hanging-%d", i))
	}
	g := gateOf(slots, names...)
	g.admitted("good", 1)
	g.answer("good", delivery.OutcomeDelivered, 1)
	for _, name := range names[2:] {
		if g.admitted(name, 1) == 1 {
			g.answer(name, delivery.OutcomeTimedOut, 1)
		}
	}
	hanging := 0
	for _, name := range names[2:] {
		hanging += g.admitted(name, 5)
	}
	if hanging != slots/2 {
		t.Errorf("hanging endpoints have %d slots of %d", hanging, slots)
	}
	if n := g.admitted("new", 10); n != 4 {
		t.Errorf("an endpoint that nothing is known of has %d slots, want 4", n)
	}
	if n := g.admitted("good", 10); n != 4 {
		t.Errorf("the endpoint that answers has %d slots, want 4", n)
	}
}

func TestEndpointsThatHaveShownNothingLeaveSlotsToTheOthers(t *testing.T) {
	const slots = 16
	g := gateOf(slots, "good", "a", "b", "c", "d", "e")
	g.admitted("good", 1)
	g.answer("good", delivery.OutcomeDelivered, 1)
	fresh := 0
	for _, name := range []string{"a", "b", "c", "d", "e"} {
		fresh += g.admitted(name, 10)
	}
	if fresh != slots*3/4 {
		t.Errorf("endpoints that have shown nothing have %d slots of %d", fresh, slots)
	}
	if n := g.admitted("good", 10); n != 4 {
		t.Errorf("the endpoint that answers has %d slots, want 4", n)
	}
}

func TestReleaseNamesThoseThatWaited(t *testing.T) {
	g := gateOf(2, "a", "b", "c", "d")
	for _, name := range []string{"a", "b", "c", "d"} {
		g.limits[ref(name)] = &limit{max: 1, current: 1, class: answers}
	}
	for _, name := range []string{"a", "b", "c", "d", "c"} {
		g.Admit(ref(name))
	}
	if got, want := g.release(ref("a"), delivery.OutcomeDelivered), []endpoint.Ref{ref("a"), ref("c")}; !slices.Equal(got, want) {
		t.Errorf("one free slot names %v, want %v: as many as there are slots, in their order", got, want)
	}
	// c had nothing to deliver any more, and the last release names all that are left.
	if got, want := g.release(ref("b"), delivery.OutcomeDelivered), []endpoint.Ref{ref("b"), ref("d")}; !slices.Equal(got, want) {
		t.Errorf("the last release names %v, want %v", got, want)
	}
	if g.inFlight != 0 || len(g.tickets) != 0 || g.held != [classes]int{} || len(g.namespaces) != 0 {
		t.Errorf("%d in flight, tickets %v, held %v, namespaces %v after all was released", g.inFlight, g.tickets, g.held, g.namespaces)
	}
}

// sharedGate is one of which no namespace has more than half, with endpoints of the names, as in namespace/name. Each of
// them may have one attempt under way, and has the class.
func sharedGate(slots int, of map[string]class) *gate {
	var list []*endpoint.Endpoint
	g := gateOf(slots)
	g.perNamespace = slots / 2
	for name, c := range of {
		e := &endpoint.Endpoint{Ref: shared(name), MaxInFlight: 1, Incarnation: "1"}
		list = append(list, e)
		g.limits[e.Ref] = &limit{max: 1, current: 1, class: c}
	}
	g.endpoints.(*endpoint.Current).Store(endpoint.NewSnapshot(list))
	return g
}

func shared(name string) endpoint.Ref {
	namespace, name, _ := strings.Cut(name, "/")
	return endpoint.Ref{Namespace: namespace, Name: name}
}

func TestHangingEndpointsOfANamespaceLeaveItsSlotsToItsOthers(t *testing.T) {
	const slots = 32 // 16 for a namespace
	of := map[string]class{}
	for i := range slots {
		for c, name := range []string{answers: "good", unproven: "new", hanging: "hanging"} {
			of[fmt.Sprintf("a/%s%d", name, i)], of[fmt.Sprintf("b/%s%d", name, i)] = class(c), class(c)
		}
	}
	g := sharedGate(slots, of)
	begin := func(name string) (n int) {
		for i := range slots {
			if g.Admit(shared(fmt.Sprint(name, i))) {
				n++
			}
		}
		return n
	}
	for _, namespace := range []string{"a", "b"} {
		for _, tc := range []struct {
			name string
			want int
		}{{"hanging", 8}, {"new", 4}, {"good", 4}} {
			if n := begin(namespace + "/" + tc.name); n != tc.want {
				t.Errorf("namespace %s: %d of its endpoints named %s begin, want %d", namespace, n, tc.name, tc.want)
			}
		}
	}
	if g.inFlight != slots {
		t.Errorf("%d are in flight, want all %d", g.inFlight, slots)
	}
}

// Whoever a free slot is offered to must be able to take it, or it stays free while others wait.
func TestASlotIsOfferedToTheNextThatCanTakeIt(t *testing.T) {
	g := sharedGate(4, map[string]class{"a/1": answers, "a/2": answers, "a/3": answers, "a/4": answers, "b/1": answers, "b/2": answers, "c/1": answers})
	release := func(name string, want ...string) {
		t.Helper()
		var refs []endpoint.Ref
		for _, name := range append([]string{name}, want...) {
			refs = append(refs, shared(name))
		}
		if got := g.release(shared(name), delivery.OutcomeDelivered); !slices.Equal(got, refs) {
			t.Errorf("the end of %s offers %v, want %v", name, got, refs)
		}
	}
	for _, name := range []string{"a/1", "b/1", "b/2"} {
		g.Admit(shared(name))
	}
	g.Admit(shared("a/2"))
	for _, name := range []string{"a/3", "a/4", "c/1"} { // all slots are taken: in one line
		if g.Admit(shared(name)) {
			t.Fatalf("%s begins without a slot", name)
		}
	}
	release("b/1", "c/1") // a has its half: its two wait for that
	g.Admit(shared("c/1"))
	release("a/1", "a/3")
	g.Admit(shared("a/3"))
	// The one that is first in the line has begun meanwhile, and is at its own limit.
	g.namespaces["a"].waiting[answers].order = slices.Insert(g.namespaces["a"].waiting[answers].order, 0, shared("a/3"))
	release("a/2", "a/4")
	release("a/3")
	release("b/2")
	release("c/1")
	if g.inFlight != 0 || len(g.namespaces) != 0 || len(g.tickets) != 0 {
		t.Errorf("%d in flight, namespaces %v, tickets %v after all was released", g.inFlight, g.namespaces, g.tickets)
	}
}

// Two of one namespace wait for two slots of all, of which it may have one: the other is for who comes behind them.
func TestSlotsArePromisedOnce(t *testing.T) {
	g := sharedGate(4, map[string]class{"a/1": answers, "a/2": answers, "a/3": answers, "b/1": answers, "b/2": answers, "b/3": answers, "c/1": answers})
	for _, name := range []string{"a/1", "b/1", "b/2"} {
		g.Admit(shared(name))
	}
	for _, name := range []string{"a/2", "a/3", "c/1"} {
		g.waiting[answers].add(shared(name))
	}
	want := []endpoint.Ref{shared("b/1"), shared("a/2"), shared("c/1")}
	if got := g.release(shared("b/1"), delivery.OutcomeDelivered); !slices.Equal(got, want) {
		t.Errorf("two free slots name %v, want %v", got, want)
	}
	want = []endpoint.Ref{shared("a/1"), shared("a/3")}
	if got := g.release(shared("a/1"), delivery.OutcomeDelivered); !slices.Equal(got, want) {
		t.Errorf("the end of the namespace's own names %v, want %v", got, want)
	}
}

func TestSmallestGateAdmits(t *testing.T) {
	g := gateOf(1, "a")
	if g.admitted("a", 3) != 1 {
		t.Error("one slot does not admit a new endpoint")
	}
	g.answer("a", delivery.OutcomeTimedOut, 1)
	if g.admitted("a", 3) != 1 {
		t.Error("one slot does not admit an endpoint that hangs")
	}
}

func TestForget(t *testing.T) {
	g := gateOf(10, "a", "b")
	g.Admit(ref("a"))
	g.Admit(ref("b"))
	g.answer("a", delivery.OutcomeDelivered, 1)
	g.endpoints.(*endpoint.Current).Store(endpoint.NewSnapshot(nil))
	g.forget()
	if _, ok := g.limits[ref("a")]; ok || len(g.limits) != 1 {
		t.Errorf("limits are kept for %d endpoints, want that in flight alone", len(g.limits))
	}
	g.answer("b", delivery.OutcomeDelivered, 1)
}
