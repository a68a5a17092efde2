// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package pebble

import (
	"github.com/garyclub/webhook-operator/internal/delivery"
	"github.com/garyclub/webhook-operator/internal/queue"
)

// countersAt are counters with the version of their last change.
type countersAt struct {
	delivery.Counters
	version uint64
}

// publish makes a synced batch known: what waits can be leased, records and counters can be read.
func (q *Queue) publish(b *batch) {
	q.mu.Lock()
	defer q.mu.Unlock()
	now := millis(b.now)
	for _, h := range b.freed {
		delete(q.flying, h.place)
		q.marks.free(h.mark)
	}
	for _, s := range b.nowLanes {
		q.laneFor(s.id, s.info.ref).laneInfo = s.info
	}
	for _, a := range b.waiting {
		l := q.laneFor(a.place.lane, a.ref)
		if a.place.due > now {
			q.deferred.tell()
		}
		if _, flying := q.flying[a.place]; flying {
			continue // a refill found it on disk and it was leased before the sync
		}
		l.add(entry{a.place, a.place.due})
		q.offer(l, now)
	}
	if len(b.nowCount) > 0 {
		q.version++
		q.newCounts.tell()
	}
	for i := range b.nowCount {
		c := &b.nowCount[i]
		q.counters[c.UID] = countersAt{*c, q.version}
	}
	if b.totals.nextOut != q.totals.nextOut {
		q.news.tell()
	}
	if b.match {
		q.newMatch.tell()
	}
	q.totals, q.oldestKey, q.outboxLen = b.totals, b.lowKey, b.outboxLen
	if b.sweepAt != q.sweepAt || b.scrubAt != q.scrubAt {
		q.sweepAt, q.scrubAt = b.sweepAt, b.scrubAt
		q.kick()
	}
}

// tellEnds says which deliveries a synced batch has ended.
func (q *Queue) tellEnds(b *batch) {
	if q.opt.Ended == nil || len(b.ended) == 0 {
		return
	}
	all := make([]queue.Ended, 0, len(b.ended))
	for how, n := range b.ended {
		how.Count = n
		all = append(all, how)
	}
	q.opt.Ended(all)
}
