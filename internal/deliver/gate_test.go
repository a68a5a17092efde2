// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package deliver

import (
	"fmt"
	"slices"
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
	if g.inFlight != 0 || len(g.tickets) != 0 || g.held != [classes]int{} {
		t.Errorf("%d in flight, tickets %v, held %v after all was released", g.inFlight, g.tickets, g.held)
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
