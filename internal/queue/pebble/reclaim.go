// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package pebble

import (
	"context"
	"sync/atomic"
	"time"

	pdb "github.com/cockroachdb/pebble/v2"
)

const (
	// reclaimEvery is the least time between two compactions that are asked for because the queue is full.
	reclaimEvery = time.Minute
	// scrubEvery is how long the bytes of an event that was deleted may stay in files.
	scrubEvery = time.Hour
	// closeScrub bounds what a close spends on it. The next start sees to what is left.
	closeScrub = time.Second
)

// reclaimer compacts what was deleted when it keeps the queue full or when its time is over, one compaction at a time.
type reclaimer struct {
	running atomic.Bool
	last    time.Time // of the committer
	cancel  context.CancelFunc
	done    chan struct{}
}

// reclaim starts a compaction when at least half of the disk's use is garbage: without new writes Pebble would see no
// reason to. It is called by the committer.
func (q *Queue) reclaim() {
	now := q.opt.Now()
	if q.book.live <= q.space.used()/2 && now.Sub(q.reclaimer.last) >= reclaimEvery && q.reclaimer.start(q.compactAll) {
		q.reclaimer.last = now
	}
}

// start runs the compaction, unless another one is under way.
func (r *reclaimer) start(compact func(ctx context.Context)) bool {
	if !r.running.CompareAndSwap(false, true) {
		return false
	}
	ctx, cancel := context.WithCancel(context.Background())
	r.cancel, r.done = cancel, make(chan struct{})
	go func() {
		defer close(r.done)
		defer r.running.Store(false)
		defer cancel()
		compact(ctx)
	}()
	return true
}

func (q *Queue) compactAll(ctx context.Context) { q.compact(ctx, [2]byte{0, 0xff}) }

// scrub has the bytes of events and dead letters that were deleted leave the files: the flush ends the log that holds
// them, and the compaction the tables.
func (q *Queue) scrub(ctx context.Context) {
	q.compact(ctx, [2]byte{tableEvent, tableEvent + 1}, [2]byte{tableDead, tableDead + 1})
}

func (q *Queue) compact(ctx context.Context, ranges ...[2]byte) {
	err := q.db.Flush()
	for _, r := range ranges {
		if err == nil {
			err = q.db.Compact(ctx, r[:1], r[1:], false)
		}
	}
	if err != nil && ctx.Err() == nil {
		q.log.Error(err, "deleted data could not be reclaimed")
	}
}

// stop ends a compaction under way. The committer must have ended.
func (r *reclaimer) stop() {
	if r.done != nil {
		r.cancel()
		<-r.done
	}
}

// dropEvent deletes an event, and has its bytes leave the disk in time.
func (b *batch) dropEvent(seq uint64, payloadBytes int) {
	book := b.q.book
	b.delete(seqKey(tableEvent, seq))
	book.live -= int64(payloadBytes) + eventCost
	book.dropped = true
	if book.scrubAt == 0 {
		book.scrubAt = millis(b.now.Add(scrubEvery))
	}
}

// scrubOp starts the compaction that is due. While another one is under way it is put off.
type scrubOp struct{ call }

func (o *scrubOp) alone() bool { return true }

func (o *scrubOp) prepare(b *batch) error {
	book := b.q.book
	if book.scrubAt == 0 || book.scrubAt > millis(b.now) {
		return nil
	}
	if !b.q.reclaimer.start(b.q.scrub) {
		book.scrubAt = millis(b.now.Add(reclaimEvery))
		return nil
	}
	book.scrubAt, book.dropped = 0, false
	return nil
}

// scrubAtClose is for a queue that is opened late, or never again.
func (q *Queue) scrubAtClose() {
	if !q.book.dropped {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), closeScrub)
	defer cancel()
	q.scrub(ctx)
}

// cleaner deletes the files that Pebble needs no more. By what lies deeper in it, it also says that their contents are
// needed, so that Pebble does not keep logs to write over them: such a log waits with all of its payloads in it, for as
// long as nothing comes.
type cleaner struct {
	pdb.DeleteCleaner
	needy
}

type needy struct{ pdb.ArchiveCleaner }
