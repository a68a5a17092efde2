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

// waiting leases up to n of what waits.
func (b *bench) waiting(n int, p queue.Passage) []queue.Lease {
	b.Helper()
	leases, err := b.LeaseWaiting(b.Context(), n, p)
	b.must(err)
	return leases
}

// parcels are what the leases hold.
func (b *bench) parcels(leases []queue.Lease) []queue.Parcel {
	b.Helper()
	var all []queue.Parcel
	for _, l := range leases {
		e, err := l.Event()
		b.must(err)
		all = append(all, queue.Parcel{Event: e, Delivery: l.Delivery()})
	}
	return all
}

func (b *bench) takeOver(parcels ...queue.Parcel) []queue.TookOver {
	b.Helper()
	took, err := b.TakeOver(b.Context(), parcels)
	b.must(err)
	return took
}

func testLeaseWaiting(t *testing.T, engine Engine) {
	b := start(t, engine, Limits{})
	equal(b, "leases of an empty queue", len(b.waiting(10, queue.Passage{Due: true})), 0)
	b.add("retry", Endpoint("a"))
	retry := b.settle(b.lease(), delivery.OutcomeRejected)
	b.add("due", Endpoint("a"))
	b.add("held", Endpoint("held"))
	flying, err := b.Lease(t.Context(), only("a"))
	b.must(err)
	b.none(only("a")) // the other endpoint is refused
	b.add("due too", Endpoint("a"))
	found := b.waiting(10, queue.Passage{})
	equal(b, "leases of what is not due", len(found), 1)
	equal(b, "attempts of the retry", found[0].Delivery().AttemptCount, 1)
	equal(b, "leases while it is leased", len(b.waiting(10, queue.Passage{})), 0)
	rest := b.waiting(10, queue.Passage{Due: true, Want: func(ref endpoint.Ref) bool { return ref.Name == "a" }})
	equal(b, "leases of what is due and wanted", len(rest), 1)
	held := b.waiting(10, queue.Passage{Due: true})
	equal(b, "leases of what is refused", len(held), 1)
	b.none(only("a"))
	for _, l := range append(held, rest...) {
		l.Release(b.clock.Now())
	}
	found[0].Release(b.clock.Now())
	l, err := b.Lease(t.Context(), only("a"))
	b.must(err)
	equal(b, "what is due after the release", l.Delivery().EventID, rest[0].Delivery().EventID)
	b.none(only("a")) // the retry waits as before
	b.clock.Advance(retry.Wait + time.Millisecond)
	l, err = b.Lease(t.Context(), only("a"))
	b.must(err)
	equal(b, "what is due after the wait", l.Delivery().EventID, retry.EventID)
	b.settle(flying, delivery.OutcomeDelivered)
	b.none(only("a"))
	b.crash()
	for _, l := range b.waiting(10, queue.Passage{Due: true}) {
		if n := l.Delivery().Interruptions; n != 0 && l.Delivery().Ref.Name == "held" {
			t.Errorf("a lease without an attempt counts %d interruptions after a crash", n)
		}
	}
}

func testLeaseWaitingBacklog(t *testing.T, engine Engine) {
	const n = 300
	b := start(t, engine, Limits{EndpointShare: 1})
	for _, name := range []string{"a", "b"} {
		var items []queue.Item
		for i := range n {
			items = append(items, Item(b.clock.Now(), fmt.Sprint(i), Endpoint(name)))
		}
		_, err := b.Append(t.Context(), items)
		b.must(err)
	}
	b.restart()
	kept := b.waiting(10, queue.Passage{Due: true})
	equal(b, "leases", len(kept), 10)
	seen := map[string]bool{}
	for {
		leases := b.waiting(64, queue.Passage{Due: true})
		if len(leases) == 0 {
			break
		}
		for _, l := range leases {
			id := l.Delivery().EventID
			if seen[id] {
				t.Fatalf("%s was leased twice", id)
			}
			seen[id] = true
		}
		b.must(b.HandedOver(t.Context(), leases))
		// Deliveries go on beside it.
		l, err := b.Lease(ended(), open{})
		if err == nil {
			seen[l.Delivery().EventID] = true
			b.settle(l, delivery.OutcomeDelivered)
		}
	}
	equal(b, "seen", len(seen), 2*n-10)
	for _, l := range kept {
		l.Release(b.clock.Now())
	}
	equal(b, "leases of what came back", len(b.waiting(64, queue.Passage{Due: true})), 10)
	equal(b, "pending", b.counters("a").Pending+b.counters("b").Pending, 10)
}

func testDeferred(t *testing.T, engine Engine) {
	b := start(t, engine, Limits{})
	news := b.Deferred()
	b.add("one", Endpoint("a"))
	select {
	case <-news:
		t.Fatal("what is due is told as deferred")
	default:
	}
	b.settle(b.lease(), delivery.OutcomeRejected)
	<-news
}

func testHandedOver(t *testing.T, engine Engine) {
	b := start(t, engine, Limits{})
	b.add("both", Endpoint("a"), Endpoint("b"))
	leases := b.waiting(1, queue.Passage{Due: true})
	gone := leases[0].Delivery().Ref.Name
	before := b.counters(gone)
	b.must(b.HandedOver(t.Context(), leases))
	if err := leases[0].Settle(t.Context(), leases[0].Delivery()); err == nil {
		t.Fatal("what was handed over was settled")
	}
	if err := b.HandedOver(t.Context(), leases); err == nil {
		t.Fatal("what was handed over was handed over again")
	}
	after := b.counters(gone)
	before.Pending = 0
	equal(b, "counters of what was handed over", after, before)
	equal(b, "records", len(b.outbox()), 1)
	l := b.lease()
	e, err := l.Event()
	b.must(err)
	equal(b, "payload of the other", string(e.Payload), "both")
	l.Release(b.clock.Now())
	b.must(b.HandedOver(t.Context(), b.waiting(1, queue.Passage{Due: true})))
	s := b.Stats()
	equal(b, "live bytes", s.LiveBytes, 0)
	equal(b, "waiting", s.Waiting, 0)
	equal(b, "in flight", s.InFlight, 0)
	b.restart()
	b.none(open{})
	equal(b, "counters after a restart", b.counters(gone), after)
}

// testTakeOver moves deliveries from one queue to another.
func testTakeOver(t *testing.T, engine Engine) {
	from, to := start(t, engine, Limits{}), start(t, engine, Limits{Receives: true})
	from.add("one", Endpoint("a"), Endpoint("b"))
	for range 2 {
		from.settle(from.lease(), delivery.OutcomeRejected)
	}
	leases := from.waiting(10, queue.Passage{})
	parcels := from.parcels(leases)
	parcels[1].Event = parcels[0].Event
	for i, took := range to.takeOver(parcels...) {
		equal(to, fmt.Sprint("parcel ", i), took, queue.TookOverAdded)
	}
	equal(to, "pending", to.counters("a").Pending, 1)
	records := to.outbox()
	equal(to, "records", len(records), 2)
	equal(to, "hops", records[0].Record.Hops, 1)
	equal(to, "state", records[0].Record.State, delivery.Retrying)
	want := parcels[0].Delivery
	want.Hops = 1
	// The source died before its own sync, once more after a restart of this one.
	for range 2 {
		for i, took := range to.takeOver(parcels...) {
			equal(to, fmt.Sprint("repeated parcel ", i), took, queue.TookOverPresent)
		}
		to.crash()
	}
	equal(to, "pending", to.counters("a").Pending, 1)
	to.none(open{})
	to.clock.Advance(time.Minute)
	for range 2 {
		l := to.lease()
		if l.Delivery().Ref == want.Ref {
			if diff := cmp.Diff(want, l.Delivery()); diff != "" {
				t.Errorf("delivery differs (-want +got):\n%s", diff)
			}
		}
		e, err := l.Event()
		to.must(err)
		if diff := cmp.Diff(parcels[0].Event, e); diff != "" {
			t.Errorf("event differs (-want +got):\n%s", diff)
		}
		to.settle(l, delivery.OutcomeDelivered)
	}
	equal(to, "live bytes", to.Stats().LiveBytes, 0)
	equal(to, "succeeded", to.counters("a").Succeeded, 1)
}

func testTakeOverKnows(t *testing.T, engine Engine) {
	b := start(t, engine, Limits{Receives: true, DeadLetterRetention: time.Hour})
	item := Item(b.clock.Now(), "one", Endpoint("a"))
	_, err := b.Append(t.Context(), []queue.Item{item})
	b.must(err)
	parcel := queue.Parcel{Event: item.Event, Delivery: delivery.Delivery{
		Ref: Endpoint("a").Ref, UID: "uid-a", Trigger: delivery.TriggerEvent, State: delivery.Pending,
		Accepted: b.clock.Now(), Deadline: b.clock.Now().Add(time.Hour), Due: b.clock.Now(), MaxAttempts: 4,
	}}
	equal(b, "of its own", b.takeOver(parcel)[0], queue.TookOverPresent)
	other := parcel
	other.Delivery.Ref, other.Delivery.UID = Endpoint("b").Ref, "uid-b"
	took := b.takeOver(other, other)
	equal(b, "for another endpoint", took[0], queue.TookOverAdded)
	equal(b, "twice in one call", took[1], queue.TookOverPresent)
	changed := Item(b.clock.Now(), "another body")
	changed.Event.ID = item.Event.ID
	another := parcel
	another.Event = changed.Event
	equal(b, "with another body", b.takeOver(another)[0], queue.TookOverAdded)
	for range 3 {
		b.settle(b.lease(), delivery.OutcomeGone)
	}
	equal(b, "a dead letter", b.takeOver(parcel)[0], queue.TookOverPresent)
	anew, e := parcel, *parcel.Event
	e.Accepted = e.Accepted.Add(time.Minute)
	anew.Event, anew.Delivery.Accepted = &e, e.Accepted
	equal(b, "accepted anew with the same key", b.takeOver(anew)[0], queue.TookOverAdded)
	b.settle(b.lease(), delivery.OutcomeDelivered)
	b.clock.Advance(2 * time.Hour)
	until(b, "the dead letters have expired", func() bool { return b.Stats().DeadLetters == 0 })
	equal(b, "what was forgotten", b.takeOver(parcel)[0], queue.TookOverAdded)
	b.must(b.HandedOver(t.Context(), b.waiting(1, queue.Passage{Due: true})))
	equal(b, "what was handed over", b.takeOver(parcel)[0], queue.TookOverAdded)
}

func testTakeOverFull(t *testing.T, engine Engine) {
	b := start(t, engine, Limits{MaxBytes: 1 << 20, EndpointShare: 0.25})
	parcel := func(name string, size int) queue.Parcel {
		item := Item(b.clock.Now(), strings.Repeat("x", size))
		return queue.Parcel{Event: item.Event, Delivery: delivery.Delivery{
			Ref: Endpoint(name).Ref, UID: "uid-" + name, Trigger: delivery.TriggerEvent, State: delivery.Pending,
			Deadline: b.clock.Now().Add(time.Hour), Due: b.clock.Now(), MaxAttempts: 4,
		}}
	}
	for i, want := range []queue.TookOver{queue.TookOverAdded, queue.TookOverAdded, queue.TookOverShareFull} {
		equal(b, fmt.Sprint("parcel ", i), b.takeOver(parcel("a", 100<<10))[0], want)
	}
	took := b.takeOver(parcel("a", 20<<10), parcel("a", 40<<10), parcel("a", 20<<10)) // 54 KiB are left
	equal(b, "those of one message that fit", took[0] == queue.TookOverAdded && took[2] == queue.TookOverAdded, true)
	equal(b, "the one that does not", took[1], queue.TookOverShareFull)
	equal(b, "failed while the source may keep them", b.counters("a").Failed, 0)
	last := parcel("a", 100<<10)
	last.Last = true
	equal(b, "the last try", b.takeOver(last)[0], queue.TookOverFailed)
	equal(b, "failed", b.counters("a").Failed, 1)
	equal(b, "pending", b.counters("a").Pending, 4)
	full := 0
	for _, o := range b.outbox() {
		if o.Record.Reason == delivery.ReasonQueueFull && o.Record.Hops == 1 {
			full++
		}
	}
	equal(b, "records of QueueFull", full, 1)
	equal(b, "for another endpoint", b.takeOver(parcel("b", 100<<10))[0], queue.TookOverAdded)
	before := b.Stats()
	var many []queue.Parcel
	for i := range 10 {
		many = append(many, parcel(fmt.Sprint("c", i), 100<<10))
	}
	if _, err := b.TakeOver(t.Context(), many); !errors.Is(err, queue.ErrFull) {
		t.Fatalf("error is %v, want ErrFull", err)
	}
	equal(b, "what is left of it", b.Stats(), before)
	b.settle(b.lease(), delivery.OutcomeDelivered)
}
