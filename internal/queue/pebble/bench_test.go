// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package pebble

import (
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/garyclub/webhook-operator/internal/delivery"
	"github.com/garyclub/webhook-operator/internal/endpoint"
	"github.com/garyclub/webhook-operator/internal/queue"
	"github.com/garyclub/webhook-operator/internal/queue/queuetest"
)

// BenchmarkLife appends, leases and settles 1 KiB events on the real disk, from 64 goroutines for one of ten endpoints
// each.
func BenchmarkLife(b *testing.B) {
	q, err := Open(Options{Dir: b.TempDir()})
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = q.Close() }()
	var endpoints []*endpoint.Endpoint
	for i := range 10 {
		endpoints = append(endpoints, queuetest.Endpoint(string(rune('a'+i))))
	}
	payload := strings.Repeat("x", 1024)
	var turn atomic.Int64
	b.ReportAllocs()
	b.SetParallelism(32)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			item := queuetest.Item(time.Now(), payload, endpoints[turn.Add(1)%10])
			if _, err := q.Append(b.Context(), []queue.Item{item}); err != nil {
				b.Error(err)
				return
			}
			l, err := q.Lease(b.Context(), admitAll{})
			if err != nil {
				b.Error(err)
				return
			}
			if _, err := l.Event(); err != nil {
				b.Error(err)
			}
			d := l.Delivery()
			a := delivery.Attempt{Number: 1, Start: time.Now(), Outcome: delivery.OutcomeDelivered, StatusCode: 200}
			d = delivery.After(d, queuetest.Endpoint(d.Ref.Name), a, time.Now(), 0.5)
			if err := l.Settle(b.Context(), d); err != nil {
				b.Error(err)
			}
		}
	})
}
