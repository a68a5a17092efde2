// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package pebble

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/garyclub/webhook-operator/internal/delivery"
	"github.com/garyclub/webhook-operator/internal/endpoint"
	"github.com/garyclub/webhook-operator/internal/queue"
	"github.com/garyclub/webhook-operator/internal/queue/queuetest"
)

// roomy is a queue on the real disk that no benchmark fills.
func roomy(b *testing.B) *Queue {
	b.Helper()
	q, err := Open(Options{Dir: b.TempDir(), MaxBytes: 64 << 30, EndpointShare: 1})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = q.Close() })
	return q
}

// batchOf is that many events of 1 KiB for the endpoint.
func batchOf(n int, p *endpoint.Endpoint) []queue.Item {
	items := make([]queue.Item, n)
	for i := range items {
		items[i] = queuetest.Item(time.Now(), strings.Repeat("x", 1024), p)
	}
	return items
}

// fill appends n events in batches.
func fill(b *testing.B, q *Queue, n int, p *endpoint.Endpoint) {
	b.Helper()
	for ; n > 0; n -= 1000 {
		if _, err := q.Append(b.Context(), batchOf(min(n, 1000), p)); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkAppend stores events of 1 KiB, so many in a call, from so many goroutines at once. An operation is an event.
func BenchmarkAppend(b *testing.B) {
	for _, bc := range []struct{ batch, writers int }{{1, 1}, {1, 64}, {100, 1}, {100, 64}} {
		b.Run(fmt.Sprintf("batch=%d/writers=%d", bc.batch, bc.writers), func(b *testing.B) {
			q, p := roomy(b), queuetest.Endpoint("a")
			b.ReportAllocs()
			b.ResetTimer()
			share(b, bc.writers, bc.batch, func(n int) error {
				_, err := q.Append(b.Context(), batchOf(n, p))
				return err
			})
		})
	}
}

// BenchmarkLease leases and reads what waits, without settling it.
func BenchmarkLease(b *testing.B) {
	q, p := roomy(b), queuetest.Endpoint("a")
	fill(b, q, b.N, p)
	b.ReportAllocs()
	b.ResetTimer()
	for range b.N {
		l, err := q.Lease(b.Context(), admitAll{})
		if err != nil {
			b.Fatal(err)
		}
		if _, err := l.Event(); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkSettle settles leases as delivered, from so many goroutines at once.
func BenchmarkSettle(b *testing.B) {
	for _, writers := range []int{1, 64} {
		b.Run(fmt.Sprintf("writers=%d", writers), func(b *testing.B) {
			q, p := roomy(b), queuetest.Endpoint("a")
			fill(b, q, b.N, p)
			leases := make(chan queue.Lease, b.N)
			for range b.N {
				l, err := q.Lease(b.Context(), admitAll{})
				if err != nil {
					b.Fatal(err)
				}
				leases <- l
			}
			b.ReportAllocs()
			b.ResetTimer()
			share(b, writers, 1, func(int) error { return settleDelivered(b.Context(), <-leases, p) })
		})
	}
}

func settleDelivered(ctx context.Context, l queue.Lease, p *endpoint.Endpoint) error {
	now := time.Now()
	a := delivery.Attempt{Number: 1, Start: now, Outcome: delivery.OutcomeDelivered, StatusCode: 200}
	return l.Settle(ctx, delivery.After(l.Delivery(), p, a, now, 0.5))
}

// share has the benchmark's operations done by so many goroutines, in portions.
func share(b *testing.B, writers, portion int, do func(n int) error) {
	b.Helper()
	var left atomic.Int64
	left.Store(int64(b.N))
	var all sync.WaitGroup
	for range writers {
		all.Go(func() {
			for {
				n := left.Add(-int64(portion)) + int64(portion)
				if n <= 0 {
					return
				}
				if err := do(int(min(n, int64(portion)))); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
}
