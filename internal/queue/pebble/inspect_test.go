// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package pebble

import (
	"errors"
	"testing"

	"github.com/garyclub/webhook-operator/internal/delivery"
	"github.com/garyclub/webhook-operator/internal/queue"
	"github.com/garyclub/webhook-operator/internal/queue/queuetest"
)

func TestInspectShowsWhatWaitsAndWhatFailed(t *testing.T) {
	clock := queuetest.NewClock()
	d := newDisk(t, queuetest.Limits{Clock: clock}).(*disk)
	q := d.Open(t).(*Queue)
	a, b := queuetest.Endpoint("a"), queuetest.Endpoint("b")
	failing := queuetest.Item(clock.Now(), "one", a)
	mustAppend(t, q, failing)
	l, err := q.Lease(t.Context(), admitAll{})
	if err != nil {
		t.Fatal(err)
	}
	failed := delivery.Fail(l.Delivery(), delivery.ReasonDeadlineExceeded, clock.Now())
	if err := l.Settle(t.Context(), failed); err != nil {
		t.Fatal(err)
	}
	waiting := queuetest.Item(clock.Now(), "two", a, b)
	mustAppend(t, q, waiting)

	for range 2 { // once more after a restart
		dead, left := list(t, q.DeadLetters), list(t, q.WaitingDeliveries)
		if len(dead) != 1 || len(left) != 2 {
			t.Fatalf("%d dead letters and %d that wait, want 1 and 2", len(dead), len(left))
		}
		if r := dead[0]; r.Ref != a.Ref || r.UID != a.UID || r.EventID != failing.Event.ID || r.CallID != failing.Event.CallID ||
			r.Reason != delivery.ReasonDeadlineExceeded || r.State != delivery.Failed || !r.Completed.Equal(clock.Now()) {
			t.Errorf("the dead letter is %+v", r)
		}
		for _, r := range left {
			if r.EventID != waiting.Event.ID || r.State != delivery.Pending || !r.Completed.IsZero() {
				t.Errorf("what waits is %+v", r)
			}
		}
		if err := q.Close(); err != nil {
			t.Fatal(err)
		}
		if err := q.DeadLetters(nil); !errors.Is(err, queue.ErrClosed) {
			t.Errorf("error of a closed queue: %v", err)
		}
		q = d.Open(t).(*Queue)
	}
	if err := q.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestInspectEndsWithTheVisitorsError(t *testing.T) {
	clock := queuetest.NewClock()
	q := newDisk(t, queuetest.Limits{Clock: clock}).Open(t).(*Queue)
	defer q.Close()
	mustAppend(t, q, queuetest.Item(clock.Now(), "one", queuetest.Endpoint("a"), queuetest.Endpoint("b")))
	enough, seen := errors.New("enough"), 0
	err := q.WaitingDeliveries(func(delivery.Record) error { seen++; return enough })
	if !errors.Is(err, enough) || seen != 1 {
		t.Errorf("error %v after %d, want the visitor's after 1", err, seen)
	}
}

func list(t *testing.T, inspect func(func(delivery.Record) error) error) (all []delivery.Record) {
	t.Helper()
	err := inspect(func(r delivery.Record) error { all = append(all, r); return nil })
	if err != nil {
		t.Fatal(err)
	}
	return all
}
