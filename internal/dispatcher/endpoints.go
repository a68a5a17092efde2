// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package dispatcher

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/go-logr/logr"

	"github.com/garyclub/webhook-operator/internal/control"
	"github.com/garyclub/webhook-operator/internal/delivery"
	"github.com/garyclub/webhook-operator/internal/endpoint"
	"github.com/garyclub/webhook-operator/internal/event"
	"github.com/garyclub/webhook-operator/internal/queue"
)

// sweepInterval is the least time between two looks at what waits for endpoints that are held or gone.
const sweepInterval = 15 * time.Second

// endpoints holds the list in force, keeps it on disk, and ends what waits for endpoints that do not come back.
type endpoints struct {
	endpoint.Current
	namespace string // whose endpoints are served; empty for all
	queue     queue.Queue
	file      string
	grace     time.Duration
	changed   func()
	clock     clock
	log       logr.Logger
	// listed wakes the sweep after a new list.
	listed chan struct{}

	mu      sync.Mutex
	missing map[endpoint.Ref]time.Time // since when a waiting endpoint is not in the list
	due     map[endpoint.Ref]time.Time // when something of a held or missing endpoint may have to end
	synced  bool                       // the manager has sent a list since the start
}

// load puts the last known list in force, so that deliveries go on while the manager is away.
func (e *endpoints) load() {
	list, err := control.LoadLastKnown(e.file)
	if err == nil {
		err = e.check(list)
	}
	if err != nil {
		e.log.Error(err, "last known endpoints cannot be used; events wait for the manager")
		return
	}
	if list != nil {
		e.Store(endpoint.NewSnapshot(list))
		e.log.Info("last known endpoints are in force", "endpoints", len(list))
	}
}

// check refuses a list of another namespace than that events are posted for: none of it would ever match, so that every
// event would be answered 202 and dropped.
func (e *endpoints) check(list []*endpoint.Endpoint) error {
	for _, p := range list {
		if e.namespace != "" && p.Namespace != e.namespace {
			return fmt.Errorf("the endpoints are of namespace %q and --namespace is %q: it must be the pod's own", p.Namespace, e.namespace)
		}
	}
	return nil
}

// known lists what is in force.
func (e *endpoints) known() []*endpoint.Endpoint {
	snapshot := e.Load()
	if snapshot == nil {
		return nil
	}
	return snapshot.All()
}

// apply puts a complete list in force and on disk. One that cannot be saved is in force all the same, and the error has it
// sent, and so saved, again.
func (e *endpoints) apply(list []*endpoint.Endpoint) error {
	if err := e.check(list); err != nil {
		// Logged each time, although the caller hears of it: nothing is delivered until somebody mends the flag.
		e.log.Error(err, "the manager's endpoints are refused; what was in force stays")
		return err
	}
	saved := control.SaveLastKnown(e.file, list)
	e.Store(endpoint.NewSnapshot(list))
	e.mu.Lock()
	e.synced, e.due = true, nil
	e.mu.Unlock()
	e.queue.Rematch()
	e.changed()
	select {
	case e.listed <- struct{}{}:
	default:
	}
	return saved
}

// match is asked by the queue for events that came before the first list.
func (e *endpoints) match(ev *event.Event) ([]*endpoint.Endpoint, bool) {
	snapshot := e.Load()
	if snapshot == nil {
		return nil, false
	}
	return snapshot.Match(ev), true
}

// sweep runs until ctx ends. It sleeps until something may have to end, or until the list or what waits has changed.
func (e *endpoints) sweep(ctx context.Context) {
	for {
		counted := e.queue.Counted() // before the look, so that no change is missed
		var due <-chan time.Time
		if next := e.sweepOnce(ctx); !next.IsZero() {
			due = e.clock.alarm(next)
		}
		select {
		case <-ctx.Done():
			return
		case <-e.clock.alarm(e.clock.now().Add(sweepInterval)):
		}
		select {
		case <-ctx.Done():
			return
		case <-counted:
		case <-e.listed:
		case <-due:
		}
	}
}

// sweepOnce ends what is past its time and returns when something may be next; zero when nothing waits for an endpoint
// that is held or gone.
func (e *endpoints) sweepOnce(ctx context.Context) (next time.Time) {
	snapshot := e.Load()
	if snapshot == nil {
		return next
	}
	waiting := e.queue.Waiting()
	e.keepMissing(waiting, snapshot)
	due := map[endpoint.Ref]time.Time{}
	for _, ref := range waiting {
		p := snapshot.Get(ref)
		if p != nil && p.Hold == endpoint.HoldNone && e.queue.Gone(ref) == "" {
			continue // attempts see the deadline themselves
		}
		at, known := e.dueAt(ref)
		if now := e.clock.now(); !known || !now.Before(at) {
			at = e.expire(ctx, ref, p)
		}
		due[ref] = at
		if next.IsZero() || at.Before(next) {
			next = at
		}
	}
	e.keepDue(due, snapshot)
	return next
}

// expire ends what is past its time for the endpoint, which is held or, when p is nil, gone. It returns when that may be
// the case next.
func (e *endpoints) expire(ctx context.Context, ref endpoint.Ref, p *endpoint.Endpoint) time.Time {
	now := e.clock.now()
	every, reason := false, delivery.ReasonDeadlineExceeded
	grace, missing := e.graceEnd(ref)
	if missing && !now.Before(grace) {
		every, reason = true, delivery.ReasonEndpointDeleted
	}
	_, deadline, err := e.queue.Expire(ctx, ref, every, reason) // what ended is logged once it is synced
	if err != nil && ctx.Err() == nil {
		e.log.Error(err, "expire failed", "namespace", ref.Namespace, "endpoint", ref.Name)
	}
	if err != nil || every {
		return now // to be looked at again, for what was in flight too
	}
	var later time.Time // for what comes from now on
	switch {
	case missing:
		later = grace
	case p != nil:
		later = now.Add(p.Retry.Deadline)
	}
	if next := deadline.Add(time.Millisecond); !deadline.IsZero() && (later.IsZero() || next.Before(later)) {
		return next // the first time that is past it
	}
	return later
}

func (e *endpoints) dueAt(ref endpoint.Ref) (at time.Time, known bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	at, known = e.due[ref]
	return at, known
}

// keepDue notes what a look at the snapshot found, unless there is another in force by now.
func (e *endpoints) keepDue(due map[endpoint.Ref]time.Time, of *endpoint.Snapshot) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.Load() == of {
		e.due = due
	}
}

// keepMissing notes since when endpoints are gone. A list from the disk of before tells nothing about that.
func (e *endpoints) keepMissing(waiting []endpoint.Ref, snapshot *endpoint.Snapshot) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.synced {
		return
	}
	still := make(map[endpoint.Ref]time.Time, len(e.missing))
	for _, ref := range waiting {
		if snapshot.Get(ref) != nil {
			continue
		}
		since, ok := e.missing[ref]
		if !ok {
			since = e.clock.now()
		}
		still[ref] = since
	}
	e.missing = still
}

// graceEnd is when an endpoint that is not in the list is given up.
func (e *endpoints) graceEnd(ref endpoint.Ref) (at time.Time, missing bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	since, missing := e.missing[ref]
	return since.Add(e.grace), missing
}
