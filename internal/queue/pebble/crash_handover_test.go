// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package pebble

import (
	"fmt"
	"testing"

	"github.com/garyclub/webhook-operator/internal/delivery"
	"github.com/garyclub/webhook-operator/internal/queue"
	"github.com/garyclub/webhook-operator/internal/queue/queuetest"
)

// lease leases what waits, and returns it as parcels too.
func waiting(t *testing.T, q queue.Queue, n int) ([]queue.Lease, []queue.Parcel) {
	t.Helper()
	leases, err := q.LeaseWaiting(t.Context(), n, queue.Passage{Due: true})
	if err != nil {
		t.Fatal(err)
	}
	var parcels []queue.Parcel
	for _, l := range leases {
		e, err := l.Event()
		if err != nil {
			t.Fatal(err)
		}
		parcels = append(parcels, queue.Parcel{Event: e, Delivery: l.Delivery()})
	}
	return leases, parcels
}

func takeOver(t *testing.T, q queue.Queue, parcels []queue.Parcel) map[queue.TookOver]int {
	t.Helper()
	took, err := q.TakeOver(t.Context(), parcels)
	if err != nil {
		t.Fatal(err)
	}
	counts := map[queue.TookOver]int{}
	for _, how := range took {
		counts[how]++
	}
	return counts
}

// TestPowerLossAtHandOver loses power at both ends after each answered step, with none, some, or all of the unsynced data
// kept: every delivery is then in one of the queues, or in both, where the other one knows it.
func TestPowerLossAtHandOver(t *testing.T) {
	const n, moved = 6, 4
	clock := queuetest.NewClock()
	source := newDisk(t, queuetest.Limits{Clock: clock}).(*disk)
	sink := newDisk(t, queuetest.Limits{Clock: clock, Receives: true}).(*disk)
	from, to := source.Open(t), sink.Open(t)
	defer func() { _, _ = from.Close(), to.Close() }()
	a, b := queuetest.Endpoint("a"), queuetest.Endpoint("b")
	for range n / 2 {
		mustAppend(t, from, queuetest.Item(clock.Now(), "one", a, b))
	}
	after := func(step string, d *disk, check func(q queue.Queue)) {
		for _, percent := range []int{0, 50, 100} {
			t.Run(fmt.Sprintf("%s, %d percent kept", step, percent), func(t *testing.T) {
				lost := d.clone(percent).Open(t)
				check(lost)
				if err := lost.Close(); err != nil {
					t.Fatal(err)
				}
			})
		}
	}
	leases, parcels := waiting(t, from, moved)
	after("leased", source, func(q queue.Queue) { leaseAll(t, q, n) })
	takeOver(t, to, parcels)
	for range 2 { // the source repeats itself
		after("taken over, before the source's sync", source, func(q queue.Queue) {
			if _, again := waiting(t, q, n); len(again) != n {
				t.Errorf("%d of %d are there to be handed over again", len(again), n)
			}
		})
		after("taken over", sink, func(q queue.Queue) {
			if got := takeOver(t, q, parcels)[queue.TookOverPresent]; got != moved {
				t.Errorf("%d of %d are known", got, moved)
			}
			if got := factsOf(q); got != (facts{pending: moved}) {
				t.Errorf("%+v, want %d pending", got, moved)
			}
			leaseAll(t, q, moved)
		})
		takeOver(t, to, parcels)
	}
	if err := from.HandedOver(t.Context(), leases); err != nil {
		t.Fatal(err)
	}
	after("handed over", source, func(q queue.Queue) {
		if got := factsOf(q); got != (facts{pending: n - moved}) {
			t.Errorf("%+v, want %d pending", got, n-moved)
		}
		leaseAll(t, q, n-moved)
	})
	mustSettle(t, to, clock.Now(), delivery.OutcomeDelivered)
	after("delivered by the sink", sink, func(q queue.Queue) {
		if got := factsOf(q); got != (facts{succeeded: 1, pending: moved - 1}) {
			t.Errorf("%+v, want one succeeded", got)
		}
	})
}

// TestPowerLossWithinTakeOver loses power while parcels are being taken: it is all of them or none.
func TestPowerLossWithinTakeOver(t *testing.T) {
	clock := queuetest.NewClock()
	from := newDisk(t, queuetest.Limits{Clock: clock}).Open(t)
	defer func() { _ = from.Close() }()
	for range 20 {
		mustAppend(t, from, queuetest.Item(clock.Now(), "one", queuetest.Endpoint("a")))
	}
	_, parcels := waiting(t, from, 20)
	sink := newDisk(t, queuetest.Limits{Clock: clock, Receives: true}).(*disk)
	to := sink.Open(t)
	defer func() { _ = to.Close() }()
	done := make(chan error, 1)
	go func() {
		_, err := to.TakeOver(t.Context(), parcels)
		done <- err
	}()
	for over := false; !over; {
		lost := sink.clone(50)
		select {
		case err := <-done:
			if over = true; err != nil {
				t.Fatal(err)
			}
		default:
		}
		q := lost.Open(t)
		pending := factsOf(q).pending
		if pending != 0 && pending != 20 {
			t.Fatalf("%d of 20 parcels are kept", pending)
		}
		if got := takeOver(t, q, parcels); got[queue.TookOverPresent] != int(pending) || got[queue.TookOverAdded] != 20-int(pending) {
			t.Fatalf("of %d pending a repeat says %v", pending, got)
		}
		if err := q.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
