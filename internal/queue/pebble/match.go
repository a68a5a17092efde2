// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package pebble

import (
	"context"
	"fmt"

	pdb "github.com/cockroachdb/pebble/v2"

	"github.com/garyclub/webhook-operator/internal/endpoint"
	"github.com/garyclub/webhook-operator/internal/event"
)

// MatchWaiting implements queue.Queue. Calls of it take turns.
func (q *Queue) MatchWaiting(ctx context.Context, match func(*event.Event) ([]*endpoint.Endpoint, bool)) error {
	q.matching.Lock()
	defer q.matching.Unlock()
	from := uint64(0)
	for {
		q.mu.Lock()
		again := q.newMatch.wait()
		q.mu.Unlock()
		if err := q.matchAll(ctx, &from, match); err != nil {
			return fmt.Errorf("match waiting events: %w", err)
		}
		select {
		case <-again:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// Rematch implements queue.Queue.
func (q *Queue) Rematch() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.newMatch.tell()
}

// matchAll matches what is there, oldest first, until match says that it cannot.
func (q *Queue) matchAll(ctx context.Context, from *uint64, match func(*event.Event) ([]*endpoint.Endpoint, bool)) error {
	for ctx.Err() == nil {
		seq, e, err := q.unmatched(*from)
		if err != nil || e == nil {
			return err
		}
		endpoints, ok := match(e)
		if !ok {
			return nil
		}
		// When ctx ends now, the event must not be matched a second time by the next call: so wait for the answer.
		o := &matchOp{seq: seq, event: e, endpoints: endpoints}
		if _, err := q.submit(context.WithoutCancel(ctx), o); err != nil {
			return err
		}
		*from = seq + 1
	}
	return nil
}

// unmatched returns the first unmatched event from the number on, or none.
func (q *Queue) unmatched(from uint64) (seq uint64, e *event.Event, err error) {
	if err := q.enter(); err != nil {
		return 0, nil, err
	}
	defer q.leave()
	err = q.each(seqKey(tableUnmatched, from), after([]byte{tableUnmatched}), func(it *pdb.Iterator) (bool, error) {
		var ok bool
		if seq, ok = parseSeqKey(it.Key()); !ok {
			return false, errCorrupt
		}
		var err error
		e, err = q.event(seq)
		return false, err
	})
	return seq, e, err
}

// matchOp gives an unmatched event its deliveries.
type matchOp struct {
	call
	seq       uint64
	event     *event.Event
	endpoints []*endpoint.Endpoint
}

func (o *matchOp) size() int { return deliveryCost * len(o.endpoints) }

func (o *matchOp) prepare(b *batch) error {
	b.delete(seqKey(tableUnmatched, o.seq))
	b.q.book.unmatched--
	if len(o.endpoints) > 0 {
		b.fanOut(o.seq, o.event, o.endpoints)
		return nil
	}
	b.dropEvent(o.seq, len(o.event.Payload))
	return nil
}
