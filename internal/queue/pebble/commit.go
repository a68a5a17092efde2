// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package pebble

import (
	"context"
	"fmt"

	pdb "github.com/cockroachdb/pebble/v2"

	"github.com/garyclub/webhook-operator/internal/queue"
)

const (
	maxBatchOps   = 512
	maxBatchBytes = 2 << 20 // a larger batch would be turned into a memtable of its own
	maxSyncing    = 8
)

// op is one request to the committer.
type op interface {
	// prepare decides the request and writes it into the batch. It changes the book only when it succeeds.
	prepare(b *batch) error
	// alone says that the request reads tables by iterating, so that it has a batch of its own: what a batch wrote is
	// not seen until it is applied.
	alone() bool
	// size is about how many bytes the request adds.
	size() int
	answer() *call
}

// call is the part of a request that its caller waits on.
type call struct {
	err  error
	done chan struct{}
}

func (c *call) answer() *call { return c }
func (c *call) alone() bool   { return false }
func (c *call) size() int     { return 1024 }

// submit hands o to the committer and waits until it is synced. When ctx ends first, sent says whether o is under way.
func (q *Queue) submit(ctx context.Context, o op) (sent bool, err error) {
	c := o.answer()
	c.done = make(chan struct{}, 1)
	if err := q.enter(); err != nil {
		return false, err
	}
	select {
	case q.ops <- o:
		q.leave()
	case <-ctx.Done():
		q.leave()
		return false, context.Cause(ctx)
	}
	select {
	case <-c.done:
		return true, c.err
	case <-ctx.Done():
		return true, context.Cause(ctx)
	}
}

// commitAll is the committer: it owns the book until the queue is closed.
func (q *Queue) commitAll() {
	defer close(q.syncing)
	for o := range q.ops {
		if q.book.overfull() {
			q.run(&sweepOp{call: call{done: make(chan struct{}, 1)}})
		}
		b := q.begin()
		for ; o != nil; o = q.next(b) {
			if !o.alone() {
				b.take(o)
				continue
			}
			q.apply(b)
			q.run(o)
			b = q.begin()
		}
		q.apply(b)
	}
}

// next is another request that waits already and fits into the batch, or nil.
func (q *Queue) next(b *batch) op {
	if len(b.ops) >= maxBatchOps || b.bytes >= maxBatchBytes {
		return nil
	}
	select {
	case o := <-q.ops: // nil when closed
		return o
	default:
		return nil
	}
}

// run commits one request of the committer's own.
func (q *Queue) run(o op) {
	b := q.begin()
	b.take(o)
	q.apply(b)
}

func (q *Queue) apply(b *batch) {
	if len(b.ops) == 0 {
		_ = b.kv.Close()
		return
	}
	b.finish()
	if b.err == nil && !b.kv.Empty() {
		b.err = q.applyBatch(b.kv)
		b.applied = b.err == nil
	}
	if b.err != nil {
		q.breakDown(b.err)
	}
	q.syncing <- b
}

// applyBatch turns the panic of a Pebble that cannot write its log into an error: the callers are answered, and the
// process stays up to say so.
func (q *Queue) applyBatch(kv *pdb.Batch) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("apply batch: %v", r)
		}
	}()
	if err := q.db.ApplyNoSyncWait(kv, pdb.Sync); err != nil {
		return fmt.Errorf("apply batch: %w", err)
	}
	return nil
}

// answerAll waits for the syncs in order, publishes, and answers.
func (q *Queue) answerAll() {
	defer close(q.answered)
	for b := range q.syncing {
		early := q.opt.seams.answerEarly && b.applied
		if b.applied && !early {
			if err := b.kv.SyncWait(); err != nil {
				b.err = fmt.Errorf("sync batch: %w", err)
				q.breakDown(b.err)
			}
		}
		if b.err == nil {
			if !early { // it is in use until it is synced
				_ = b.kv.Close()
			}
			q.publish(b)
			q.tellEnds(b)
		}
		for _, o := range b.ops {
			c := o.answer()
			if c.err == nil {
				c.err = b.err
			}
			c.done <- struct{}{}
		}
	}
}

// breakDown makes every later call fail: what the book says is no longer what the disk says.
func (q *Queue) breakDown(err error) {
	if !q.broken.CompareAndSwap(nil, &err) {
		return
	}
	q.log.Error(err, "queue is broken")
	close(q.failed)
	q.mu.Lock()
	defer q.mu.Unlock()
	q.wakeAll()
}

// usable is the error that every call has to answer with, if any.
func (q *Queue) usable() error {
	if err := q.broken.Load(); err != nil {
		return *err
	}
	return nil
}

// enter begins a call that needs the database open; leave ends it.
func (q *Queue) enter() error {
	q.use.RLock()
	if q.closed {
		q.use.RUnlock()
		return queue.ErrClosed
	}
	if err := q.usable(); err != nil {
		q.use.RUnlock()
		return err
	}
	return nil
}

func (q *Queue) leave() { q.use.RUnlock() }
