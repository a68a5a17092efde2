// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package endpoint

import (
	"fmt"
	"testing"

	"github.com/garyclub/webhook-operator/internal/event"
)

// crowd are that many endpoints, each for an agent of its own and all for the same event.
func crowd(n int) []*Endpoint {
	all := make([]*Endpoint, n)
	for i := range all {
		all[i] = named("clinic", fmt.Sprintf("e%d", i), fmt.Sprint(i), "1")
		all[i].Events, all[i].Agents = []event.Type{event.CallCompleted, event.BookingCreated}, []string{fmt.Sprintf("agent_%d", i)}
	}
	return all
}

// BenchmarkMatch finds the one endpoint of an agent among all those that ask for the event.
func BenchmarkMatch(b *testing.B) {
	for _, n := range []int{10, 5000} {
		b.Run(fmt.Sprintf("endpoints=%d", n), func(b *testing.B) {
			s := NewSnapshot(crowd(n))
			e := &event.Event{Namespace: "clinic", Type: event.CallCompleted, AgentID: fmt.Sprintf("agent_%d", n/2)}
			b.ReportAllocs()
			for b.Loop() {
				if got := len(s.Match(e)); got != 1 {
					b.Fatal(got)
				}
			}
		})
	}
}

// BenchmarkMatchOwnType does so where each endpoint asks for a type of its own.
func BenchmarkMatchOwnType(b *testing.B) {
	for _, n := range []int{10, 5000} {
		b.Run(fmt.Sprintf("endpoints=%d", n), func(b *testing.B) {
			all := crowd(n)
			for i, p := range all {
				p.Events, p.Agents = []event.Type{event.Type(fmt.Sprintf("custom.e%d", i))}, nil
			}
			s := NewSnapshot(all)
			e := &event.Event{Namespace: "clinic", Type: event.Type(fmt.Sprintf("custom.e%d", n/2))}
			b.ReportAllocs()
			for b.Loop() {
				if got := len(s.Match(e)); got != 1 {
					b.Fatal(got)
				}
			}
		})
	}
}

// BenchmarkNewSnapshot is what a change of one endpoint costs a dispatcher.
func BenchmarkNewSnapshot(b *testing.B) {
	for _, n := range []int{10, 5000} {
		b.Run(fmt.Sprintf("endpoints=%d", n), func(b *testing.B) {
			all := crowd(n)
			b.ReportAllocs()
			for b.Loop() {
				NewSnapshot(all)
			}
		})
	}
}
