// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package dispatcher

import (
	"context"
	"sync"
	"time"

	"github.com/go-logr/logr"

	"github.com/garyclub/webhook-operator/internal/control"
	"github.com/garyclub/webhook-operator/internal/delivery"
	"github.com/garyclub/webhook-operator/internal/endpoint"
	"github.com/garyclub/webhook-operator/internal/event"
	"github.com/garyclub/webhook-operator/internal/queue"
)

// sweepInterval is how often what is held, or waits for an endpoint that is gone, is looked at for its deadline.
const sweepInterval = 15 * time.Second

// endpoints holds the list in force, keeps it on disk, and ends what waits for endpoints that do not come back.
type endpoints struct {
	endpoint.Current
	queue   queue.Queue
	file    string
	grace   time.Duration
	changed func()
	now     func() time.Time

	mu      sync.Mutex
	missing map[endpoint.Ref]time.Time // since when a waiting endpoint is not in the list
	synced  bool                       // the manager has sent a list since the start
}

// load puts the last known list in force, so that deliveries go on while the manager is away.
func (e *endpoints) load(log logr.Logger) {
	list, err := control.LoadLastKnown(e.file)
	if err != nil {
		log.Error(err, "last known endpoints cannot be read; events wait for the manager")
		return
	}
	if list != nil {
		e.Store(endpoint.NewSnapshot(list))
		log.Info("last known endpoints are in force", "endpoints", len(list))
	}
}

// known lists what is in force.
func (e *endpoints) known() []*endpoint.Endpoint {
	snapshot := e.Load()
	if snapshot == nil {
		return nil
	}
	return snapshot.All()
}

// apply puts a complete list in force after it is on disk.
func (e *endpoints) apply(list []*endpoint.Endpoint, complete bool) error {
	if !complete {
		return nil
	}
	if err := control.SaveLastKnown(e.file, list); err != nil {
		return err
	}
	e.Store(endpoint.NewSnapshot(list))
	e.mu.Lock()
	e.synced = true
	e.mu.Unlock()
	e.queue.Rematch()
	e.changed()
	return nil
}

// match is asked by the queue for events that came before the first list.
func (e *endpoints) match(ev *event.Event) ([]*endpoint.Endpoint, bool) {
	snapshot := e.Load()
	if snapshot == nil {
		return nil, false
	}
	return snapshot.Match(ev), true
}

// sweep runs until ctx ends.
func (e *endpoints) sweep(ctx context.Context) {
	ticker := time.NewTicker(sweepInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			e.sweepOnce(ctx)
		}
	}
}

func (e *endpoints) sweepOnce(ctx context.Context) {
	log := logr.FromContextOrDiscard(ctx)
	snapshot := e.Load()
	if snapshot == nil {
		return
	}
	waiting := e.queue.Waiting()
	e.keepMissing(waiting, snapshot)
	for _, ref := range waiting {
		p := snapshot.Get(ref)
		every, reason := false, delivery.ReasonDeadlineExceeded
		if p == nil && e.overdue(ref) {
			every, reason = true, delivery.ReasonEndpointDeleted
		} else if p != nil && p.Hold == endpoint.HoldNone && e.queue.Gone(ref) == "" {
			continue // attempts see the deadline themselves
		}
		ended, err := e.queue.Expire(ctx, ref, every, reason)
		if err != nil {
			log.Error(err, "expire failed", "namespace", ref.Namespace, "endpoint", ref.Name)
			continue
		}
		if ended > 0 {
			log.Info("waiting deliveries failed", "namespace", ref.Namespace, "endpoint", ref.Name, "reason", reason, "deliveries", ended)
		}
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
			since = e.now()
		}
		still[ref] = since
	}
	e.missing = still
}

func (e *endpoints) overdue(ref endpoint.Ref) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	since, ok := e.missing[ref]
	return ok && e.now().Sub(since) >= e.grace
}
