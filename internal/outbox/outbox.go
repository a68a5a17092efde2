// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package outbox is the dispatcher's stage that keeps outcomes and counters until the manager has taken them. It never
// stands in the way of a delivery: the queue keeps what waits here, and this stage may lag as far as the manager is
// away.
//
// Commit point: a record is removed from the queue after the manager has answered that it is durable or left out. A
// crash or a broken stream before that sends it again, under the same sequence number; after it, never.
package outbox

import (
	"context"
	"errors"
	"iter"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/garyclub/webhook-operator/internal/backoff"
	"github.com/garyclub/webhook-operator/internal/delivery"
)

const (
	// Window bounds the records that are sent and not answered.
	Window = 1_000
	// batch bounds the records of one message.
	batch = 250
	// countersInterval is the least time between two reports of counters.
	countersInterval = 2 * time.Second
	// drainWait is how long a queue may take to hand out its next record before it counts as empty.
	drainWait = 200 * time.Millisecond

	firstWait    = 100 * time.Millisecond
	maxWait      = 15 * time.Second
	maxDrainWait = time.Second // between two streams, once it is stopped
)

// Outgoing is one record of the queue.
type Outgoing struct {
	Seq    uint64
	Record delivery.Record
}

// Taken is the manager's answer to one Outgoing.
type Taken struct {
	Seq uint64
	// Recorded is false when the manager left the record out.
	Recorded bool
}

// Queue is what the outbox needs of the queue.
type Queue interface {
	// Outbox returns up to n records beyond the sequence number, oldest first, waiting until there is one.
	Outbox(ctx context.Context, after uint64, n int) ([]Outgoing, error)
	// Acknowledge removes what the manager has taken, and counts what it left out.
	Acknowledge(ctx context.Context, taken []Taken) error
	// Counters returns those that changed since the given version, and the version that they bring up to.
	Counters(since uint64) ([]delivery.Counters, uint64)
}

// Stream is one open stream to the manager; it ends with the context that it was opened with. The Send methods and Recv
// are called at the same time.
type Stream interface {
	SendRecords(records iter.Seq2[uint64, delivery.Record]) error
	// SendCounters sends counters under a version that is not 0.
	SendCounters(counters []delivery.Counters, version uint64) error
	// Recv returns the records that were taken, with whether they were recorded, and the version of the counters that
	// are in the manager's ledger.
	Recv() (taken map[uint64]bool, countersVersion uint64, err error)
}

// Reporter opens streams to the manager.
type Reporter func(ctx context.Context) (Stream, error)

// Options are the outbox's settings. Queue and Reporter are required.
type Options struct {
	Queue    Queue
	Reporter Reporter
	// Registerer takes the metrics; nil leaves them out.
	Registerer prometheus.Registerer
}

// Outbox reports until it is stopped.
type Outbox struct {
	queue    Queue
	reporter Reporter
	metrics  *metrics

	// draining is closed by Stop: what is there is sent, and then the outbox ends.
	draining chan struct{}
	drain    func()
	// cancel ends all at once; done is closed when Start has returned.
	mu      sync.Mutex
	cancel  context.CancelFunc
	stopped bool
	done    chan struct{}
}

// New makes an outbox.
func New(o Options) (*Outbox, error) {
	if o.Queue == nil || o.Reporter == nil {
		return nil, errors.New("outbox: Queue and Reporter are required")
	}
	b := &Outbox{
		queue: o.Queue, reporter: o.Reporter, metrics: newMetrics(o.Registerer),
		draining: make(chan struct{}), done: make(chan struct{}),
	}
	b.drain = sync.OnceFunc(func() { close(b.draining) })
	return b, nil
}

// Start reports until Stop, or until ctx ends, which leaves no last report. It is called once.
func (b *Outbox) Start(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	b.mu.Lock()
	if b.stopped {
		b.mu.Unlock()
		return nil
	}
	b.cancel = cancel
	b.mu.Unlock()
	defer close(b.done)

	log := logr.FromContextOrDiscard(ctx)
	for failures := 1; ; failures++ {
		answered, err := b.report(ctx)
		if errors.Is(err, errDrained) || ctx.Err() != nil {
			return nil
		}
		if answered {
			failures = 1
		}
		log.V(1).Info("report ended", "cause", err.Error())
		if !b.pause(ctx, failures) {
			return nil
		}
	}
}

// pause waits before the next stream; being stopped ends a long wait.
func (b *Outbox) pause(ctx context.Context, failures int) bool {
	limit, stopping := maxWait, b.draining
	if b.isDraining() {
		limit, stopping = maxDrainWait, nil
	}
	timer := time.NewTimer(backoff.Next(firstWait, limit, failures, rand.Float64()))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-stopping:
	case <-ctx.Done():
		return false
	}
	return true
}

// Stop sends what is there, with the last counters, and ends the outbox when that was taken, or when ctx ends. What
// was not taken stays in the queue. It may be repeated.
func (b *Outbox) Stop(ctx context.Context) error {
	b.drain()
	b.mu.Lock()
	cancel := b.cancel
	b.stopped = true
	b.mu.Unlock()
	if cancel == nil {
		return nil // never started
	}
	select {
	case <-b.done:
		return nil
	case <-ctx.Done():
		cancel()
		<-b.done
		return ctx.Err()
	}
}

func (b *Outbox) isDraining() bool {
	select {
	case <-b.draining:
		return true
	default:
		return false
	}
}
