// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package queuetest

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/garyclub/webhook-operator/internal/delivery"
	"github.com/garyclub/webhook-operator/internal/endpoint"
	"github.com/garyclub/webhook-operator/internal/queue"
)

func testExpireDeadline(t *testing.T, engine Engine) {
	b := start(t, engine, Limits{})
	b.add("one", Endpoint("a"))
	b.clock.Advance(23 * time.Hour)
	b.add("two", Endpoint("a"))
	b.clock.Advance(2 * time.Hour)
	n, next, err := b.Expire(t.Context(), Endpoint("a").Ref, false, delivery.ReasonDeadlineExceeded)
	b.must(err)
	equal(b, "ended", n, 1)
	equal(b, "next deadline", next, b.clock.Now().Add(22*time.Hour))
	l := b.lease()
	e, err := l.Event()
	b.must(err)
	equal(b, "what is left", string(e.Payload), "two")
	b.settle(l, delivery.OutcomeDelivered)
	b.none(open{})
	c := b.counters("a")
	equal(b, "failed", c.Failed, 1)
	equal(b, "pending", c.Pending, 0)
}

func testExpireEvery(t *testing.T, engine Engine) {
	b := start(t, engine, Limits{})
	for range 600 {
		b.add("one", Endpoint("a"))
	}
	b.add("other", Endpoint("b"))
	var flying queue.Lease
	for flying == nil {
		if l := b.lease(); l.Delivery().Ref.Name == "a" {
			flying = l
		} else {
			defer l.Release(b.clock.Now())
		}
	}
	n, next, err := b.Expire(t.Context(), Endpoint("a").Ref, true, delivery.ReasonEndpointDeleted)
	b.must(err)
	equal(b, "ended", n, 599)
	equal(b, "next deadline, of what is in flight", next, b.clock.Now().Add(24*time.Hour))
	equal(b, "pending", b.counters("a").Pending, 1)
	b.settle(flying, delivery.OutcomeDelivered)
	c := b.counters("a")
	equal(b, "failed", c.Failed, 599)
	equal(b, "succeeded", c.Succeeded, 1)
	equal(b, "pending", c.Pending, 0)
	b.none(only("a"))
	equal(b, "endpoints waiting", len(b.Waiting()), 1)
}

func testDeadlineAtLease(t *testing.T, engine Engine) {
	b := start(t, engine, Limits{})
	b.add("one", Endpoint("a"))
	b.clock.Advance(24*time.Hour + time.Second)
	b.none(open{})
	until(b, "the delivery has failed", func() bool { return b.counters("a").Failed == 1 })
	equal(b, "reason", b.outbox()[0].Record.Reason, delivery.ReasonDeadlineExceeded)
}

func testGone(t *testing.T, engine Engine) {
	b := start(t, engine, Limits{})
	p := Endpoint("a")
	b.add("one", p)
	b.must(b.HoldGone(t.Context(), p.Ref, "v1"))
	b.restart()
	equal(b, "gone", b.Gone(p.Ref), "v1")
	equal(b, "gone in counters", b.counters("a").Gone, "v1")
	b.must(b.HoldGone(t.Context(), p.Ref, ""))
	equal(b, "gone", b.Gone(p.Ref), "")
}

func testTurns(t *testing.T, engine Engine) {
	b := start(t, engine, Limits{})
	for range 50 {
		b.add("one", Endpoint("busy"))
	}
	b.add("one", Endpoint("quiet"))
	for range 3 {
		if b.lease().Delivery().Ref.Name == "quiet" {
			return
		}
	}
	t.Fatal("the quiet endpoint had no turn among three")
}

// only admits one endpoint.
type only string

func (o only) Admit(ref endpoint.Ref) bool { return ref.Name == string(o) }

func testGate(t *testing.T, engine Engine) {
	b := start(t, engine, Limits{})
	b.add("one", Endpoint("a"))
	b.add("two", Endpoint("a"))
	b.add("three", Endpoint("b"))
	l, err := b.Lease(t.Context(), only("b"))
	b.must(err)
	b.settle(l, delivery.OutcomeDelivered)
	b.none(only("b"))
	b.none(open{}) // parked: nobody is asked before Unpark
	b.Unpark(Endpoint("a").Ref)
	for _, want := range []string{"one", "two"} {
		l := b.lease()
		e, err := l.Event()
		b.must(err)
		equal(b, "payload", string(e.Payload), want)
		b.settle(l, delivery.OutcomeDelivered)
	}
}

func testUnparkAll(t *testing.T, engine Engine) {
	b := start(t, engine, Limits{})
	b.add("one", Endpoint("a"))
	b.none(only("b")) // a is parked, and then has nothing waiting any more
	_, _, err := b.Expire(t.Context(), Endpoint("a").Ref, true, delivery.ReasonDeadlineExceeded)
	b.must(err)
	equal(b, "endpoints waiting", len(b.Waiting()), 0)
	b.UnparkAll()
	b.add("two", Endpoint("a"))
	b.settle(b.lease(), delivery.OutcomeDelivered)
}

func testIdle(t *testing.T, engine Engine) {
	b := start(t, engine, Limits{})
	b.none(open{})
	equal(b, "idle when empty", b.Idle(), true)
	b.add("one", Endpoint("a"))
	b.add("two", Endpoint("held"))
	equal(b, "idle with something due", b.Idle(), false)
	l, err := b.Lease(t.Context(), only("a"))
	b.must(err)
	b.none(only("a"))
	equal(b, "idle with a lease", b.Idle(), false)
	d := b.settle(l, delivery.OutcomeRejected)
	b.none(only("a"))
	equal(b, "idle with a retry to come and a refused endpoint", b.Idle(), true)
	b.clock.Advance(d.Wait)
	equal(b, "idle with a retry due", b.Idle(), false)
}

func testOldestDue(t *testing.T, engine Engine) {
	b := start(t, engine, Limits{})
	equal(b, "empty", b.Stats().OldestDue, 0)
	b.add("one", Endpoint("a"))
	b.clock.Advance(time.Minute)
	b.add("two", Endpoint("b"))
	equal(b, "since the first", b.Stats().OldestDue, time.Minute)
	for b.lease().Delivery().Ref.Name != "a" {
	}
	var retry delivery.Delivery
	b.restart()
	for range 2 {
		retry = b.settle(b.lease(), delivery.OutcomeRejected)
	}
	equal(b, "none is due", b.Stats().OldestDue, 0)
	b.clock.Advance(retry.Wait + time.Minute)
	equal(b, "since the retries were due", b.Stats().OldestDue, time.Minute)
}

func testEnded(t *testing.T, engine Engine) {
	var mu sync.Mutex
	told := map[queue.Ended]int{}
	b := start(t, engine, Limits{MaxBytes: 1 << 20, EndpointShare: 0.01, Ended: func(all []queue.Ended) {
		mu.Lock()
		defer mu.Unlock()
		for _, e := range all {
			n := e.Count
			e.Count = 0
			told[e] += n
		}
	}})
	want := func(name string, state delivery.State, reason string, attempted bool, n int) {
		t.Helper()
		how := queue.Ended{Ref: Endpoint(name).Ref, State: state, Reason: reason, Attempted: attempted}
		// Told after the sync, which may be just after the answer.
		until(b, reason+" of "+name, func() bool {
			mu.Lock()
			defer mu.Unlock()
			return told[how] == n
		})
	}
	b.add("one", Endpoint("a"))
	b.settle(b.lease(), delivery.OutcomeDelivered)
	want("a", delivery.Delivered, "", true, 1)
	b.add("one", Endpoint("a"))
	b.settle(b.lease(), delivery.OutcomeGone)
	want("a", delivery.Failed, string(delivery.OutcomeGone), true, 1)
	var items []queue.Item
	for range 20 {
		items = append(items, Item(b.clock.Now(), "one", Endpoint("full")))
	}
	_, err := b.Append(t.Context(), items)
	b.must(err)
	pending := int(b.counters("full").Pending)
	want("full", delivery.Failed, delivery.ReasonQueueFull, false, 20-pending)
	b.add("late", Endpoint("b"))
	b.clock.Advance(25 * time.Hour)
	b.none(open{})
	want("b", delivery.Failed, delivery.ReasonDeadlineExceeded, false, 1)
	want("full", delivery.Failed, delivery.ReasonDeadlineExceeded, false, pending)
	b.add("one", Endpoint("c"))
	_, _, err = b.Expire(t.Context(), Endpoint("c").Ref, true, delivery.ReasonEndpointDeleted)
	b.must(err)
	want("c", delivery.Failed, delivery.ReasonEndpointDeleted, false, 1)
	b.add("killer", Endpoint("d"))
	for range delivery.MaxInterruptions {
		b.lease()
		b.crash()
	}
	want("d", delivery.Failed, delivery.ReasonInterrupted, false, 1)
}

func testRelease(t *testing.T, engine Engine) {
	b := start(t, engine, Limits{})
	b.add("one", Endpoint("a"))
	l := b.lease()
	l.Release(b.clock.Now().Add(time.Minute))
	b.none(open{})
	b.clock.Advance(time.Minute)
	l = b.lease()
	equal(b, "attempts", l.Delivery().AttemptCount, 0)
	b.settle(l, delivery.OutcomeDelivered)
}

func testWoken(t *testing.T, engine Engine) {
	b := start(t, engine, Limits{})
	leased := make(chan queue.Lease)
	for range 4 {
		go func() {
			if l, err := b.Lease(t.Context(), open{}); err == nil {
				leased <- l
			}
		}()
	}
	b.add("one", Endpoint("a"))
	d := b.settle(<-leased, delivery.OutcomeRejected)
	b.clock.Advance(d.Wait + time.Millisecond)
	b.settle(<-leased, delivery.OutcomeDelivered)
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(context.DeadlineExceeded)
	if _, err := b.Lease(ctx, open{}); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("error is %v, want the context's", err)
	}
}

func testRestart(t *testing.T, engine Engine) {
	b := start(t, engine, Limits{})
	id := b.ID()
	b.add("one", Endpoint("a"))
	b.lease()
	b.restart()
	equal(b, "queue id", b.ID(), id)
	l := b.lease()
	equal(b, "interruptions after a close", l.Delivery().Interruptions, 0)
	b.crash()
	equal(b, "queue id", b.ID(), id)
	l = b.lease()
	equal(b, "interruptions after a crash", l.Delivery().Interruptions, 1)
	b.settle(l, delivery.OutcomeRejected)
	b.clock.Advance(time.Minute)
	b.crash()
	l = b.lease()
	equal(b, "interruptions after an outcome", l.Delivery().Interruptions, 0)
	equal(b, "attempts", l.Delivery().AttemptCount, 1)
	l.Release(b.clock.Now())
	b.crash()
	equal(b, "interruptions after a release", b.lease().Delivery().Interruptions, 0)
}

func testInterrupted(t *testing.T, engine Engine) {
	b := start(t, engine, Limits{})
	b.add("one", Endpoint("a"))
	for n := range delivery.MaxInterruptions {
		equal(b, "interruptions", b.lease().Delivery().Interruptions, n)
		b.crash()
	}
	b.none(open{})
	equal(b, "failed", b.counters("a").Failed, 1)
	r := b.outbox()[0].Record
	equal(b, "reason", r.Reason, delivery.ReasonInterrupted)
	equal(b, "dead letters", b.Stats().DeadLetters, 1)
}

func testDeadLetters(t *testing.T, engine Engine) {
	b := start(t, engine, Limits{DeadLetterRetention: time.Hour, DeadLetterBytes: 10 << 10})
	for range 4 {
		b.add("one", Endpoint("a"))
		b.fail()
	}
	equal(b, "dead letters", b.Stats().DeadLetters, 4)
	b.restart()
	b.clock.Advance(2 * time.Hour)
	until(b, "the dead letters have expired", func() bool { return b.Stats().DeadLetters == 0 })
	equal(b, "live bytes", b.Stats().LiveBytes, 0)
	for range 30 {
		b.add("one", Endpoint("a"))
		b.fail()
	}
	s := b.Stats()
	if s.DeadBytes > 12<<10 || s.DeadLetters < 5 {
		t.Fatalf("%d dead letters of %d bytes, want about 10 KiB", s.DeadLetters, s.DeadBytes)
	}
	equal(b, "failed", b.counters("a").Failed, 34)
}

func testManyDeadLetters(t *testing.T, engine Engine) {
	// A share that holds nothing ends each delivery at once.
	b := start(t, engine, Limits{DeadLetterRetention: time.Hour, EndpointShare: 1e-9})
	for range 5 {
		var items []queue.Item
		for range 1000 {
			items = append(items, Item(b.clock.Now(), "one", Endpoint("a")))
		}
		_, err := b.Append(t.Context(), items)
		b.must(err)
	}
	equal(b, "dead letters", b.Stats().DeadLetters, 5000)
	b.clock.Advance(time.Hour + time.Minute)
	until(b, "all have expired", func() bool { return b.Stats().DeadLetters == 0 })
}

func testClosed(t *testing.T, engine Engine) {
	b := start(t, engine, Limits{})
	b.add("one", Endpoint("a"))
	l := b.lease()
	waits := make(chan error)
	go func() {
		_, err := b.Lease(t.Context(), open{})
		waits <- err
	}()
	go func() {
		_, err := b.Outbox(t.Context(), 1000, 1)
		waits <- err
	}()
	b.must(b.Close())
	b.must(b.Close())
	for range 2 {
		if err := <-waits; !errors.Is(err, queue.ErrClosed) {
			t.Fatalf("error is %v, want ErrClosed", err)
		}
	}
	if err := l.Settle(t.Context(), l.Delivery()); !errors.Is(err, queue.ErrClosed) {
		t.Fatalf("error of settle is %v, want ErrClosed", err)
	}
	if _, err := l.Event(); !errors.Is(err, queue.ErrClosed) {
		t.Fatalf("error of event is %v, want ErrClosed", err)
	}
	l.Release(b.clock.Now())
}
