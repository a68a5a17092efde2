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

// Stats implements queue.Queue. OldestWaiting is the earliest due time of what is in memory, which for a delivery that
// was not attempted yet is when it was taken in.
func (q *Queue) Stats() queue.Stats {
	if err := q.enter(); err != nil {
		return queue.Stats{MaxBytes: q.opt.MaxBytes}
	}
	defer q.leave()
	disk := q.db.Metrics().DiskSpaceUsage()
	now := q.opt.Now()
	q.mu.Lock()
	defer q.mu.Unlock()
	t := &q.totals
	s := queue.Stats{
		InFlight: int64(len(q.flying)), Unmatched: t.unmatched, DeadLetters: t.letters, Outbox: q.outboxLen,
		LiveBytes: t.live, DeadBytes: t.dead, DiskBytes: int64(disk), MaxBytes: q.opt.MaxBytes,
		IdempotencyKeys: t.keys, Full: t.live >= q.opt.MaxBytes || q.space.full.Load(),
	}
	if q.oldestKey > 0 {
		s.OldestKeyAge = now.Sub(time.UnixMilli(q.oldestKey))
	}
	oldest := int64(0)
	for _, l := range q.lanes {
		s.Waiting += l.waiting
		if len(l.window) > 0 && (oldest == 0 || l.window[0].due < oldest) {
			oldest = l.window[0].due
		}
	}
	if oldest > 0 {
		s.OldestWaiting = time.UnixMilli(oldest)
	}
	return s
}
