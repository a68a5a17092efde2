// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package record

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/garyclub/webhook-operator/internal/delivery"
	"github.com/garyclub/webhook-operator/internal/endpoint"
)

// ErrNotLoaded is the answer before the ledger knows what the leader before had acknowledged.
var ErrNotLoaded = errors.New("ledger is not loaded")

const (
	defaultInterval = 5 * time.Second
	ledgerWriters   = 2
	// maxQueues bounds the books; counters of further queues are taken and not kept, with a metric.
	maxQueues = 10_000
	// maxDones bounds the reports of a queue that wait for a write. A dispatcher has one at a time.
	maxDones = 1_000
)

// LedgerOptions of a Ledger.
type LedgerOptions struct {
	// Client writes ConfigMaps; Reader reads them from the API server.
	Client client.Client
	Reader client.Reader
	// Namespace is the manager's.
	Namespace string
	// Interval is how long counters are collected before they are written; 5 s by default. It is spread by a fifth.
	Interval time.Duration
	// OnChange hears of the endpoints whose Totals changed; it must not block. It may be nil.
	OnChange func(endpoint.Ref)
	// Metrics may be nil.
	Metrics *Metrics
}

// Ledger keeps the counters of all queues, one ConfigMap each. Totals shows nothing that is not in the API server: the
// next leader begins with at least what this one has shown, so that no status goes backwards.
type Ledger struct {
	o       LedgerOptions
	metrics *Metrics
	queue   workqueue.TypedRateLimitingInterface[bookKey]
	loaded  atomic.Bool
	started atomic.Bool
	stopped sync.Once
	stop    chan struct{}
	ended   chan struct{}

	mu    sync.Mutex
	books map[string]map[string]*book // by namespace and queue id
	count int
}

type bookKey struct{ namespace, queueID string }

// book is a queue's page with what has been reported since it was written.
type book struct {
	written page
	// resourceVersion is that of the ConfigMap; empty while there is none.
	resourceVersion string
	// changed lies over flushing, what is being written now, and that over written.tallies.
	changed, flushing map[string]tally
	lost              bool
	// dones are called once all changes so far are written.
	dones []func()
	due   bool // for writing
	bytes int
}

// current is the newest tally of the endpoint.
func (b *book) current(uid string) (t tally, known bool) {
	for _, layer := range []map[string]tally{b.changed, b.flushing, b.written.tallies} {
		if t, known = layer[uid]; known {
			return t, true
		}
	}
	return t, false
}

// NewLedger returns a ledger, to be loaded and then started.
func NewLedger(o LedgerOptions) (*Ledger, error) {
	if o.Client == nil || o.Reader == nil || o.Namespace == "" {
		return nil, errors.New("ledger: Client, Reader and Namespace are required")
	}
	if o.Interval == 0 {
		o.Interval = defaultInterval
	}
	if o.OnChange == nil {
		o.OnChange = func(endpoint.Ref) {}
	}
	if o.Metrics == nil {
		o.Metrics = NewMetrics(nil)
	}
	return &Ledger{
		o: o, metrics: o.Metrics, books: map[string]map[string]*book{}, stop: make(chan struct{}), ended: make(chan struct{}),
		queue: workqueue.NewTypedRateLimitingQueue(
			workqueue.NewTypedItemExponentialFailureRateLimiter[bookKey](firstRetry, lastRetry)),
	}, nil
}

// Count takes the cumulative counters of a queue over. done is called once, after they are in the API server; not after
// Stop. A queue belongs to the namespace that reports it: another one that uses its id has a book of its own.
func (l *Ledger) Count(ctx context.Context, namespace, queueID string, all []delivery.Counters, done func()) error {
	if !l.loaded.Load() {
		return ErrNotLoaded
	}
	select {
	case <-l.stop:
		return ErrStopped
	default:
	}
	l.mu.Lock()
	b := l.book(namespace, queueID)
	if b == nil {
		l.mu.Unlock()
		l.tooLarge(ctx, namespace, queueID)
		done() // or it would be reported for ever
		return nil
	}
	b.lost = false // it lives after all; what it was said to have lost stays said
	kept := true
	for i := range all {
		kept = b.report(&all[i]) && kept
	}
	if len(b.changed) == 0 && b.flushing == nil && !b.due && !b.written.lost {
		l.mu.Unlock()
		done()
		return nil
	}
	if len(b.dones) >= maxDones {
		l.mu.Unlock()
		return fmt.Errorf("more than %d reports of a queue wait for the ledger", maxDones)
	}
	b.dones = append(b.dones, done)
	l.schedule(b, bookKey{namespace, queueID})
	l.mu.Unlock()
	if !kept {
		l.tooLarge(ctx, namespace, queueID)
	}
	return nil
}

// report notes counters. It says whether there was room.
func (b *book) report(c *delivery.Counters) bool {
	before, known := b.current(c.UID)
	reported := tallyOf(c)
	reported.lost = before.lost
	t := before.after(reported)
	if known && t.equal(before) {
		return true
	}
	if max(len(c.UID), len(t.name), len(t.gone)) > maxText || !known && b.bytes+t.size(c.UID) > maxPageBytes {
		return false
	}
	b.bytes += t.size(c.UID)
	if known {
		b.bytes -= before.size(c.UID)
	}
	b.changed[c.UID] = t
	return true
}

// Lose says that the queue's disk is gone: what was pending there is lost. Saying it again changes nothing. It returns
// false when the queue is not known.
func (l *Ledger) Lose(namespace, queueID string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	b := l.books[namespace][queueID]
	if b == nil {
		return false
	}
	if b.lost {
		return true
	}
	b.lost = true
	for _, all := range []map[string]tally{b.written.tallies, b.flushing, b.changed} {
		for uid := range all {
			if t, _ := b.current(uid); t.pending > 0 {
				t.lost, t.pending = t.lost+t.pending, 0
				b.changed[uid] = t
			}
		}
	}
	l.schedule(b, bookKey{namespace, queueID})
	return true
}

// Totals sums an endpoint's written figures over the queues of its namespace. It returns false when there are none.
func (l *Ledger) Totals(namespace, uid string) (totals Totals, known bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, b := range l.books[namespace] {
		if t, counted := b.written.tallies[uid]; counted {
			totals.add(t)
			known = true
		}
	}
	return totals, known
}

// book finds or opens a queue's book; nil when there are too many. Under the lock.
func (l *Ledger) book(namespace, queueID string) *book {
	if b := l.books[namespace][queueID]; b != nil {
		return b
	}
	if l.count >= maxQueues || len(namespace) > maxText || len(queueID) > maxText {
		return nil
	}
	b := &book{written: page{namespace: namespace, queueID: queueID, tallies: map[string]tally{}}}
	l.open(b)
	return b
}

func (l *Ledger) open(b *book) {
	b.changed = map[string]tally{}
	namespace := b.written.namespace
	if l.books[namespace] == nil {
		l.books[namespace] = map[string]*book{}
	}
	l.books[namespace][b.written.queueID] = b
	l.count++
	l.metrics.ledgerQueues.Set(float64(l.count))
}

// schedule has the book written after the interval, spread so that queues which changed together are not written
// together. Under the lock.
func (l *Ledger) schedule(b *book, key bookKey) {
	if b.due {
		return
	}
	b.due = true
	l.queue.AddAfter(key, time.Duration(float64(l.o.Interval)*(0.8+0.4*rand.Float64())))
}

func (l *Ledger) tooLarge(ctx context.Context, namespace, queueID string) {
	l.metrics.ledgerErrors.WithLabelValues(ledgerTooLarge).Inc()
	logr.FromContextOrDiscard(ctx).V(1).Info("no room for the counters of a queue", "namespace", namespace, "queue", queueID)
}
