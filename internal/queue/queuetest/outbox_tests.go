// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package queuetest

import (
	"testing"
	"time"

	"github.com/garyclub/webhook-operator/internal/delivery"
	"github.com/garyclub/webhook-operator/internal/queue"
)

func testOutbox(t *testing.T, engine Engine) {
	b := start(t, engine, Limits{})
	b.add("one", Endpoint("a"))
	first := b.outbox()
	equal(b, "records", len(first), 1)
	equal(b, "state", first[0].Record.State, delivery.Pending)
	equal(b, "payload bytes", first[0].Record.PayloadBytes, 3)
	d := b.settle(b.lease(), delivery.OutcomeRejected)
	second := b.outbox()
	equal(b, "records", len(second), 1)
	equal(b, "state", second[0].Record.State, delivery.Retrying)
	// The answer to a record that a newer one replaced changes nothing.
	b.must(b.Acknowledge(t.Context(), []queue.Taken{{Seq: first[0].Seq, Recorded: true}, {Seq: 12345}}))
	equal(b, "records", len(b.outbox()), 1)
	b.must(b.Acknowledge(t.Context(), []queue.Taken{{Seq: second[0].Seq}}))
	equal(b, "records", len(b.outbox()), 0)
	equal(b, "unrecorded of a delivery that goes on", b.counters("a").Unrecorded, 0)
	b.clock.Advance(d.Wait + time.Millisecond)
	b.settle(b.lease(), delivery.OutcomeDelivered)
	b.restart()
	third := b.outbox()
	equal(b, "records", len(third), 1)
	equal(b, "state", third[0].Record.State, delivery.Delivered)
	if third[0].Seq <= second[0].Seq {
		t.Fatalf("number %d does not follow %d", third[0].Seq, second[0].Seq)
	}
	for range 2 { // a repeated answer counts once
		b.must(b.Acknowledge(t.Context(), []queue.Taken{{Seq: third[0].Seq}}))
	}
	equal(b, "unrecorded", b.counters("a").Unrecorded, 1)
	equal(b, "outbox", b.Stats().Outbox, 0)
}

func testOutboxFull(t *testing.T, engine Engine) {
	b := start(t, engine, Limits{OutboxRecords: 3})
	for range 5 {
		b.add("one", Endpoint("a"))
	}
	equal(b, "records", len(b.outbox()), 3)
	equal(b, "unrecorded while all go on", b.counters("a").Unrecorded, 0)
	for range 5 {
		b.settle(b.lease(), delivery.OutcomeDelivered)
	}
	equal(b, "records", len(b.outbox()), 3)
	equal(b, "unrecorded", b.counters("a").Unrecorded, 2)
	b.add("two", Endpoint("a"))
	b.settle(b.lease(), delivery.OutcomeGone)
	states := map[delivery.State]int{}
	for _, o := range b.outbox() {
		states[o.Record.State]++
	}
	equal(b, "failures", states[delivery.Failed], 1)
	equal(b, "successes", states[delivery.Delivered], 2)
	equal(b, "unrecorded", b.counters("a").Unrecorded, 3)
}

func testCounters(t *testing.T, engine Engine) {
	b := start(t, engine, Limits{})
	b.add("one", Endpoint("a"))
	b.add("one", Endpoint("b"))
	all, version := b.Counters(0)
	equal(b, "counters", len(all), 2)
	none, same := b.Counters(version)
	equal(b, "changes", len(none), 0)
	equal(b, "version", same, version)
	news := b.Counted()
	select {
	case <-news:
		t.Fatal("a change is told that did not happen")
	default:
	}
	l := b.lease()
	b.settle(l, delivery.OutcomeDelivered)
	<-news
	changed, _ := b.Counters(version)
	equal(b, "changes", len(changed), 1)
	equal(b, "endpoint", changed[0].Ref, l.Delivery().Ref)
	equal(b, "succeeded", changed[0].Succeeded, 1)
	equal(b, "pending", changed[0].Pending, 0)
	equal(b, "last success", changed[0].LastSuccess, b.clock.Now())
	equal(b, "last failure is unset", changed[0].LastFailure.IsZero(), true)
	// The same name under another UID takes over what waits.
	again := Endpoint(b.Waiting()[0].Name)
	name := again.Name
	again.UID = "uid-again"
	b.add("two", again)
	equal(b, "pending of the old UID", b.counters(name).Pending, 0)
	equal(b, "pending of the new UID", b.counters("again").Pending, 2)
}

func testCountersRestart(t *testing.T, engine Engine) {
	b := start(t, engine, Limits{})
	for range 3 {
		b.add("one", Endpoint("a"))
	}
	b.settle(b.lease(), delivery.OutcomeDelivered)
	b.settle(b.lease(), delivery.OutcomeGone)
	want := b.counters("a")
	equal(b, "succeeded", want.Succeeded, 1)
	equal(b, "failed", want.Failed, 1)
	equal(b, "pending", want.Pending, 1)
	b.restart()
	equal(b, "counters after a close", b.counters("a"), want)
	b.crash()
	equal(b, "counters after a crash", b.counters("a"), want)
	b.settle(b.lease(), delivery.OutcomeDelivered)
	equal(b, "succeeded", b.counters("a").Succeeded, 2)
}
