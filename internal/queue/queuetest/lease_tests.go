// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package queuetest

import (
	"context"
	"errors"
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
	n, err := b.Expire(t.Context(), Endpoint("a").Ref, false, delivery.ReasonDeadlineExceeded)
	b.must(err)
	equal(b, "ended", n, 1)
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
	n, err := b.Expire(t.Context(), Endpoint("a").Ref, true, delivery.ReasonEndpointDeleted)
	b.must(err)
	equal(b, "ended", n, 599)
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
