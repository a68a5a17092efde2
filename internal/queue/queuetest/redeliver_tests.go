// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package queuetest

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/garyclub/webhook-operator/internal/delivery"
	"github.com/garyclub/webhook-operator/internal/queue"
)

// order is one for all dead letters of the endpoint.
func order(id, name string) delivery.Order {
	return delivery.Order{ID: id, Name: "order-" + id, Ref: Endpoint(name).Ref, Limit: 1000}
}

// redeliver carries an order out.
func (b *bench) redeliver(o delivery.Order) delivery.Redelivered {
	b.Helper()
	result, err := b.Redeliver(b.Context(), o, Endpoint(o.Ref.Name))
	b.must(err)
	return result
}

// bury adds an event for the endpoint that fails at once, and returns it.
func (b *bench) bury(name, payload string) queue.Item {
	b.Helper()
	item := Item(b.clock.Now(), payload, Endpoint(name))
	_, err := b.Append(b.Context(), []queue.Item{item})
	b.must(err)
	l, err := b.Lease(b.Context(), only(name))
	b.must(err)
	b.settle(l, delivery.OutcomeGone)
	return item
}

func testRedeliver(t *testing.T, engine Engine) {
	b := start(t, engine, Limits{})
	item := b.bury("a", "one")
	failed := b.outbox()
	b.bury("b", "of another endpoint")
	b.clock.Advance(time.Hour)
	dry := order("dry", "a")
	dry.DryRun = true
	live := b.Stats().LiveBytes
	equal(b, "a dry run", b.redeliver(dry), delivery.Redelivered{Matched: 1})
	b.none(open{})
	equal(b, "the order", b.redeliver(order("1", "a")), delivery.Redelivered{Matched: 1, Moved: 1})
	equal(b, "live bytes", b.Stats().LiveBytes, live)
	equal(b, "dead letters", b.Stats().DeadLetters, 1)
	c := b.counters("a")
	equal(b, "pending", c.Pending, 1)
	equal(b, "failed", c.Failed, 1)
	now := b.clock.Now()
	want := delivery.Delivery{
		Ref: Endpoint("a").Ref, UID: "uid-a", EventID: item.Event.ID, Trigger: delivery.TriggerRedelivery, Order: "1",
		OrderName: "order-1", State: delivery.Pending, Accepted: now, Deadline: now.Add(24 * time.Hour), Due: now, MaxAttempts: 4,
	}
	for range 2 { // and after a crash
		records := b.outbox()
		equal(b, "records", len(records), 3)
		if diff := cmp.Diff(failed[0], records[0]); diff != "" {
			t.Errorf("the record of what failed differs (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff(want, records[2].Record.Delivery); diff != "" {
			t.Errorf("the record differs (-want +got):\n%s", diff)
		}
		equal(b, "call id of the record", records[2].Record.CallID, "call_1")
		b.crash()
		equal(b, "the order once more", b.redeliver(order("1", "a")), delivery.Redelivered{Matched: 1, Moved: 1})
	}
	l := b.lease()
	if diff := cmp.Diff(want, l.Delivery()); diff != "" {
		t.Errorf("the delivery differs (-want +got):\n%s", diff)
	}
	e, err := l.Event()
	b.must(err)
	if diff := cmp.Diff(item.Event, e); diff != "" {
		t.Errorf("the event differs (-want +got):\n%s", diff)
	}
	b.settle(l, delivery.OutcomeDelivered)
	equal(b, "succeeded", b.counters("a").Succeeded, 1)
	b.none(open{})
}

// testRedeliverAgain has deliveries fail under an order: it is another order that moves them again.
func testRedeliverAgain(t *testing.T, engine Engine) {
	b := start(t, engine, Limits{})
	b.bury("a", "one")
	for n := range 3 {
		o := order(fmt.Sprint("nth", n), "a")
		equal(b, "the order", b.redeliver(o), delivery.Redelivered{Matched: 1, Moved: 1})
		l := b.lease()
		equal(b, "order of the delivery", l.Delivery().Order, o.ID)
		b.settle(l, delivery.OutcomeGone)
		o.DryRun = true
		equal(b, "asked what it came to", b.redeliver(o), delivery.Redelivered{Matched: 1, Moved: 1})
		o.DryRun = false
		equal(b, "the order repeated", b.redeliver(o), delivery.Redelivered{Matched: 1, Moved: 1})
		b.none(open{})
		equal(b, "dead letters", b.Stats().DeadLetters, 1)
		b.restart()
	}
	equal(b, "failed", b.counters("a").Failed, 4)
}

func testRedeliverChooses(t *testing.T, engine Engine) {
	b := start(t, engine, Limits{})
	begin := b.clock.Now()
	var events []string
	for i := range 6 {
		item := Item(b.clock.Now(), "one", Endpoint("a"))
		item.Event.CallID = fmt.Sprint("call_", i)
		_, err := b.Append(t.Context(), []queue.Item{item})
		b.must(err)
		b.settle(b.lease(), delivery.OutcomeGone)
		events = append(events, item.Event.ID)
		b.clock.Advance(time.Minute)
	}
	for name, choose := range map[string]struct {
		change func(o *delivery.Order)
		want   int
	}{
		"all":                {func(*delivery.Order) {}, 6},
		"since":              {func(o *delivery.Order) { o.Since = begin.Add(2 * time.Minute) }, 4},
		"until":              {func(o *delivery.Order) { o.Until = begin.Add(2 * time.Minute) }, 2},
		"both":               {func(o *delivery.Order) { o.Since, o.Until = begin.Add(time.Minute), begin.Add(3*time.Minute) }, 2},
		"calls":              {func(o *delivery.Order) { o.CallIDs = []string{"call_1", "call_5", "call_7"} }, 2},
		"events":             {func(o *delivery.Order) { o.EventIDs = events[:3] }, 3},
		"calls and events":   {func(o *delivery.Order) { o.CallIDs, o.EventIDs = []string{"call_1", "call_5"}, events[:3] }, 1},
		"another endpoint":   {func(o *delivery.Order) { o.Ref = Endpoint("b").Ref }, 0},
		"another's failures": {func(o *delivery.Order) { o.Ref.Namespace = "other" }, 0},
	} {
		o := order("dry", "a")
		o.DryRun = true
		choose.change(&o)
		equal(b, name, b.redeliver(o), delivery.Redelivered{Matched: choose.want})
	}
	limited := order("limited", "a")
	limited.Limit = 2
	equal(b, "limited", b.redeliver(limited), delivery.Redelivered{Matched: 6, Moved: 2})
	for _, want := range events[:2] {
		l := b.lease()
		equal(b, "the ones that failed first", l.Delivery().EventID, want)
		b.settle(l, delivery.OutcomeDelivered)
	}
	b.none(open{})
	equal(b, "the rest", b.redeliver(order("rest", "a")), delivery.Redelivered{Matched: 4, Moved: 4})
	// A dead letter whose time is over may still be there.
	for range 4 {
		b.settle(b.lease(), delivery.OutcomeGone)
	}
	b.clock.Advance(24 * time.Hour)
	equal(b, "what has expired", b.redeliver(order("late", "a")), delivery.Redelivered{})
}

// testRedeliverMany moves more than one batch takes, of events that other endpoints hold too.
func testRedeliverMany(t *testing.T, engine Engine) {
	const n = 700
	b := start(t, engine, Limits{EndpointShare: 1, Receives: true})
	var items []queue.Item
	for i := range n {
		items = append(items, Item(b.clock.Now(), fmt.Sprint(i, strings.Repeat("x", 4<<10)), Endpoint("a"), Endpoint("b")))
	}
	_, err := b.Append(t.Context(), items)
	b.must(err)
	for _, name := range []string{"a", "b"} {
		_, _, err := b.Expire(t.Context(), Endpoint(name).Ref, true, delivery.ReasonEndpointDeleted)
		b.must(err)
	}
	o := order("many", "a")
	o.Limit = 600
	equal(b, "the order", b.redeliver(o), delivery.Redelivered{Matched: n, Moved: 600})
	equal(b, "pending", b.counters("a").Pending, 600)
	b.restart()
	seen := map[string]bool{}
	for range 600 {
		l := b.lease()
		e, err := l.Event()
		b.must(err)
		seen[string(e.Payload)] = true
		b.settle(l, delivery.OutcomeDelivered)
	}
	equal(b, "different payloads", len(seen), 600)
	b.none(open{})
	equal(b, "dead letters", b.Stats().DeadLetters, 2*n-600)
	b.clock.Advance(26 * time.Hour)
	until(b, "the dead letters have expired", func() bool { return b.Stats().DeadLetters == 0 })
	equal(b, "live bytes", b.Stats().LiveBytes, 0)
}

func testRedeliverFull(t *testing.T, engine Engine) {
	b := start(t, engine, Limits{MaxBytes: 1 << 20, EndpointShare: 0.25, DeadLetterBytes: 1 << 20})
	for range 4 {
		b.bury("a", strings.Repeat("x", 100<<10))
	}
	got := b.redeliver(order("share", "a"))
	equal(b, "of a share for two", got, delivery.Redelivered{Matched: 4, Moved: 2, ShareFull: true})
	equal(b, "the order repeated", b.redeliver(order("share", "a")), got)
	equal(b, "another order", b.redeliver(order("another", "a")), delivery.Redelivered{Matched: 2, ShareFull: true})
	for range 2 {
		b.settle(b.lease(), delivery.OutcomeDelivered)
	}
	equal(b, "the order repeated when there is room", b.redeliver(order("share", "a")), got)
	equal(b, "dead letters", b.Stats().DeadLetters, 2)

	// The event of a dead letter that others hold needs room for a copy.
	b = start(t, engine, Limits{MaxBytes: 1 << 20, EndpointShare: 1, DeadLetterBytes: 1 << 20})
	var items []queue.Item
	for range 3 {
		items = append(items, Item(b.clock.Now(), strings.Repeat("x", 200<<10), Endpoint("a"), Endpoint("held")))
	}
	_, err := b.Append(t.Context(), items)
	b.must(err)
	_, _, err = b.Expire(t.Context(), Endpoint("a").Ref, true, delivery.ReasonEndpointDeleted)
	b.must(err)
	equal(b, "of room for two", b.redeliver(order("full", "a")), delivery.Redelivered{Matched: 3, Moved: 2, ShareFull: true})
	before := b.Stats()
	if _, err := b.Redeliver(t.Context(), order("none", "a"), Endpoint("a")); !errors.Is(err, queue.ErrFull) {
		t.Fatalf("error is %v, want ErrFull", err)
	}
	equal(b, "what it left", b.Stats(), before)
	for range 3 {
		l, err := b.Lease(t.Context(), only("held"))
		b.must(err)
		b.settle(l, delivery.OutcomeDelivered)
	}
	equal(b, "the order when there is room", b.redeliver(order("none", "a")), delivery.Redelivered{Matched: 1, Moved: 1})
}

func testRedeliverRefuses(t *testing.T, engine Engine) {
	b := start(t, engine, Limits{})
	b.bury("a", "one")
	many := slices.Repeat([]string{"x"}, delivery.MaxOrderNames+1)
	for name, spoil := range map[string]func(o *delivery.Order){
		"no id":          func(o *delivery.Order) { o.ID = "" },
		"long id":        func(o *delivery.Order) { o.ID = strings.Repeat("x", delivery.MaxOrderIDBytes+1) },
		"long name":      func(o *delivery.Order) { o.Name = strings.Repeat("x", delivery.MaxOrderNameBytes+1) },
		"no limit":       func(o *delivery.Order) { o.Limit = 0 },
		"many call ids":  func(o *delivery.Order) { o.CallIDs = many },
		"many event ids": func(o *delivery.Order) { o.EventIDs = many },
		"empty call id":  func(o *delivery.Order) { o.CallIDs = []string{""} },
		"long event id":  func(o *delivery.Order) { o.EventIDs = []string{strings.Repeat("x", delivery.MaxNamedIDBytes+1)} },
		"other endpoint": func(o *delivery.Order) { o.Ref.Name = "b" },
	} {
		o := order("1", "a")
		spoil(&o)
		if _, err := b.Redeliver(t.Context(), o, Endpoint("a")); !errors.Is(err, queue.ErrOrder) {
			t.Errorf("%s: error %v", name, err)
		}
	}
	if _, err := b.Redeliver(t.Context(), order("1", "a"), nil); !errors.Is(err, queue.ErrOrder) {
		t.Errorf("no endpoint: error %v", err)
	}
	b.none(open{})
	b.must(b.Close())
	if _, err := b.Redeliver(t.Context(), order("1", "a"), Endpoint("a")); !errors.Is(err, queue.ErrClosed) {
		t.Errorf("closed: error %v", err)
	}
}

// testRedeliverForgets repeats orders that were carried out long ago, or before many others.
func testRedeliverForgets(t *testing.T, engine Engine) {
	b := start(t, engine, Limits{DeadLetterRetention: time.Hour})
	b.bury("a", "one")
	one := delivery.Redelivered{Matched: 1, Moved: 1}
	equal(b, "the order", b.redeliver(order("1", "a")), one)
	b.settle(b.lease(), delivery.OutcomeGone)
	b.clock.Advance(90 * time.Minute)
	until(b, "the dead letter has expired", func() bool { return b.Stats().DeadLetters == 0 })
	b.restart()
	equal(b, "the order after the dead letter", b.redeliver(order("1", "a")), one)
	for range 3 { // a restart may put a sweep off
		b.clock.Advance(time.Hour)
	}
	until(b, "the order is forgotten", func() bool { return b.redeliver(order("1", "a")) == delivery.Redelivered{} })
	b.bury("a", "two")
	b.clock.Advance(time.Second)
	equal(b, "an order", b.redeliver(order("first", "a")), one)
	for i := range 1000 {
		b.clock.Advance(time.Millisecond)
		b.redeliver(order(fmt.Sprint("next", i), "b"))
	}
	equal(b, "the order after a thousand others", b.redeliver(order("first", "a")), delivery.Redelivered{})
}
