// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package queuetest is the conformance suite of the queue: what each engine has to fulfil, run under a clock that the
// tests set. It relies on two habits beside the interface: a call with a context that has ended answers what is there
// without waiting, and an engine takes its time from the clock alone.
package queuetest

import (
	"context"
	"crypto/sha256"
	"sync"
	"testing"
	"time"

	"github.com/garyclub/webhook-operator/internal/delivery"
	"github.com/garyclub/webhook-operator/internal/endpoint"
	"github.com/garyclub/webhook-operator/internal/event"
	"github.com/garyclub/webhook-operator/internal/queue"
)

// Limits are what the suite sets of an engine. Zero means the engine's default.
type Limits struct {
	Clock                                      *Clock
	MaxBytes, DeadLetterBytes, IdempotencyKeys int64
	EndpointShare                              float64
	OutboxRecords                              int
	DeadLetterRetention, IdempotencyWindow     time.Duration
	// Receives says that deliveries are taken over from other queues.
	Receives bool
	// Ended is to be told what ended.
	Ended func([]queue.Ended)
}

// Disk is where a queue lives.
type Disk interface {
	// Open opens the queue. The one before it must have been closed.
	Open(t testing.TB) queue.Queue
	// Crash is the disk as a process that is killed now leaves it behind.
	Crash(t testing.TB) Disk
}

// Engine makes an empty disk.
type Engine func(t testing.TB, l Limits) Disk

// Run runs the suite against an engine.
func Run(t *testing.T, engine Engine) {
	for name, test := range map[string]func(*testing.T, Engine){
		"append, lease and settle":                       testLife,
		"a retry waits for its time":                     testRetry,
		"each endpoint has its own delivery of an event": testFanOut,
		"a full share fails its own endpoint only":       testShare,
		"a full queue takes nothing and leaves nothing":  testFull,
		"a repeated key gets the same answer":            testIdempotency,
		"of equal keys at once one is taken":             testIdempotencyAtOnce,
		"a key is forgotten after its window":            testIdempotencyWindow,
		"unmatched events are matched later":             testMatchLater,
		"expire ends what is past its deadline":          testExpireDeadline,
		"expire ends everything but what is in flight":   testExpireEvery,
		"a delivery past its deadline is not leased":     testDeadlineAtLease,
		"a hold of 410 survives a restart":               testGone,
		"the outbox has the latest state of a delivery":  testOutbox,
		"an outbox that is full leaves successes out":    testOutboxFull,
		"counters come when they changed":                testCounters,
		"counters survive restarts":                      testCountersRestart,
		"endpoints take turns":                           testTurns,
		"a refused endpoint is passed over":              testGate,
		"a refusal does not outlive what it refused":     testUnparkAll,
		"a queue is idle when nothing may be sent":       testIdle,
		"the longest due delivery is known":              testOldestDue,
		"ends are told once they are synced":             testEnded,
		"a release delays the endpoint":                  testRelease,
		"a waiting lease is woken":                       testWoken,
		"a restart gives leases back":                    testRestart,
		"a backlog larger than memory is kept in order":  testBacklog,
		"the tenth crash ends a delivery":                testInterrupted,
		"dead letters expire":                            testDeadLetters,
		"thousands of dead letters expire at once":       testManyDeadLetters,
		"what waits is leased for a hand-over":           testLeaseWaiting,
		"a backlog is leased for a hand-over":            testLeaseWaitingBacklog,
		"a wait that begins is told":                     testDeferred,
		"what is handed over is pending no more":         testHandedOver,
		"a delivery moves to another queue":              testTakeOver,
		"what is here is not taken twice":                testTakeOverKnows,
		"a full queue or share says so to a hand-over":   testTakeOverFull,
		"dead letters move to another queue":             testTakeOverDead,
		"more dead letters move than have room":          testTakeOverDeadBounds,
		"dead letters are leased for a hand-over":        testLeaseDead,
		"an event that comes twice is kept twice":        testTakeOverTwice,
		"an order has dead letters delivered again":      testRedeliver,
		"what failed again is for another order":         testRedeliverAgain,
		"an order goes on with what is handed over":      testRedeliverHandedOver,
		"an order names what it is for":                  testRedeliverChooses,
		"an order moves more than a batch":               testRedeliverMany,
		"an order ends where there is no room":           testRedeliverFull,
		"an order that breaks a rule moves nothing":      testRedeliverRefuses,
		"orders are forgotten":                           testRedeliverForgets,
		"a closed queue says so":                         testClosed,
	} {
		t.Run(name, func(t *testing.T) { test(t, engine) })
	}
}

// Clock is a clock that stands until it is advanced.
type Clock struct {
	mu     sync.Mutex
	now    time.Time
	alarms map[chan time.Time]time.Time
}

// NewClock returns a clock at an arbitrary time.
func NewClock() *Clock {
	return &Clock{now: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC), alarms: map[chan time.Time]time.Time{}}
}

// Now is the time.
func (c *Clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

// Alarm returns a channel that gets a value at the time.
func (c *Clock) Alarm(at time.Time) <-chan time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	ch := make(chan time.Time, 1)
	c.alarms[ch] = at
	c.strike()
	return ch
}

// Advance moves the time on.
func (c *Clock) Advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
	c.strike()
}

func (c *Clock) strike() {
	for ch, at := range c.alarms {
		if !at.After(c.now) {
			ch <- c.now
			delete(c.alarms, ch)
		}
	}
}

// Endpoint returns an endpoint with the defaults of the product's page.
func Endpoint(name string) *endpoint.Endpoint {
	return &endpoint.Endpoint{
		Ref: endpoint.Ref{Namespace: "team", Name: name}, UID: "uid-" + name, Events: []event.Type{event.CallCompleted},
		Retry: endpoint.Retry{
			MaxRetries: 3, InitialBackoff: 5 * time.Second, MaxBackoff: 5 * time.Minute, Deadline: 24 * time.Hour,
		},
	}
}

// Item returns an event with the payload for the endpoints.
func Item(now time.Time, payload string, endpoints ...*endpoint.Endpoint) queue.Item {
	return queue.Item{Matched: true, Endpoints: endpoints, Event: &event.Event{
		ID: event.NewID(), Namespace: "team", Type: event.CallCompleted, Time: now, CallID: "call_1",
		Payload: []byte(payload), SHA256: sha256.Sum256([]byte(payload)), Accepted: now,
	}}
}

// ended is a context for calls that are not to wait.
func ended() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}

// open is the gate that admits all.
type open struct{}

func (open) Admit(endpoint.Ref) bool { return true }

// bench is one queue under test.
type bench struct {
	*testing.T
	queue.Queue
	disk  Disk
	clock *Clock
}

func start(t *testing.T, engine Engine, l Limits) *bench {
	t.Helper()
	l.Clock = NewClock()
	b := &bench{T: t, disk: engine(t, l), clock: l.Clock}
	b.Queue = b.disk.Open(t)
	t.Cleanup(func() { _ = b.Close() })
	return b
}

func (b *bench) restart() {
	b.Helper()
	b.must(b.Close())
	b.Queue = b.disk.Open(b)
}

func (b *bench) crash() {
	b.Helper()
	disk := b.disk.Crash(b)
	b.must(b.Close())
	b.disk = disk
	b.Queue = disk.Open(b)
}

func (b *bench) must(err error) {
	b.Helper()
	if err != nil {
		b.Fatal(err)
	}
}

func (b *bench) add(payload string, endpoints ...*endpoint.Endpoint) queue.Accepted {
	b.Helper()
	accepted, err := b.Append(b.Context(), []queue.Item{Item(b.clock.Now(), payload, endpoints...)})
	b.must(err)
	return accepted[0]
}

// lease waits for a delivery.
func (b *bench) lease() queue.Lease {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.Context(), 20*time.Second)
	defer cancel()
	l, err := b.Lease(ctx, open{})
	b.must(err)
	return l
}

// none fails when a delivery is due.
func (b *bench) none(g queue.Gate) {
	b.Helper()
	if l, err := b.Lease(ended(), g); err == nil {
		b.Fatalf("leased %s, want nothing due", l.Delivery().EventID)
	}
}

// settle notes an attempt with the outcome.
func (b *bench) settle(l queue.Lease, o delivery.Outcome) delivery.Delivery {
	b.Helper()
	d := l.Delivery()
	now := b.clock.Now()
	a := delivery.Attempt{Number: d.AttemptCount + 1, Start: now, Duration: time.Millisecond, Outcome: o}
	d = delivery.After(d, Endpoint(d.Ref.Name), a, now, 0.5)
	b.must(l.Settle(b.Context(), d))
	return d
}

// fail attempts until the delivery failed.
func (b *bench) fail() {
	b.Helper()
	for {
		d := b.settle(b.lease(), delivery.OutcomeRejected)
		if d.State.Done() {
			return
		}
		b.clock.Advance(d.Wait)
	}
}

// outbox returns what is in the outbox now.
func (b *bench) outbox() []queue.Outgoing {
	b.Helper()
	records, err := b.Outbox(ended(), 0, 1000)
	if err != nil {
		return nil
	}
	return records
}

// counters returns the counters of an endpoint.
func (b *bench) counters(name string) delivery.Counters {
	b.Helper()
	all, _ := b.Counters(0)
	for _, c := range all {
		if c.UID == "uid-"+name {
			return c
		}
	}
	return delivery.Counters{}
}

func equal[T comparable](b *bench, what string, got, want T) {
	b.Helper()
	if got != want {
		b.Fatalf("%s is %v, want %v", what, got, want)
	}
}
