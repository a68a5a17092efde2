// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package queuetest

import (
	"bytes"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/garyclub/webhook-operator/internal/delivery"
	"github.com/garyclub/webhook-operator/internal/endpoint"
	"github.com/garyclub/webhook-operator/internal/event"
	"github.com/garyclub/webhook-operator/internal/queue"
)

func testLife(t *testing.T, engine Engine) {
	b := start(t, engine, Limits{})
	item := Item(b.clock.Now(), `{"a":1}`, Endpoint("a"))
	accepted, err := b.Append(t.Context(), []queue.Item{item})
	b.must(err)
	equal(b, "answer", accepted[0], queue.Accepted{EventID: item.Event.ID, Deliveries: 1})
	l := b.lease()
	want := delivery.Delivery{
		Ref: Endpoint("a").Ref, UID: "uid-a", EventID: item.Event.ID, Trigger: delivery.TriggerEvent,
		State: delivery.Pending, Accepted: item.Event.Accepted, Deadline: item.Event.Accepted.Add(24 * time.Hour),
		Due: item.Event.Accepted, MaxAttempts: 4,
	}
	if diff := cmp.Diff(want, l.Delivery()); diff != "" {
		t.Fatalf("delivery differs (-want +got):\n%s", diff)
	}
	e, err := l.Event()
	b.must(err)
	if diff := cmp.Diff(item.Event, e); diff != "" {
		t.Fatalf("event differs (-want +got):\n%s", diff)
	}
	b.none(open{})
	b.settle(l, delivery.OutcomeDelivered)
	if err := l.Settle(t.Context(), l.Delivery()); err == nil {
		t.Fatal("a lease was settled twice")
	}
	b.none(open{})
	equal(b, "waiting endpoints", len(b.Waiting()), 0)
	s := b.Stats()
	equal(b, "live bytes", s.LiveBytes, 0)
	equal(b, "in flight", s.InFlight, 0)
}

func testRetry(t *testing.T, engine Engine) {
	b := start(t, engine, Limits{})
	b.add("one", Endpoint("a"))
	for n := range 3 {
		l := b.lease()
		equal(b, "attempts so far", l.Delivery().AttemptCount, n)
		d := b.settle(l, delivery.OutcomeTimedOut)
		b.clock.Advance(d.Wait - 2*time.Millisecond)
		b.none(open{})
		b.clock.Advance(3 * time.Millisecond)
	}
	d := b.settle(b.lease(), delivery.OutcomeTimedOut)
	equal(b, "state", d.State, delivery.Failed)
	b.clock.Advance(time.Hour)
	b.none(open{})
	records := b.outbox()
	equal(b, "records", len(records), 1)
	equal(b, "attempts recorded", len(records[0].Record.Attempts), 4)
	equal(b, "redeliverable", records[0].Record.RedeliverableUntil.IsZero(), false)
}

func testFanOut(t *testing.T, engine Engine) {
	b := start(t, engine, Limits{})
	equal(b, "deliveries", b.add("one", Endpoint("a"), Endpoint("b"), Endpoint("c")).Deliveries, 3)
	seen := map[string]bool{}
	var retries []queue.Lease
	for range 3 {
		l := b.lease()
		seen[l.Delivery().Ref.Name] = true
		retries = append(retries, l)
	}
	equal(b, "endpoints seen", len(seen), 3)
	b.settle(retries[0], delivery.OutcomeDelivered)
	b.settle(retries[1], delivery.OutcomeRejected)
	b.settle(retries[2], delivery.OutcomeRejected)
	b.clock.Advance(10 * time.Second)
	for range 2 {
		l := b.lease()
		e, err := l.Event()
		b.must(err)
		equal(b, "payload", string(e.Payload), "one")
		b.settle(l, delivery.OutcomeDelivered)
	}
	equal(b, "live bytes", b.Stats().LiveBytes, 0)
	// Settled at once, the last two share a batch.
	b.add("two", Endpoint("a"), Endpoint("b"))
	var wg sync.WaitGroup
	for _, l := range []queue.Lease{b.lease(), b.lease()} {
		wg.Go(func() { b.settle(l, delivery.OutcomeDelivered) })
	}
	wg.Wait()
	equal(b, "live bytes", b.Stats().LiveBytes, 0)
}

func testShare(t *testing.T, engine Engine) {
	b := start(t, engine, Limits{MaxBytes: 1 << 20, EndpointShare: 0.25})
	payload := string(bytes.Repeat([]byte("x"), 100<<10))
	for range 5 {
		b.add(payload, Endpoint("a"))
	}
	b.add("small", Endpoint("b"))
	a := b.counters("a")
	if a.Failed == 0 || a.Pending == 0 || a.Failed+a.Pending != 5 {
		t.Fatalf("%d failed and %d pending, want some of each and 5 in all", a.Failed, a.Pending)
	}
	equal(b, "pending of b", b.counters("b").Pending, 1)
	full := 0
	for _, o := range b.outbox() {
		if o.Record.Reason == delivery.ReasonQueueFull {
			full++
		}
	}
	equal(b, "records of QueueFull", int64(full), a.Failed)
}

func testFull(t *testing.T, engine Engine) {
	b := start(t, engine, Limits{MaxBytes: 1 << 20, EndpointShare: 1})
	payload := string(bytes.Repeat([]byte("x"), 100<<10))
	var err error
	n := int64(0)
	for ; err == nil && n < 20; n++ {
		_, err = b.Append(t.Context(), []queue.Item{Item(b.clock.Now(), payload, Endpoint("a"))})
	}
	if !errors.Is(err, queue.ErrFull) {
		t.Fatalf("error is %v, want ErrFull", err)
	}
	equal(b, "pending", b.counters("a").Pending, n-1)
	b.settle(b.lease(), delivery.OutcomeDelivered)
	b.add(payload, Endpoint("a"))
}

func keyed(b *bench, key byte, payload string, endpoints ...*endpoint.Endpoint) queue.Item {
	item := Item(b.clock.Now(), payload, endpoints...)
	item.Key = [32]byte{key}
	return item
}

func testIdempotency(t *testing.T, engine Engine) {
	b := start(t, engine, Limits{})
	accepted, err := b.Append(t.Context(), []queue.Item{keyed(b, 1, "one", Endpoint("a"))})
	b.must(err)
	b.restart()
	again, err := b.Append(t.Context(), []queue.Item{
		keyed(b, 1, "one", Endpoint("a"), Endpoint("b")), keyed(b, 2, "two", Endpoint("a")), keyed(b, 2, "two", Endpoint("a")),
	})
	b.must(err)
	accepted[0].Repeated = true
	equal(b, "answer", again[0], accepted[0])
	equal(b, "first of a pair is repeated", again[1].Repeated, false)
	equal(b, "second of a pair is repeated", again[2].Repeated, true)
	equal(b, "id of the pair", again[2].EventID, again[1].EventID)
	equal(b, "pending", b.counters("a").Pending, 2)
	_, err = b.Append(t.Context(), []queue.Item{
		Item(b.clock.Now(), "three", Endpoint("a")), keyed(b, 3, "four", Endpoint("a")), keyed(b, 1, "other", Endpoint("a")),
	})
	if !errors.Is(err, queue.ErrKeyReused) {
		t.Fatalf("error is %v, want ErrKeyReused", err)
	}
	equal(b, "pending", b.counters("a").Pending, 2)
	equal(b, "keys", b.Stats().IdempotencyKeys, 2)
}

func testIdempotencyAtOnce(t *testing.T, engine Engine) {
	b := start(t, engine, Limits{})
	var wg sync.WaitGroup
	answers := make([]queue.Accepted, 64)
	for i := range answers {
		wg.Go(func() {
			accepted, err := b.Append(t.Context(), []queue.Item{keyed(b, 7, "one", Endpoint("a"))})
			if err != nil {
				t.Error(err)
				return
			}
			answers[i] = accepted[0]
		})
	}
	wg.Wait()
	first := 0
	for _, a := range answers {
		if !a.Repeated {
			first++
		}
		equal(b, "event", a.EventID, answers[0].EventID)
	}
	equal(b, "answers that are no repeat", first, 1)
	equal(b, "pending", b.counters("a").Pending, 1)
}

func testIdempotencyWindow(t *testing.T, engine Engine) {
	b := start(t, engine, Limits{IdempotencyWindow: time.Hour, IdempotencyKeys: 10})
	for key := range byte(15) {
		_, err := b.Append(t.Context(), []queue.Item{keyed(b, key+1, "one", Endpoint("a"))})
		b.must(err)
	}
	_, err := b.Append(t.Context(), []queue.Item{keyed(b, 1, "another", Endpoint("a"))})
	b.must(err) // the oldest was dropped for the number
	b.clock.Advance(time.Hour + time.Minute)
	accepted, err := b.Append(t.Context(), []queue.Item{keyed(b, 15, "another", Endpoint("a"))})
	b.must(err)
	equal(b, "repeated", accepted[0].Repeated, false)
	until(b, "only the new key is left", func() bool { return b.Stats().IdempotencyKeys == 1 })
}

// until waits for what an engine does on its own, in real time.
func until(b *bench, what string, done func() bool) {
	b.Helper()
	for limit := time.Now().Add(20 * time.Second); !done(); {
		if time.Now().After(limit) {
			b.Fatalf("not seen: %s", what)
		}
		<-time.After(time.Millisecond)
	}
}

func testMatchLater(t *testing.T, engine Engine) {
	b := start(t, engine, Limits{})
	item := Item(b.clock.Now(), "one")
	item.Matched = false
	accepted, err := b.Append(t.Context(), []queue.Item{item})
	b.must(err)
	equal(b, "deliveries", accepted[0].Deliveries, -1)
	b.restart()
	equal(b, "unmatched", b.Stats().Unmatched, 1)
	var mu sync.Mutex
	var known []*endpoint.Endpoint
	asked := make(chan struct{}, 100)
	done := make(chan error)
	go func() {
		done <- b.MatchWaiting(t.Context(), func(*event.Event) ([]*endpoint.Endpoint, bool) {
			mu.Lock()
			defer mu.Unlock()
			asked <- struct{}{}
			return known, known != nil
		})
	}()
	<-asked
	b.none(open{})
	mu.Lock()
	known = []*endpoint.Endpoint{Endpoint("a"), Endpoint("b")}
	mu.Unlock()
	b.Rematch()
	for range 2 {
		l := b.lease()
		equal(b, "event", l.Delivery().EventID, item.Event.ID)
		b.settle(l, delivery.OutcomeDelivered)
	}
	late := Item(b.clock.Now(), "two")
	late.Matched = false
	_, err = b.Append(t.Context(), []queue.Item{late})
	b.must(err)
	b.settle(b.lease(), delivery.OutcomeDelivered)
	b.settle(b.lease(), delivery.OutcomeDelivered)
	equal(b, "unmatched", b.Stats().Unmatched, 0)
	equal(b, "live bytes", b.Stats().LiveBytes, 0)
	b.must(b.Close())
	if err := <-done; !errors.Is(err, queue.ErrClosed) {
		t.Fatalf("error is %v, want ErrClosed", err)
	}
}

func testBacklog(t *testing.T, engine Engine) {
	const n = 1000
	b := start(t, engine, Limits{EndpointShare: 1})
	var want []string
	for i := range n / 10 {
		var items []queue.Item
		for j := range 10 {
			items = append(items, Item(b.clock.Now(), fmt.Sprint(i, j), Endpoint("a")))
			want = append(want, items[j].Event.ID)
		}
		_, err := b.Append(t.Context(), items)
		b.must(err)
		b.clock.Advance(time.Millisecond)
	}
	var got []string
	for i := range n {
		if i == n/2 {
			b.restart()
		}
		l := b.lease()
		got = append(got, l.Delivery().EventID)
		b.settle(l, delivery.OutcomeDelivered)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatalf("order differs (-want +got):\n%s", diff)
	}
	b.none(open{})
	equal(b, "succeeded", b.counters("a").Succeeded, n)
}
