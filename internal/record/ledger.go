// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package record

import (
	"context"
	"errors"
	"fmt"
	"maps"
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

// errFolding is the answer for a moment, to a queue that was taken for gone.
var errFolding = errors.New("the queue's counters are being moved")

const (
	defaultInterval = 5 * time.Second
	ledgerWriters   = 2
	// maxQueues bounds the books; counters of further queues are taken and not kept, with a metric. A namespace may have a
	// part of them, as it may of the recorder's room, and a pod a few: it has one, and another when its volume was emptied.
	maxQueues       = 10_000
	maxPerPod       = 8
	maxPerNamespace = maxQueues / namespacePart
	// crowdedPart is the part of either bound above which no page is kept that nothing is expected of.
	crowdedPart = 2
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

// Ledger keeps the counters of all queues, one ConfigMap each, and one for all queues of a namespace that are gone. Totals
// shows nothing that is not in the API server: the next leader begins with at least what this one has shown, so that no
// status goes backwards.
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
	// wide are the books with endpoints of other namespaces than their own: those of gateways.
	wide map[*book]struct{}
	// absent has the endpoints that do not exist (any more), and since when that is known.
	absent map[string]time.Time
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
	holder            holder
	heard             time.Time
	// folding: its counters are being added to those of its namespace. folded: they are there, and count no more here;
	// what is left is to be deleted.
	folding, folded bool
	// dones are called once all changes so far are written.
	dones []func()
	due   bool // for writing
	bytes int
}

// idle says that nothing of the book waits to be written.
func (b *book) idle() bool {
	return len(b.changed) == 0 && b.flushing == nil && !b.due && b.lost == b.written.lost && b.holder == b.written.holder && !b.stale()
}

// mayBeGone says that the queue is looked at when its dispatcher is not connected: it does not outlive its pod, or nobody
// has heard of it for longer than any delivery lives.
func (b *book) mayBeGone(at time.Time) bool {
	if b.holder.podUID == "" || b.folded {
		return false
	}
	return !b.holder.persistent || b.lost || at.Sub(b.heard) >= abandonedAfter
}

// stale says that the page has an old time at which a queue on a volume was heard of.
func (b *book) stale() bool {
	return b.holder.persistent && b.heard.Sub(b.written.heard) >= heardInterval
}

// pending is what the queue holds.
func (b *book) pending() (sum int64) {
	current := maps.Clone(b.written.tallies)
	maps.Copy(current, b.flushing)
	maps.Copy(current, b.changed)
	for _, t := range current {
		sum += t.pending
	}
	return sum
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
		o: o, metrics: o.Metrics, books: map[string]map[string]*book{}, wide: map[*book]struct{}{}, stop: make(chan struct{}), ended: make(chan struct{}),
		queue: workqueue.NewTypedRateLimitingQueue(
			workqueue.NewTypedItemExponentialFailureRateLimiter[bookKey](firstRetry, lastRetry)),
	}, nil
}

// Loaded says whether Totals knows what the leader before had acknowledged.
func (l *Ledger) Loaded() bool { return l.loaded.Load() }

// Count takes the cumulative counters of a queue over. done is called once, after they are in the API server; not after
// Stop. A queue belongs to the namespace of the pod that reports it: another one that uses its id has a book of its own.
// Counters of other namespaces are a gateway's; that from is one is for the caller to know.
func (l *Ledger) Count(ctx context.Context, from delivery.Source, all []delivery.Counters, done func()) error {
	if !l.loaded.Load() {
		return ErrNotLoaded
	}
	select {
	case <-l.stop:
		return ErrStopped
	default:
	}
	l.mu.Lock()
	b, problem := l.book(from)
	if problem != "" {
		l.mu.Unlock()
		l.notKept(ctx, from, problem)
		done() // or it would be reported for ever
		return nil
	}
	if b.folding {
		l.mu.Unlock()
		return errFolding
	}
	b.lost = false // it lives after all; what it was said to have lost stays said
	b.holder, b.heard = holderOf(from), now()
	kept := true
	for i := range all {
		kept = b.report(&all[i]) && kept
	}
	l.noteWidth(b, b.changed)
	if b.idle() {
		l.mu.Unlock()
		done()
		return nil
	}
	if len(b.dones) >= maxDones {
		l.mu.Unlock()
		return fmt.Errorf("more than %d reports of a queue wait for the ledger", maxDones)
	}
	b.dones = append(b.dones, done)
	l.schedule(b, bookKey{from.Namespace, from.QueueID})
	l.mu.Unlock()
	if !kept {
		l.notKept(ctx, from, ledgerTooLarge)
	}
	return nil
}

func holderOf(from delivery.Source) holder {
	if max(len(from.Pod), len(from.PodUID)) > maxText {
		return holder{persistent: from.Persistent}
	}
	return holder{pod: from.Pod, podUID: from.PodUID, persistent: from.Persistent}
}

// now is as exact as pages are.
func now() time.Time { return time.Now().UTC().Truncate(time.Millisecond) }

// noteWidth needs the lock.
func (l *Ledger) noteWidth(b *book, tallies map[string]tally) {
	for _, t := range tallies {
		if t.namespace != "" {
			l.wide[b] = struct{}{}
			return
		}
	}
}

// report notes counters. It says whether there was room.
func (b *book) report(c *delivery.Counters) bool {
	before, known := b.current(c.UID)
	reported := tallyOf(c)
	reported.lost = before.lost
	if reported.namespace = c.Ref.Namespace; reported.namespace == b.written.namespace {
		reported.namespace = ""
	}
	t := before.after(reported)
	if known && t.equal(before) {
		return true
	}
	if max(len(c.UID), len(t.name), len(t.namespace), len(t.gone)) > maxText || !known && b.bytes+t.size(c.UID) > maxPageBytes {
		return false
	}
	b.bytes += t.size(c.UID)
	if known {
		b.bytes -= before.size(c.UID)
	}
	b.changed[c.UID] = t
	return true
}

// Lose says that the queue's disk is gone: what was pending there is lost, and returned. Saying it again changes nothing.
// known is false when the queue is not.
func (l *Ledger) Lose(namespace, queueID string) (lost int64, known bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	b := l.books[namespace][queueID]
	if b == nil || b.folding || b.folded {
		return 0, false
	}
	if b.lost {
		return 0, true
	}
	b.lost, b.heard = true, now()
	for _, all := range []map[string]tally{b.written.tallies, b.flushing, b.changed} {
		for uid := range all {
			if t, _ := b.current(uid); t.pending > 0 {
				lost += t.pending
				t.lost, t.pending = t.lost+t.pending, 0
				b.changed[uid] = t
			}
		}
	}
	l.schedule(b, bookKey{namespace, queueID})
	return lost, true
}

// Totals sums an endpoint's written figures over the queues of its namespace and those of gateways. It returns false when
// there are none.
func (l *Ledger) Totals(namespace, uid string) (totals Totals, known bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	add := func(b *book) {
		t, counted := b.written.tallies[uid]
		if counted && !b.folded && t.in(b.written.namespace) == namespace {
			totals.add(t)
			for _, incarnation := range b.written.gone[uid] {
				totals.addGone(incarnation)
			}
			known = true
		}
	}
	for _, b := range l.books[namespace] {
		add(b)
	}
	for b := range l.wide {
		if b.written.namespace != namespace {
			add(b)
		}
	}
	return totals, known
}

// book finds or opens a queue's book; otherwise it says why there is none. Under the lock.
func (l *Ledger) book(from delivery.Source) (b *book, problem string) {
	namespace, queueID := from.Namespace, from.QueueID
	if queueID == foldedQueue || l.isFolded(namespace, queueID) {
		return nil, ledgerFolded
	}
	if b := l.books[namespace][queueID]; b != nil {
		return b, ""
	}
	if len(namespace) > maxText || len(queueID) > maxText || !l.hasPlace(namespace, from.PodUID) {
		return nil, ledgerTooLarge
	}
	b = &book{written: page{namespace: namespace, queueID: queueID, tallies: map[string]tally{}}}
	l.open(b)
	return b, ""
}

// hasPlace says whether another queue of the pod may have a book. Under the lock.
func (l *Ledger) hasPlace(namespace, podUID string) bool {
	of := l.books[namespace]
	if l.count >= maxQueues || len(of) >= maxPerNamespace {
		return false
	}
	ofPod := 0
	for _, b := range of {
		if podUID != "" && b.holder.podUID == podUID && !b.folded {
			ofPod++
		}
	}
	return ofPod < maxPerPod
}

// crowded says that places are getting scarce, for all or for the namespace. Under the lock.
func (l *Ledger) crowded(namespace string) bool {
	return l.count > maxQueues/crowdedPart || len(l.books[namespace]) > maxPerNamespace/crowdedPart
}

func (l *Ledger) open(b *book) {
	b.changed = map[string]tally{}
	namespace := b.written.namespace
	if l.books[namespace] == nil {
		l.books[namespace] = map[string]*book{}
	}
	l.books[namespace][b.written.queueID] = b
	l.count++
	l.noteWidth(b, b.written.tallies)
	l.metrics.ledgerQueues.Set(float64(l.count))
}

// close is the opposite of open.
func (l *Ledger) close(b *book) {
	of := l.books[b.written.namespace]
	if of[b.written.queueID] != b {
		return
	}
	if delete(of, b.written.queueID); len(of) == 0 {
		delete(l.books, b.written.namespace)
	}
	delete(l.wide, b)
	l.count--
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

func (l *Ledger) notKept(ctx context.Context, from delivery.Source, problem string) {
	l.metrics.ledgerErrors.WithLabelValues(problem).Inc()
	logr.FromContextOrDiscard(ctx).V(1).Info("counters of a queue are not kept", "namespace", from.Namespace, "pod", from.Pod,
		"queue", from.QueueID, "reason", problem)
}
