// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package pebble

import (
	"fmt"
	"testing"
	"time"

	pdb "github.com/cockroachdb/pebble/v2"

	"github.com/garyclub/webhook-operator/internal/delivery"
	"github.com/garyclub/webhook-operator/internal/queue/queuetest"
)

// TestAnOrderThatGoesOnLeavesOutWhatFailedSince breaks an order off after its first part.
func TestAnOrderThatGoesOnLeavesOutWhatFailedSince(t *testing.T) {
	clock := queuetest.NewClock()
	d := newDisk(t, queuetest.Limits{Clock: clock}).(*disk)
	d.opt.seams.orderChunk = 2
	q := d.Open(t).(*Queue)
	defer func() { _ = q.Close() }()
	p := queuetest.Endpoint("a")
	bury := func() {
		mustAppend(t, q, queuetest.Item(clock.Now(), "one", p))
		mustSettle(t, q, clock.Now(), delivery.OutcomeGone)
	}
	for range 5 {
		bury()
	}
	order := delivery.Order{ID: "1", Ref: p.Ref, Limit: 4}
	r := &redelivery{q: q, order: &order, endpoint: p, lane: laneOf(p.Ref), limit: order.Limit}
	letters, _, err := r.page([]byte{tableDead})
	if err != nil {
		t.Fatal(err)
	}
	if err := r.commit(t.Context(), letters); err != nil || r.info.moved != 2 {
		t.Fatalf("%d were moved, error %v", r.info.moved, err)
	}
	clock.Advance(time.Second)
	mustSettle(t, q, clock.Now(), delivery.OutcomeGone) // failed again, under the order
	another := delivery.Order{ID: "2", Ref: p.Ref, Limit: 1, Since: clock.Now()}
	if got, err := q.Redeliver(t.Context(), another, p); err != nil || got != (delivery.Redelivered{Matched: 1, Moved: 1}) {
		t.Fatalf("%+v, error %v", got, err)
	}
	for range 2 { // what is left of the first order, and what the second one moved
		mustSettle(t, q, clock.Now(), delivery.OutcomeGone)
	}
	bury()
	want := delivery.Redelivered{Matched: 5, Moved: 4}
	for range 2 {
		if got, err := q.Redeliver(t.Context(), order, p); err != nil || got != want {
			t.Errorf("the order goes on to %+v, error %v, want %+v", got, err, want)
		}
	}
	leaseAll(t, q, 2)
}

func TestADeadLetterWithoutItsEventStays(t *testing.T) {
	clock := queuetest.NewClock()
	q := newDisk(t, queuetest.Limits{Clock: clock}).Open(t).(*Queue)
	defer func() { _ = q.Close() }()
	p := queuetest.Endpoint("a")
	for i := range 3 {
		mustAppend(t, q, queuetest.Item(clock.Now(), fmt.Sprint(i), p))
		mustSettle(t, q, clock.Now(), delivery.OutcomeGone)
	}
	if err := q.db.Delete(seqKey(tableEvent, 2), pdb.Sync); err != nil {
		t.Fatal(err)
	}
	order := delivery.Order{ID: "1", Ref: p.Ref, Limit: 10}
	if got, err := q.Redeliver(t.Context(), order, p); err != nil || got != (delivery.Redelivered{Matched: 3, Moved: 2}) {
		t.Errorf("%+v, error %v", got, err)
	}
	leaseAll(t, q, 2)
}

func TestOrdersAreBoundedInNumber(t *testing.T) {
	clock := queuetest.NewClock()
	d := newDisk(t, queuetest.Limits{Clock: clock}).(*disk)
	q := d.Open(t).(*Queue)
	p := queuetest.Endpoint("a")
	for i := range maxOrders + 5 {
		clock.Advance(time.Millisecond)
		if _, err := q.Redeliver(t.Context(), delivery.Order{ID: fmt.Sprint(i), Ref: p.Ref, Limit: 1}, p); err != nil {
			t.Fatal(err)
		}
	}
	if err := q.Close(); err != nil {
		t.Fatal(err)
	}
	q = d.Open(t).(*Queue)
	defer func() { _ = q.Close() }()
	w, err := auditOf(q)
	if err != nil || len(w.Orders) != maxOrders {
		t.Errorf("%d orders are remembered, error %v", len(w.Orders), err)
	}
	for i, want := range map[int]bool{0: false, 4: false, 5: true, maxOrders: true} {
		if _, known := w.Orders[orderOf(fmt.Sprint(i))]; known != want {
			t.Errorf("order %d is remembered: %v", i, known)
		}
	}
}
