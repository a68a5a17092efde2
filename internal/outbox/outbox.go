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
	// window bounds the records that are sent and not answered.
	window = 1_000
	// batch bounds the records of one message.
	batch = 250
	// countersInterval is the least time between two reports of counters.
	countersInterval = 2 * time.Second
	// drainWait is how long a queue may take to hand out its next record before it counts as empty.
	drainWait = 200 * time.Millisecond
	// openWait is how long the opening of a stream may take once the outbox is stopped, and lastOpens how many in a row
	// may then end without an answer: a manager that is away is not waited for, unless what it is not told is lost.
	openWait  = time.Second
	lastOpens = 2

	firstWait = 100 * time.Millisecond
	maxWait   = 15 * time.Second
)

// ErrNotReached says that no stream to a manager was open at the end, and that none could be opened.
var ErrNotReached = errors.New("the manager was not reached for the last report")

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
	// Counted returns a channel that is closed when counters change next.
	Counted() <-chan struct{}
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
	// Last says that the queue ends with this process, and what is not reported with it: as long as there is anything, Stop
	// tries until its context ends. It is worth the wait, since a manager may be away because another one takes over.
	Last bool
	// Registerer takes the metrics; nil leaves them out.
	Registerer prometheus.Registerer
}

// Outbox reports until it is stopped.
type Outbox struct {
	queue    Queue
	reporter Reporter
	last     bool
	metrics  *metrics
	// reported is the queue's version of the counters that are in the ledger. Start alone uses it.
	reported uint64

	// draining is closed by Stop: what is there is sent, and then the outbox ends.
	draining chan struct{}
	drain    func()
	// cancel ends all at once; done is closed when Start has returned.
	mu      sync.Mutex
	cancel  context.CancelFunc
	stopped bool
	done    chan struct{}
	// left is why something may be left, once done is closed.
	left error
}

// New makes an outbox.
func New(o Options) (*Outbox, error) {
	if o.Queue == nil || o.Reporter == nil {
		return nil, errors.New("outbox: Queue and Reporter are required")
	}
	b := &Outbox{
		queue: o.Queue, reporter: o.Reporter, last: o.Last, metrics: newMetrics(o.Registerer),
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

	log, last := logr.FromContextOrDiscard(ctx), ""
	drained := 0 // streams that were opened in vain since the stop
	for failures := 1; ; failures++ {
		draining := b.isDraining()
		answered, err := b.report(ctx)
		if errors.Is(err, errDrained) || ctx.Err() != nil {
			return nil
		}
		if drained++; answered || !draining {
			drained = 0
		}
		away := drained >= lastOpens || errors.Is(err, ErrNotReached)
		if away && (!b.last || !b.unreported(ctx)) {
			b.left = ErrNotReached
			return nil
		}
		if answered {
			failures, last = 1, ""
		}
		last = tell(log, last, err)
		if !b.pause(ctx, failures) {
			return nil
		}
	}
}

// unreported says whether the manager lacks anything.
func (b *Outbox) unreported(ctx context.Context) bool {
	if counters, _ := b.queue.Counters(b.reported); len(counters) > 0 {
		return true
	}
	ctx, cancel := context.WithTimeout(ctx, drainWait)
	defer cancel()
	items, err := b.queue.Outbox(ctx, 0, 1)
	return err == nil && len(items) > 0
}

// tell logs why a report ended: a cause that is new for all to see, and its repetitions for those who look for them.
func tell(log logr.Logger, last string, err error) (cause string) {
	level := 0
	if cause = err.Error(); cause == last {
		level = 1
	}
	log.V(level).Info("report to the manager ended", "cause", cause)
	return cause
}

// pause waits before the next stream; being stopped ends a long wait.
func (b *Outbox) pause(ctx context.Context, failures int) bool {
	wait, stopping := backoff.Next(firstWait, maxWait, failures, rand.Float64()), b.draining
	if b.isDraining() {
		wait, stopping = firstWait, nil
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-stopping:
	case <-ctx.Done():
		return false
	}
	return true
}

// Stop sends what is there, with the last counters, and ends the outbox when that was taken, when no manager can be
// reached, or when ctx ends. What was not taken stays in the queue; the error says that there may be some. It may be
// repeated.
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
		return b.left
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
