// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package pebble

import (
	"context"
	"sync/atomic"
	"time"
)

// reclaimEvery is the least time between two compactions that are asked for.
const reclaimEvery = time.Minute

// reclaimer compacts what was deleted when it keeps the queue full, one compaction at a time.
type reclaimer struct {
	running atomic.Bool
	last    time.Time // of the committer
	cancel  context.CancelFunc
	done    chan struct{}
}

// reclaim starts a compaction when at least half of the disk's use is garbage: without new writes Pebble would see no
// reason to. It is called by the committer.
func (q *Queue) reclaim() {
	r, now := &q.reclaimer, q.opt.Now()
	if q.book.live > q.space.used()/2 || now.Sub(r.last) < reclaimEvery || !r.running.CompareAndSwap(false, true) {
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	r.last, r.cancel, r.done = now, cancel, make(chan struct{})
	go func() {
		defer close(r.done)
		defer r.running.Store(false)
		defer cancel()
		err := q.db.Flush()
		if err == nil {
			err = q.db.Compact(ctx, []byte{0}, []byte{0xff}, false)
		}
		if err != nil && ctx.Err() == nil {
			q.log.Error(err, "deleted data could not be reclaimed")
		}
	}()
}

// stop ends a compaction under way. The committer must have ended.
func (r *reclaimer) stop() {
	if r.done != nil {
		r.cancel()
		<-r.done
	}
}
