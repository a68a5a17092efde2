// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package deliver

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"testing"

	"github.com/garyclub/webhook-operator/internal/delivery"
	"github.com/garyclub/webhook-operator/internal/endpoint"
	"github.com/garyclub/webhook-operator/internal/event"
)

// instantPoster answers at once.
type instantPoster struct{}

func (instantPoster) Post(context.Context, *endpoint.Endpoint, http.Header, []byte) (delivery.Reply, *delivery.Failure) {
	return delivery.Reply{StatusCode: http.StatusOK}, nil
}

// BenchmarkAttempt signs, makes the headers and classifies; nothing is sent.
func BenchmarkAttempt(b *testing.B) {
	r := Request{Endpoint: endpointOf("a"), Number: 1,
		Event: &event.Event{ID: event.NewID(), Namespace: "n", Type: event.CallCompleted, Payload: bytes.Repeat([]byte("x"), 1<<10)}}
	b.ReportAllocs()
	for b.Loop() {
		if a := Attempt(b.Context(), instantPoster{}, r); a.Outcome != delivery.OutcomeDelivered {
			b.Fatal(a)
		}
	}
}

func BenchmarkClassify(b *testing.B) {
	p := endpointOf("a")
	for _, code := range []int{http.StatusOK, http.StatusInternalServerError} {
		b.Run(fmt.Sprintf("code=%d", code), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				classify(p, code, 0)
			}
		})
	}
}

// BenchmarkGate admits and releases one delivery of an endpoint among many.
func BenchmarkGate(b *testing.B) {
	for _, n := range []int{10, 5000} {
		b.Run(fmt.Sprintf("endpoints=%d", n), func(b *testing.B) {
			var all []*endpoint.Endpoint
			for i := range n {
				all = append(all, endpointOf(fmt.Sprintf("e%d", i)))
			}
			current := &endpoint.Current{}
			current.Store(endpoint.NewSnapshot(all))
			g := newGate(current, func(endpoint.Ref) string { return "" }, 1024)
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				ref := all[i%n].Ref
				if !g.Admit(ref) {
					b.Fatal("refused")
				}
				g.release(ref, delivery.OutcomeDelivered)
			}
		})
	}
}
