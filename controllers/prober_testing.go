// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"crypto/sha256"
	"time"

	"github.com/garyclub/webhook-operator/internal/deliver"
	"github.com/garyclub/webhook-operator/internal/delivery"
	"github.com/garyclub/webhook-operator/internal/endpoint"
	"github.com/garyclub/webhook-operator/internal/event"
	"github.com/garyclub/webhook-operator/internal/sample"
)

const (
	testRetries    = 3
	testBackoff    = 5 * time.Second
	testMaxBackoff = time.Minute
	testDeadline   = 10 * time.Minute
	offerTimeout   = 5 * time.Second
)

// TestOrder is a test event that is to be sent.
type TestOrder struct {
	// Key tells orders of one endpoint apart: the same key is the same order.
	Key string
	// EventID is derived from what the status said before, so that a failover repeats a test under the same webhook-id.
	EventID string
	Type    event.Type
	// Place is where it goes; Requested is the annotation's value when a person asked.
	Place, Requested string
	// MaxRetries is 0 for a person, who can ask again.
	MaxRetries int
}

// TestReport says how far an order has come.
type TestReport struct {
	Order    TestOrder
	Delivery delivery.Delivery
}

// Last is the latest attempt; its zero value when there was none.
func (t TestReport) Last() delivery.Attempt {
	if n := len(t.Delivery.Attempts); n > 0 {
		return t.Delivery.Attempts[n-1]
	}
	return delivery.Attempt{}
}

type testRun struct {
	order    TestOrder
	subject  *endpoint.Endpoint
	event    *event.Event
	delivery delivery.Delivery
	// paced says that the host's turn for the next attempt was taken; Due is then that turn.
	paced bool
}

// Test says how far the order has come, and begins with it when it is new. The attempts that are left go by p, so a
// change of policy helps them too.
func (b *Prober) Test(p *endpoint.Endpoint, order TestOrder) TestReport {
	b.mu.Lock()
	defer b.mu.Unlock()
	entry := b.of(p.Ref, p.UID)
	if run := entry.test; run != nil && run.order.Key == order.Key {
		run.subject = testSubject(p, order)
		return run.report()
	}
	now := time.Now()
	if run := entry.test; run != nil && !run.delivery.State.Done() {
		entry.interrupt()
		if run.delivery.AttemptCount > 0 {
			// Its DeliveryAttempt would be shown as being retried.
			run.delivery = delivery.Fail(run.delivery, delivery.ReasonInterrupted, now)
			entry.superseded = append(entry.superseded, run.record())
		}
	}
	entry.test = newTestRun(p, order, now)
	b.wake(p.Ref)
	return entry.test.report()
}

// Report returns the last order of an endpoint when it is done.
func (b *Prober) Report(ref endpoint.Ref, uid string) (TestReport, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	entry := b.probes[ref]
	if entry == nil || entry.uid != uid || entry.test == nil || !entry.test.delivery.State.Done() {
		return TestReport{}, false
	}
	return entry.test.report(), true
}

func newTestRun(p *endpoint.Endpoint, order TestOrder, now time.Time) *testRun {
	callID := sample.NewCallID()
	payload := sample.Payload(order.Type, now, callID)
	return &testRun{
		order: order, subject: testSubject(p, order),
		event: &event.Event{ID: order.EventID, Namespace: p.Namespace, Type: order.Type, Time: now.UTC().Truncate(time.Second),
			CallID: callID, Payload: payload, SHA256: sha256.Sum256(payload), Accepted: now},
		delivery: delivery.Delivery{Ref: p.Ref, UID: p.UID, EventID: order.EventID, Trigger: delivery.TriggerTest,
			State: delivery.Pending, Accepted: now, Deadline: now.Add(testDeadline), Due: now, MaxAttempts: order.MaxRetries + 1},
	}
}

func testSubject(p *endpoint.Endpoint, order TestOrder) *endpoint.Endpoint {
	subject := *p
	subject.Retry = endpoint.Retry{MaxRetries: order.MaxRetries, InitialBackoff: testBackoff, MaxBackoff: testMaxBackoff, Deadline: testDeadline}
	return &subject
}

func (t *testRun) report() TestReport { return TestReport{Order: t.order, Delivery: t.delivery} }

func (t *testRun) record() delivery.Record {
	e := t.event
	return delivery.Record{Delivery: t.delivery, EventType: e.Type, EventTime: e.Time, CallID: e.CallID,
		PayloadBytes: len(e.Payload), PayloadSHA: e.SHA256}
}

func (b *Prober) attempt(ctx context.Context, ref endpoint.Ref, run *testRun, request deliver.Request) {
	attempt := deliver.Attempt(ctx, b.network, request)
	if ctx.Err() != nil {
		return // superseded, or the manager stops: the next leader sends it again, under the same id
	}
	b.metrics.tests.WithLabelValues(string(attempt.Outcome)).Inc()
	record, ok := b.settle(ref, run, request.Endpoint, attempt)
	if ok {
		b.offer(ctx, record)
	}
}

func (b *Prober) settle(ref endpoint.Ref, run *testRun, p *endpoint.Endpoint, attempt delivery.Attempt) (delivery.Record, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	entry := b.probes[ref]
	if entry == nil || entry.test != run {
		return delivery.Record{}, false
	}
	run.delivery = delivery.After(run.delivery, p, attempt, time.Now(), jitter())
	run.paced = false
	return run.record(), true
}
