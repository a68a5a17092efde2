// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package pebble

import (
	"cmp"
	"slices"
	"time"

	"github.com/garyclub/webhook-operator/internal/endpoint"
	"github.com/garyclub/webhook-operator/internal/queue"
)

// Waiting implements queue.Queue.
func (q *Queue) Waiting() []endpoint.Ref {
	q.mu.Lock()
	defer q.mu.Unlock()
	var refs []endpoint.Ref
	for _, l := range q.lanes {
		if l.waiting > 0 {
			refs = append(refs, l.ref)
		}
	}
	slices.SortFunc(refs, func(a, b endpoint.Ref) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
	return refs
}

// Idle implements queue.Queue. What is being looked at by a lease, or whose end is being synced, counts as leased.
func (q *Queue) Idle() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.promote(millis(q.opt.Now()))
	return q.ring == nil && len(q.flying) == 0
}

// Stats implements queue.Queue. OldestDue knows of what is in memory: of a lane that is long, its first part.
func (q *Queue) Stats() queue.Stats {
	disk := q.diskUsage()
	now := q.opt.Now()
	q.mu.Lock()
	defer q.mu.Unlock()
	t := &q.totals
	s := queue.Stats{
		InFlight: int64(len(q.flying)), Unmatched: t.unmatched, DeadLetters: t.letters, Outbox: q.outboxLen,
		LiveBytes: t.live, DeadBytes: t.dead, DiskBytes: disk, MaxBytes: q.opt.MaxBytes,
		IdempotencyKeys: t.keys, Full: t.live >= q.opt.MaxBytes || q.space.full.Load(),
	}
	if q.oldestKey > 0 {
		s.OldestKeyAge = now.Sub(time.UnixMilli(q.oldestKey))
	}
	for _, l := range q.lanes {
		s.Waiting += l.waiting
		if len(l.window) > 0 {
			s.OldestDue = max(s.OldestDue, now.Sub(time.UnixMilli(l.window[0].due)))
		}
	}
	return s
}

// diskUsage is 0 once the database cannot be asked any more.
func (q *Queue) diskUsage() int64 {
	if err := q.enter(); err != nil {
		return 0
	}
	defer q.leave()
	return int64(q.db.Metrics().DiskSpaceUsage())
}
