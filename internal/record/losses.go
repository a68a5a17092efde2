// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package record

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"github.com/go-logr/logr"
)

const (
	// reconnectTime is what dispatchers get to come back after another manager took over: more than their longest wait
	// between two tries.
	reconnectTime = 2 * time.Minute
	sweepInterval = 10 * time.Second
	// sweepTimeout ends a sweep that the API server holds up; the next one goes on.
	sweepTimeout = time.Minute
	// asksPerSweep is 2 pods a second.
	asksPerSweep = 20
	// foldsPerSweep are namespaces, and deletesPerSweep pages.
	foldsPerSweep   = 5
	deletesPerSweep = 50
	// loseTimeout is for a queue's records, which wait for room in the recorder; and recordsTimeout for those of all queues
	// in one sweep, so that the next one is not late.
	loseTimeout    = 5 * time.Second
	recordsTimeout = 20 * time.Second
	forgetInterval = 10 * time.Minute
)

// Dispatchers says whether the dispatcher in a pod has an open stream; control.Server fulfils it.
type Dispatchers interface{ Connected(podUID string) bool }

// Pods says whether a pod is there, under that UID, and may still run. It asks the API server itself.
type Pods interface {
	Exists(ctx context.Context, namespace, name, uid string) (bool, error)
}

// Endpoints knows which endpoints there are.
type Endpoints interface {
	// Exists returns a function that says whether an endpoint exists, or may; nil while that is not known. The function
	// does not block.
	Exists() func(namespace, uid string) bool
}

// LossOptions of Losses. All are required but Endpoints, without which no counters are dropped, and Metrics.
type LossOptions struct {
	Ledger      *Ledger
	Recorder    *Recorder
	Dispatchers Dispatchers
	Pods        Pods
	Endpoints   Endpoints
	Metrics     *Metrics
}

// Losses notices queues that went with their pods, and says what was lost with them; and it clears the ledger of what is
// gone. It looks at queues that do not outlive their pod and whose dispatcher is not connected. Once the API server says
// that the pod is gone, and a minute has passed, the ledger turns what was pending into lost, and the records that name
// the queue fail as QueueLost: in this order, each of which may be repeated by the next leader without changing anything.
// Records that name a queue which held nothing have left it, and get an hour to say so.
//
// A queue that outlives its pod is treated so when its pod is gone and nobody has heard of it for eight days: no delivery
// lives longer. Should its volume come back after that, its ends are recorded, but it counts no more once it was folded.
type Losses struct {
	o       LossOptions
	metrics *Metrics
	watches map[bookKey]*watch
	// forgot is when counters of absent endpoints were dropped last.
	forgot time.Time
}

// NewLosses returns a loop for the leader.
func NewLosses(o LossOptions) (*Losses, error) {
	if o.Ledger == nil || o.Recorder == nil || o.Dispatchers == nil || o.Pods == nil {
		return nil, errors.New("losses: Ledger, Recorder, Dispatchers and Pods are required")
	}
	if o.Metrics == nil {
		o.Metrics = NewMetrics(nil)
	}
	return &Losses{o: o, metrics: o.Metrics, watches: map[bookKey]*watch{}}, nil
}

// Start looks until the context ends; first it lets dispatchers come back. It is called once, on the leader.
func (l *Losses) Start(ctx context.Context) error {
	timer := time.NewTimer(reconnectTime)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		}
		l.sweep(ctx)
		timer.Reset(sweepInterval)
	}
}

// sweep takes the next step of each queue. Records come last, in time of their own: they may have to wait for room in the
// recorder, and nothing waits for them.
func (l *Losses) sweep(ctx context.Context) {
	if !l.o.Ledger.Loaded() {
		return
	}
	var asks, records []*sighting
	folds := map[string][]string{}
	silent := l.silent()
	for _, s := range silent {
		w := l.watches[s.key]
		switch nextStep(s, w, now()) {
		case stepAsk:
			asks = append(asks, s)
		case stepLose:
			l.lose(s, w)
		case stepSeekRecords:
			l.seekRecords(s, w)
		case stepLoseRecords:
			records = append(records, s)
		case stepFold:
			folds[s.key.namespace] = append(folds[s.key.namespace], s.key.queueID)
		}
	}
	l.ledgerSteps(ctx, asks, folds)
	l.forget()
	l.loseAllRecords(ctx, records)
}

func (l *Losses) ledgerSteps(ctx context.Context, asks []*sighting, folds map[string][]string) {
	ctx, cancel := context.WithTimeout(ctx, sweepTimeout)
	defer cancel()
	l.ask(ctx, asks)
	l.fold(ctx, folds)
}

// silent are the queues whose dispatcher is not connected; what is remembered of the others is forgotten.
func (l *Losses) silent() (silent []*sighting) {
	watches := map[bookKey]*watch{}
	for key, pod := range l.o.Ledger.holders() {
		if l.o.Dispatchers.Connected(pod.podUID) {
			l.o.Ledger.hear(key, pod)
			continue
		}
		s, found := l.o.Ledger.sight(key)
		if !found {
			continue
		}
		w := l.watches[key]
		if w == nil || w.outdated(s) {
			w = &watch{podUID: s.pod.podUID}
		}
		w.declared = w.declared || s.lost
		watches[key] = w
		silent = append(silent, s)
	}
	l.watches = watches
	return silent
}

// toAsk chooses the pods that are asked for: those first in which something may be lost, and of either kind those that
// have waited longest. A quarter is left to the other kind, which would never be folded otherwise.
func (l *Losses) toAsk(all []*sighting) []*sighting {
	slices.SortFunc(all, func(a, b *sighting) int {
		return cmp.Or(l.watches[a.key].askAfter.Compare(l.watches[b.key].askAfter), cmp.Compare(a.key.queueID, b.key.queueID))
	})
	var first, others []*sighting
	for _, s := range all {
		if s.mayLose() {
			first = append(first, s)
		} else {
			others = append(others, s)
		}
	}
	n := min(len(first), asksPerSweep-min(len(others), asksPerSweep/4))
	return append(first[:n:n], others[:min(len(others), asksPerSweep-n)]...)
}

// ask looks for some of the pods.
func (l *Losses) ask(ctx context.Context, all []*sighting) {
	for _, s := range l.toAsk(all) {
		w := l.watches[s.key]
		exists, err := l.o.Pods.Exists(ctx, s.key.namespace, s.pod.pod, s.pod.podUID)
		if w.askAfter = now().Add(askInterval); err != nil {
			logr.FromContextOrDiscard(ctx).V(1).Info("cannot tell whether a pod is there", "namespace", s.key.namespace,
				"pod", s.pod.pod, "error", err.Error())
			continue
		}
		if !exists {
			w.gone = now()
		}
	}
}

func (l *Losses) lose(s *sighting, w *watch) {
	n, known := l.o.Ledger.Lose(s.key.namespace, s.key.queueID)
	if !known {
		return
	}
	w.declared, w.here, w.settled, w.repeats, w.repeatAfter = true, true, false, 0, time.Time{}
	l.metrics.queuesLost.Inc()
	l.metrics.deliveriesLost.Add(float64(n))
}

// recordsIn is the namespace of the queue's records; empty for a gateway's, which are in many.
func (s *sighting) recordsIn() string {
	if s.wide {
		return ""
	}
	return s.key.namespace
}

// seekRecords settles a queue that held nothing and that no record names, so that only the others wait.
func (l *Losses) seekRecords(s *sighting, w *watch) {
	n, known := l.o.Recorder.names(s.recordsIn(), s.key.queueID)
	if w.settled = known && n == 0; w.settled {
		return
	}
	w.repeatAfter = now().Add(seekInterval)
	if end := w.gone.Add(arrivalTime); w.repeatAfter.After(end) {
		w.repeatAfter = end
	}
}

// loseAllRecords takes those first that have waited longest. A namespace whose part of the recorder is full is left alone
// until the next sweep.
func (l *Losses) loseAllRecords(ctx context.Context, all []*sighting) {
	ctx, cancel := context.WithTimeout(ctx, recordsTimeout)
	defer cancel()
	slices.SortFunc(all, func(a, b *sighting) int {
		return l.watches[a.key].repeatAfter.Compare(l.watches[b.key].repeatAfter)
	})
	full := map[string]bool{}
	for _, s := range all {
		if namespace := s.key.namespace; !full[namespace] && ctx.Err() == nil {
			full[namespace] = l.loseRecords(ctx, s, l.watches[s.key]) != nil
		}
	}
}

// loseRecords says it in the records until none is left; and once in the log, if there is anything to say.
func (l *Losses) loseRecords(ctx context.Context, s *sighting, w *watch) error {
	ctx, cancel := context.WithTimeout(ctx, loseTimeout)
	defer cancel()
	open, known, err := l.o.Recorder.Lose(ctx, s.recordsIn(), s.key.queueID)
	w.settled = known && open == 0 && err == nil
	if !w.settled {
		w.repeatAfter = now().Add(w.repeat())
	}
	if (w.here || open > 0) && known && !w.said {
		w.said = true
		logr.FromContextOrDiscard(ctx).Info("a queue was lost with its pod", "namespace", s.key.namespace, "pod", s.pod.pod,
			"queue", s.key.queueID, "deliveries", s.allLost, "records", open)
	}
	return err
}

func (l *Losses) fold(ctx context.Context, folds map[string][]string) {
	log := logr.FromContextOrDiscard(ctx)
	n := 0
	for namespace, queues := range folds {
		if n++; n > foldsPerSweep {
			break
		}
		if err := l.o.Ledger.Fold(ctx, namespace, queues); err != nil {
			log.V(1).Info("counters were not folded yet", "namespace", namespace, "error", err.Error())
		}
	}
	if err := l.o.Ledger.DeleteFolded(ctx, deletesPerSweep); err != nil {
		log.V(1).Info("folded counters were not deleted yet", "error", err.Error())
	}
}

func (l *Losses) forget() {
	if l.o.Endpoints == nil || now().Sub(l.forgot) < forgetInterval {
		return
	}
	if exists := l.o.Endpoints.Exists(); exists != nil {
		l.forgot = now()
		l.o.Ledger.Forget(exists)
	}
}

// holders are the pods of all queues that count.
func (l *Ledger) holders() map[bookKey]holder {
	l.mu.Lock()
	defer l.mu.Unlock()
	all := map[bookKey]holder{}
	for namespace, of := range l.books {
		for id, b := range of {
			if b.holder.podUID != "" && !b.folded {
				all[bookKey{namespace, id}] = b.holder
			}
		}
	}
	return all
}

// hear notes that the dispatcher of a queue on a volume is connected, reports or not. It is written once a day: the next
// leader would take the queue for one that nobody has heard of.
func (l *Ledger) hear(key bookKey, pod holder) {
	if !pod.persistent {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	b := l.books[key.namespace][key.queueID]
	if b == nil || b.holder != pod || b.folding || b.folded {
		return
	}
	if b.heard = now(); b.stale() {
		l.schedule(b, key)
	}
}

// sight is how a queue stands that may be gone.
func (l *Ledger) sight(key bookKey) (*sighting, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	b := l.books[key.namespace][key.queueID]
	if b == nil || !b.mayBeGone(now()) {
		return nil, false
	}
	_, wide := l.wide[b]
	s := &sighting{key: key, pod: b.holder, wide: wide, lost: b.lost, lostWritten: b.written.lost, pending: b.pending(),
		heard: b.heard, idle: b.idle(), crowded: l.crowded(key.namespace)}
	for _, t := range b.written.tallies {
		s.allLost += t.lost
	}
	return s, true
}
