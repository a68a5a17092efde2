// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package record is the manager's stage that turns what dispatchers report into objects: a DeliveryAttempt for each
// delivery (Recorder), how many of them are kept (Retention), the endpoints' counters (Ledger), what is said of queues that
// went with their pods (Losses), and the budget that all writes of the manager keep to (Budget).
//
// Commit points: a record is answered true after its status is in the API server, and counters are acknowledged after
// their ConfigMap is. What was not acknowledged is reported again: names are deterministic and counters cumulative, so
// a repeat changes nothing. Records are derived data: they may be late, and above the budget they are left out; then the
// answer is false, and the dispatcher counts the delivery as unrecorded.
//
// Guarantees: a finished record is never changed, but for one that was said to be lost with its queue; a record that
// exists is brought to its end whatever the load; failures wait rather than be left out, as far as the endpoint's history
// would keep them. What is lost is counted before it is recorded, and a queue is counted in one page: see Losses and Fold.
//
// Lock order: none of the locks here is held while another package is called.
package record

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/garyclub/webhook-operator/internal/delivery"
)

// ErrStopped is the answer of what was stopped, or not started yet.
var ErrStopped = errors.New("recorder is stopped")

const (
	defaultWaiting = 4_096
	defaultWriters = 8
	// pendingDelay is how long a delivery without an attempt is held back: most are delivered by then, which spares the
	// write in between.
	pendingDelay = time.Second
)

// Shelf is what the recorder must know of the records that exist; Retention fulfils it.
type Shelf interface {
	// Backlog is how many deletions wait.
	Backlog() int
	// ActiveFull says that the namespace, or the cluster, has too many records of unfinished deliveries.
	ActiveFull(namespace string) bool
	// OfQueue lists the records of a namespace, or of all when that is empty, that name the queue and have not ended.
	// known is false before all records were seen.
	OfQueue(namespace, queueID string) (keys []types.NamespacedName, known bool)
}

// Headroom says how much of the burst is left, from 0 to 1; Budget fulfils it.
type Headroom interface{ Headroom() float64 }

// Options of a Recorder.
type Options struct {
	// Client reads endpoints and DeliveryAttempts from the cache and writes to the API server.
	Client client.Client
	// Reader reads from the API server: what a refused write showed the cache to be behind of.
	Reader   client.Reader
	Headroom Headroom
	// Shelf may be nil: nothing is then held back for it.
	Shelf Shelf
	// MaxWaiting bounds the states that are not answered; 4,096 by default, of which one namespace may have a quarter.
	MaxWaiting int
	// Writers is how many records are written at once; 8 by default.
	Writers int
	// Metrics may be nil.
	Metrics *Metrics
}

// Recorder writes DeliveryAttempts.
type Recorder struct {
	o       Options
	metrics *Metrics
	// room has a place for each state that was not answered.
	room    *room
	wake    chan struct{}
	stop    chan struct{}
	stopped sync.Once
	started atomic.Bool
	ended   chan struct{}

	mu      sync.Mutex
	line    *line
	buckets buckets
	recent  *recent
}

// New returns a recorder that takes records at once and writes them when it is started.
func New(o Options) (*Recorder, error) {
	if o.Client == nil || o.Reader == nil || o.Headroom == nil {
		return nil, errors.New("recorder: Client, Reader and Headroom are required")
	}
	if o.MaxWaiting == 0 {
		o.MaxWaiting = defaultWaiting
	}
	if o.Writers == 0 {
		o.Writers = defaultWriters
	}
	if o.Metrics == nil {
		o.Metrics = NewMetrics(nil)
	}
	return &Recorder{
		o: o, metrics: o.Metrics, room: newRoom(o.MaxWaiting), wake: make(chan struct{}, 1),
		stop: make(chan struct{}), ended: make(chan struct{}), line: newLine(), buckets: buckets{}, recent: newRecent(),
	}, nil
}

// Offer takes the state of a delivery over. It blocks while the recorder is full, or the
// namespace has its part of it. done is called exactly once, from
// another goroutine or before Offer returns: with true when the record is in the API server, with false when it was
// left out. After Stop it is not called any more: the dispatcher reports to the next leader.
func (r *Recorder) Offer(ctx context.Context, namespace string, d delivery.Record, done func(recorded bool)) error {
	select {
	case <-r.stop:
		return ErrStopped
	default:
	}
	if err := r.room.enter(ctx, r.stop, namespace); err != nil {
		return err
	}
	r.metrics.waiting.Inc()
	d.Ref.Namespace = namespace
	e := &entry{key: types.NamespacedName{Namespace: namespace, Name: Name(&d)}, record: d, dones: []func(bool){r.answering(namespace, done)}}
	now := time.Now()
	o := r.stored(ctx, e.key)
	e.class = classOf(&e.record, o != nil)
	if d.State == delivery.Pending {
		e.due = now.Add(pendingDelay)
	}
	r.mu.Lock()
	held := r.line.holds(e.key)
	r.mu.Unlock()
	// While an earlier state is held, its record may come into being now, and would need this one.
	if !held && !r.admit(e, o, now) {
		r.leaveOut(e, leftOutBudget)
		return nil
	}
	r.mu.Lock()
	coalesced := r.line.add(e, now)
	r.mu.Unlock()
	if coalesced {
		r.metrics.coalesced.Inc()
	}
	r.wakeUp()
	return nil
}

func (r *Recorder) answering(namespace string, done func(bool)) func(bool) {
	return func(recorded bool) {
		r.room.leave(namespace)
		r.metrics.waiting.Dec()
		done(recorded)
	}
}

// Start writes until the context ends or Stop is called.
func (r *Recorder) Start(ctx context.Context) error {
	if !r.started.CompareAndSwap(false, true) {
		return errors.New("recorder was started before")
	}
	defer close(r.ended)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var writers sync.WaitGroup
	for range r.o.Writers {
		writers.Go(func() { r.writeAll(ctx) })
	}
	select {
	case <-ctx.Done():
	case <-r.stop:
	}
	cancel()
	r.stopped.Do(func() { close(r.stop) })
	writers.Wait()
	return nil
}

// Stop ends the writers. What waits is not answered. It may be repeated.
func (r *Recorder) Stop(ctx context.Context) error {
	r.stopped.Do(func() { close(r.stop) })
	if !r.started.Load() {
		return nil
	}
	select {
	case <-r.ended:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (r *Recorder) wakeUp() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// writeAll is one writer.
func (r *Recorder) writeAll(ctx context.Context) {
	for {
		e, ok := r.take(ctx)
		if !ok {
			return
		}
		result := r.write(WithShare(ctx, ShareRecords), e)
		r.finish(ctx, e, result)
	}
}

// take waits for an entry.
func (r *Recorder) take(ctx context.Context) (*entry, bool) {
	for ctx.Err() == nil {
		r.mu.Lock()
		e, next := r.line.take(time.Now())
		r.mu.Unlock()
		if e != nil {
			r.wakeUp() // there may be one for the next writer
			return e, true
		}
		if !r.sleep(ctx, next) {
			return nil, false
		}
	}
	return nil, false
}

func (r *Recorder) sleep(ctx context.Context, until time.Time) bool {
	var due <-chan time.Time
	if !until.IsZero() {
		t := time.NewTimer(time.Until(until))
		defer t.Stop()
		due = t.C
	}
	select {
	case <-due:
	case <-r.wake:
	case <-ctx.Done():
		return false
	}
	return true
}
