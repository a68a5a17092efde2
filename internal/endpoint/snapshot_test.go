// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package endpoint

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/garyclub/webhook-operator/internal/event"
)

// The index finds what Matches says, for events and endpoints of every combination.
func TestSnapshotMatchesWhatEndpointsAskFor(t *testing.T) {
	types := []event.Type{event.CallCompleted, event.BookingCreated, "custom.a"}
	agents := []string{"a1", "a2", "a3"}
	random := rand.New(rand.NewPCG(1, 2))
	some := func(n int) []int { return random.Perm(n)[:random.IntN(n)] }
	var all []*Endpoint
	for i := range 200 {
		p := named([]string{"one", "two"}[i%2], fmt.Sprintf("e%d", i), fmt.Sprint(i), "1")
		for _, k := range some(len(types)) {
			p.Events = append(p.Events, types[k])
		}
		for _, k := range some(len(agents)) {
			p.Agents = append(p.Agents, agents[k])
		}
		all = append(all, p)
	}
	s := NewSnapshot(all)
	matches := 0
	for _, namespace := range []string{"one", "two", "three"} {
		for _, kind := range append(types, "custom.b") {
			for _, agent := range append(agents, "", "a4") {
				e := &event.Event{Namespace: namespace, Type: kind, AgentID: agent}
				var want []string
				for _, p := range all {
					if p.Matches(e) {
						want = append(want, p.Name)
					}
				}
				got := names(s.Match(e))
				slices.Sort(want)
				slices.Sort(got)
				if !slices.Equal(got, want) {
					t.Errorf("%s %s %q matches %v, want %v", namespace, kind, agent, got, want)
				}
				matches += len(want)
			}
		}
	}
	if matches < 100 {
		t.Errorf("only %d matches were compared", matches)
	}
}
