// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package pebble

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/garyclub/webhook-operator/internal/delivery"
	"github.com/garyclub/webhook-operator/internal/endpoint"
	"github.com/garyclub/webhook-operator/internal/queue"
	"github.com/garyclub/webhook-operator/internal/queue/queuetest"
)

func TestHeldByNamespace(t *testing.T) {
	clock := queuetest.NewClock()
	d := newDisk(t, queuetest.Limits{Clock: clock, MaxBytes: 1 << 20}).(*disk)
	q := d.Open(t).(*Queue)
	defer func() { _ = q.Close() }()
	in := func(namespace, name string) *endpoint.Endpoint {
		p := queuetest.Endpoint(name)
		p.Namespace = namespace
		return p
	}
	const payload = "0123456789"
	items := []queue.Item{
		queuetest.Item(clock.Now(), payload, in("a", "one"), in("a", "two")),
		queuetest.Item(clock.Now(), payload, in("b", "one")),
		queuetest.Item(clock.Now(), payload), // matches nobody
	}
	if _, err := q.Append(t.Context(), items); err != nil {
		t.Fatal(err)
	}
	want := map[string]int64{"a": 2 * (10 + deliveryCost), "b": 10 + deliveryCost}
	if diff := cmp.Diff(want, q.Held()); diff != "" {
		t.Errorf("bytes differ (-want +got):\n%s", diff)
	}
	// What is leased is held, and so it is after a restart.
	lease, err := q.Lease(t.Context(), admitAll{})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, q.Held()); diff != "" {
		t.Errorf("with a lease bytes differ (-want +got):\n%s", diff)
	}
	done := lease.Delivery()
	done.State, done.Completed = delivery.Delivered, clock.Now().Add(time.Second)
	if err := lease.Settle(t.Context(), done); err != nil {
		t.Fatal(err)
	}
	if err := q.Close(); err != nil {
		t.Fatal(err)
	}
	q = d.Open(t).(*Queue)
	if want[done.Ref.Namespace] -= 10 + deliveryCost; want[done.Ref.Namespace] == 0 {
		delete(want, done.Ref.Namespace)
	}
	if diff := cmp.Diff(want, q.Held()); diff != "" {
		t.Errorf("after a delivery and a restart bytes differ (-want +got):\n%s", diff)
	}
}
