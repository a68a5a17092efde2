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
	// loseTimeout is for a queue's records, which wait for room in the recorder.
	loseTimeout    = 10 * time.Second
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

// sweep takes the next step of each queue.
func (l *Losses) sweep(ctx context.Context) {
	if !l.o.Ledger.Loaded() {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, sweepTimeout)
	defer cancel()
	var asks []*sighting
	folds := map[string][]string{}
	silent := l.silent()
	for _, s := range silent {
		w := l.watches[s.key]
		switch nextStep(s, w, now()) {
		case stepAsk:
			asks = append(asks, s)
		case stepLose:
			l.lose(s, w)
		case stepLoseRecords:
			l.loseRecords(ctx, s, w)
		case stepFold:
			folds[s.key.namespace] = append(folds[s.key.namespace], s.key.queueID)
		}
	}
	l.ask(ctx, asks)
	l.fold(ctx, folds)
	l.forget()
}

// silent are the queues whose dispatcher is not connected; what is remembered of the others is forgotten.
func (l *Losses) silent() (silent []*sighting) {
	watches := map[bookKey]*watch{}
	for key, pod := range l.o.Ledger.mortal() {
		if l.o.Dispatchers.Connected(pod.podUID) {
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

// ask looks for some of the pods, those that have waited longest.
func (l *Losses) ask(ctx context.Context, all []*sighting) {
	slices.SortFunc(all, func(a, b *sighting) int {
		return cmp.Or(l.watches[a.key].askAfter.Compare(l.watches[b.key].askAfter), cmp.Compare(a.key.queueID, b.key.queueID))
	})
	for _, s := range all[:min(len(all), asksPerSweep)] {
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
	w.declared, w.here, w.settled, w.repeats = true, true, false, 0
	l.metrics.queuesLost.Inc()
	l.metrics.deliveriesLost.Add(float64(n))
}

// loseRecords says it in the records until none is left; and once in the log, if there is anything to say.
func (l *Losses) loseRecords(ctx context.Context, s *sighting, w *watch) {
	ctx, cancel := context.WithTimeout(ctx, loseTimeout)
	defer cancel()
	namespace := s.key.namespace
	if s.wide {
		namespace = "" // a gateway's records are in many
	}
	open, known, err := l.o.Recorder.Lose(ctx, namespace, s.key.queueID)
	w.settled = known && open == 0 && err == nil
	if !w.settled {
		w.repeatAfter = now().Add(w.repeat())
	}
	if (w.here || open > 0) && known && !w.said {
		w.said = true
		logr.FromContextOrDiscard(ctx).Info("a queue was lost with its pod", "namespace", s.key.namespace, "pod", s.pod.pod,
			"queue", s.key.queueID, "deliveries", s.allLost, "records", open)
	}
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

// mortal are the queues that do not outlive their pod, with that.
func (l *Ledger) mortal() map[bookKey]holder {
	l.mu.Lock()
	defer l.mu.Unlock()
	all := map[bookKey]holder{}
	for namespace, of := range l.books {
		for id, b := range of {
			if b.holder.podUID != "" && !b.holder.persistent && !b.folded {
				all[bookKey{namespace, id}] = b.holder
			}
		}
	}
	return all
}

// sight is how a queue stands.
func (l *Ledger) sight(key bookKey) (*sighting, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	b := l.books[key.namespace][key.queueID]
	if b == nil || b.holder.persistent {
		return nil, false
	}
	_, wide := l.wide[b]
	s := &sighting{key: key, pod: b.holder, wide: wide, lost: b.lost, lostWritten: b.written.lost, pending: b.pending(),
		heard: b.heard, idle: b.idle()}
	for _, t := range b.written.tallies {
		s.allLost += t.lost
	}
	return s, true
}
