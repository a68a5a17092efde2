// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package pebble

import (
	"context"
	"fmt"

	pdb "github.com/cockroachdb/pebble/v2"

	"github.com/garyclub/webhook-operator/internal/delivery"
	"github.com/garyclub/webhook-operator/internal/queue"
)

// Outbox implements queue.Queue.
func (q *Queue) Outbox(ctx context.Context, after uint64, n int) ([]queue.Outgoing, error) {
	for {
		q.mu.Lock()
		synced, more := q.totals.nextOut, q.news.wait()
		q.mu.Unlock()
		records, err := q.outgoing(after, synced, n)
		if err != nil {
			return nil, fmt.Errorf("read outbox: %w", err)
		}
		if len(records) > 0 {
			return records, nil
		}
		select {
		case <-more:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// outgoing reads records behind after and below the first one that is not synced.
func (q *Queue) outgoing(after, end uint64, n int) (records []queue.Outgoing, err error) {
	if err := q.enter(); err != nil {
		return nil, err
	}
	defer q.leave()
	if after+1 >= end {
		return nil, nil
	}
	err = q.each(seqKey(tableOutbox, after+1), seqKey(tableOutbox, end), func(it *pdb.Iterator) (bool, error) {
		if len(records) >= n {
			return false, nil
		}
		out, ok := parseSeqKey(it.Key())
		if !ok {
			return false, errCorrupt
		}
		_, s, err := parseOutgoing(it.Value())
		if err == nil {
			records = append(records, queue.Outgoing{Seq: out, Record: s.Record})
		}
		return true, err
	})
	return records, err
}

// Acknowledge implements queue.Queue.
func (q *Queue) Acknowledge(ctx context.Context, taken []queue.Taken) error {
	if _, err := q.submit(ctx, &acknowledgeOp{taken: taken}); err != nil {
		return fmt.Errorf("acknowledge %d records: %w", len(taken), err)
	}
	return nil
}

type acknowledgeOp struct {
	call
	taken []queue.Taken
}

func (o *acknowledgeOp) size() int { return 16 * len(o.taken) }

// prepare passes over a record that a newer one replaced: that one will be acknowledged.
func (o *acknowledgeOp) prepare(b *batch) error {
	box := &b.q.book.outbox
	for _, t := range o.taken {
		r := box.byOut[t.Seq]
		if r == nil {
			continue
		}
		box.remove(r)
		b.delete(seqKey(tableOutbox, t.Seq))
		if !t.Recorded {
			b.unrecorded(r.state, r.uid)
		}
	}
	return nil
}

// Counters implements queue.Queue.
func (q *Queue) Counters(since uint64) ([]delivery.Counters, uint64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	var changed []delivery.Counters
	for _, c := range q.counters {
		if c.version > since {
			changed = append(changed, c.Counters)
		}
	}
	return changed, q.version
}

// Counted implements queue.Queue.
func (q *Queue) Counted() <-chan struct{} {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.newCounts.wait()
}
