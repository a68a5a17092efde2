// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package queuetest

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/garyclub/webhook-operator/internal/delivery"
	"github.com/garyclub/webhook-operator/internal/endpoint"
	"github.com/garyclub/webhook-operator/internal/queue"
)

// leaseDead leases up to n dead letters.
func (b *bench) leaseDead(n int) []queue.Lease {
	b.Helper()
	leases, err := b.LeaseDead(b.Context(), n, nil)
	b.must(err)
	return leases
}

func testLeaseDead(t *testing.T, engine Engine) {
	b := start(t, engine, Limits{DeadLetterRetention: time.Hour})
	equal(b, "leases of an empty queue", len(b.leaseDead(10)), 0)
	var events []string
	for _, name := range []string{"a", "b", "a", "b", "a"} {
		events = append(events, b.bury(name, "one").Event.ID)
		b.clock.Advance(time.Minute)
	}
	first := b.leaseDead(2)
	equal(b, "leases", len(first), 2)
	for i, l := range first {
		equal(b, "the oldest first", l.Delivery().EventID, events[i])
		if err := l.Settle(t.Context(), l.Delivery()); err == nil {
			t.Error("a dead letter was settled")
		}
	}
	rest, err := b.LeaseDead(t.Context(), 10, func(ref endpoint.Ref) bool { return ref.Name == "a" })
	b.must(err)
	equal(b, "leases of what is wanted", len(rest), 2)
	equal(b, "leases of what is left", len(b.leaseDead(10)), 1)
	for _, l := range first {
		l.Release(b.clock.Now())
		l.Release(b.clock.Now())
	}
	equal(b, "leases of what came back", len(b.leaseDead(10)), 2)
	if err := b.HandedOver(t.Context(), first); err == nil {
		t.Error("what was given back was handed over")
	}
	records, before := len(b.outbox()), b.counters("a")
	b.must(b.HandedOver(t.Context(), rest))
	if err := b.HandedOver(t.Context(), rest); err == nil {
		t.Error("it was handed over twice")
	}
	for range 2 {
		equal(b, "dead letters", b.Stats().DeadLetters, 3)
		equal(b, "records", len(b.outbox()), records)
		equal(b, "counters", b.counters("a"), before)
		b.restart()
	}
	b.clock.Advance(56*time.Minute - time.Second)
	equal(b, "leases of what has not expired", len(b.leaseDead(10)), 2)
	// One that is redelivered meanwhile is this queue's to deliver.
	b.restart()
	leases := b.leaseDead(10)
	equal(b, "the order", b.redeliver(order("1", "b")), delivery.Redelivered{Matched: 2, Moved: 2})
	b.must(b.HandedOver(t.Context(), leases))
	equal(b, "pending", b.counters("b").Pending, 2)
	for range 2 {
		l := b.lease()
		e, err := l.Event()
		b.must(err)
		equal(b, "payload", string(e.Payload), "one")
		b.settle(l, delivery.OutcomeDelivered)
	}
	b.clock.Advance(2 * time.Hour)
	until(b, "the dead letters have expired", func() bool { return b.Stats().DeadLetters == 0 })
	equal(b, "live bytes", b.Stats().LiveBytes, 0)
}

// testTakeOverDead moves dead letters of one event from one queue to another.
func testTakeOverDead(t *testing.T, engine Engine) {
	from := start(t, engine, Limits{})
	to := start(t, engine, Limits{Receives: true, DeadLetterRetention: 100 * time.Hour})
	from.add("one", Endpoint("a"), Endpoint("b"))
	for range 2 {
		from.settle(from.lease(), delivery.OutcomeRejected)
	}
	from.clock.Advance(10 * time.Second)
	for range 2 {
		from.settle(from.lease(), delivery.OutcomeGone)
	}
	leases := from.leaseDead(10)
	parcels := from.parcels(leases)
	equal(from, "parcels", len(parcels), 2)
	parcels[1].Event = parcels[0].Event
	for i, took := range to.takeOver(parcels...) {
		equal(to, fmt.Sprint("parcel ", i), took, queue.TookOverAdded)
	}
	// The source died before its own sync, once more after a restart of this one.
	for range 2 {
		for i, took := range to.takeOver(parcels...) {
			equal(to, fmt.Sprint("repeated parcel ", i), took, queue.TookOverPresent)
		}
		to.crash()
	}
	equal(to, "records", len(to.outbox()), 0)
	equal(to, "counters", to.counters("a"), delivery.Counters{})
	equal(to, "dead letters", to.Stats().DeadLetters, 2)
	to.none(open{})
	from.must(from.HandedOver(t.Context(), leases))
	equal(from, "records of the source", len(from.outbox()), 2)
	equal(from, "failures that the source counts", from.counters("a").Failed, 1)
	equal(from, "live bytes of the source", from.Stats().LiveBytes, 0)
	to.holdsDead(parcels)
	equal(to, "an order", to.redeliver(order("1", "a")), delivery.Redelivered{Matched: 1, Moved: 1})
	to.settle(to.lease(), delivery.OutcomeDelivered)
	equal(to, "succeeded", to.counters("a").Succeeded, 1)
	// It expires when it was to expire.
	to.clock.Advance(25 * time.Hour)
	until(to, "the dead letters have expired", func() bool { return to.Stats().DeadLetters == 0 })
	equal(to, "live bytes", to.Stats().LiveBytes, 0)
}

// holdsDead compares the dead letters with those that were handed over.
func (b *bench) holdsDead(parcels []queue.Parcel) {
	b.Helper()
	for _, l := range b.leaseDead(10) {
		for _, p := range parcels {
			want := p.Delivery
			want.Hops = 1
			if l.Delivery().Ref != want.Ref {
				continue
			}
			if diff := cmp.Diff(want, l.Delivery()); diff != "" {
				b.Errorf("dead letter differs (-want +got):\n%s", diff)
			}
		}
		l.Release(b.clock.Now())
	}
}

// testTakeOverDeadBounds takes more than there is room for: among dead letters it takes the place of the oldest.
func testTakeOverDeadBounds(t *testing.T, engine Engine) {
	from := start(t, engine, Limits{})
	from.bury("a", "one")
	p := from.parcels(from.leaseDead(1))[0]
	small := start(t, engine, Limits{Receives: true, DeadLetterBytes: 10 << 10})
	for range 20 {
		small.bury("a", "one")
	}
	bounded := small.Stats().DeadLetters
	small.clock.Advance(time.Minute)
	for i := range 20 {
		item := Item(small.clock.Now(), fmt.Sprint(i), Endpoint("b"))
		d := p.Delivery
		d.Ref, d.Accepted = Endpoint("b").Ref, item.Event.Accepted
		d.RedeliverableUntil = small.clock.Now().Add(24 * time.Hour)
		equal(small, "a parcel", small.takeOver(queue.Parcel{Event: item.Event, Delivery: d})[0], queue.TookOverAdded)
	}
	small.redeliver(order("sweep", "c")) // what is beyond is dropped before the next request
	if n := small.Stats().DeadLetters; n > bounded || n < bounded/2 {
		t.Errorf("%d dead letters, want about %d", n, bounded)
	}
	dry := order("dry", "a")
	dry.DryRun = true
	equal(small, "the older ones that are left", small.redeliver(dry), delivery.Redelivered{})

	tiny := start(t, engine, Limits{Receives: true, MaxBytes: 64 << 10})
	item := Item(tiny.clock.Now(), strings.Repeat("x", 65<<10), Endpoint("a"))
	p.Event = item.Event
	if _, err := tiny.TakeOver(t.Context(), []queue.Parcel{p}); !errors.Is(err, queue.ErrFull) {
		t.Errorf("error is %v, want ErrFull", err)
	}
}

// testRedeliverHandedOver has dead letters handed over to a queue that has carried their order out already.
func testRedeliverHandedOver(t *testing.T, engine Engine) {
	from := start(t, engine, Limits{})
	from.bury("a", "one")
	from.bury("a", "two")
	to := start(t, engine, Limits{Receives: true})
	to.clock.Advance(time.Minute)
	o := order("1", "a")
	equal(to, "before the hand-over", to.redeliver(o), delivery.Redelivered{})
	to.takeOver(from.parcels(from.leaseDead(10))...)
	o.Limit = 1
	equal(to, "within the limit", to.redeliver(o), delivery.Redelivered{Matched: 2, Moved: 1})
	equal(to, "the limit is used up", to.redeliver(o), delivery.Redelivered{Matched: 2, Moved: 1})
	o.Limit = 10
	for range 2 {
		equal(to, "with more room", to.redeliver(o), delivery.Redelivered{Matched: 2, Moved: 2})
		to.crash()
	}
}

// testTakeOverTwice takes one event twice for one endpoint, accepted at different times, in one call.
func testTakeOverTwice(t *testing.T, engine Engine) {
	b := start(t, engine, Limits{Receives: true})
	item := Item(b.clock.Now(), "one", Endpoint("a"))
	parcel := func(accepted time.Time) queue.Parcel {
		return queue.Parcel{Event: item.Event, Delivery: delivery.Delivery{
			Ref: Endpoint("a").Ref, UID: "uid-a", Trigger: delivery.TriggerEvent, State: delivery.Pending,
			Accepted: accepted, Deadline: b.clock.Now().Add(time.Hour), Due: b.clock.Now(), MaxAttempts: 4,
		}}
	}
	for i, took := range b.takeOver(parcel(b.clock.Now()), parcel(b.clock.Now().Add(time.Second))) {
		equal(b, fmt.Sprint("parcel ", i), took, queue.TookOverAdded)
	}
	equal(b, "pending", b.counters("a").Pending, 2)
	equal(b, "records", len(b.outbox()), 2)
	for range 2 {
		l := b.lease()
		_, err := l.Event()
		b.must(err)
		b.settle(l, delivery.OutcomeDelivered)
	}
	equal(b, "pending at the end", b.counters("a").Pending, 0)
	equal(b, "live bytes", b.Stats().LiveBytes, 0)
}
