// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package pebble

import (
	"context"
	"fmt"
	"time"

	pdb "github.com/cockroachdb/pebble/v2"

	"github.com/garyclub/webhook-operator/internal/delivery"
	"github.com/garyclub/webhook-operator/internal/endpoint"
)

// expireChunk bounds what is ended in one batch.
const expireChunk = 256

// Expire implements queue.Queue. It goes through the lane on disk, a chunk at a time.
func (q *Queue) Expire(ctx context.Context, ref endpoint.Ref, every bool, reason string) (ended int, next time.Time, err error) {
	from := lanePrefix(laneOf(ref))
	for from != nil {
		o := &expireOp{ref: ref, every: every, reason: reason, from: from}
		if _, err := q.submit(ctx, o); err != nil {
			return ended, next, fmt.Errorf("expire: %w", err)
		}
		ended += o.ended
		next = earliest(next, o.deadline)
		from = o.next
	}
	return ended, next, nil
}

// earliest is the first of two times, of which zero is none.
func earliest(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

type expireOp struct {
	call
	ref    endpoint.Ref
	every  bool
	reason string
	from   []byte

	ended    int
	deadline time.Time // the earliest that was left
	next     []byte    // where to go on; nil at the end
}

func (o *expireOp) alone() bool { return true }

func (o *expireOp) prepare(b *batch) error {
	l := b.q.book.lane(o.ref)
	seen := 0
	return b.q.each(o.from, after(lanePrefix(l.id)), func(it *pdb.Iterator) (bool, error) {
		if seen == expireChunk {
			o.next = append([]byte(nil), it.Key()...)
			return false, nil
		}
		seen++
		p, ok := parsePlace(it.Key()[1:])
		if !ok {
			return false, errCorrupt
		}
		s, err := parseRecord(it.Value())
		if err != nil {
			return false, err
		}
		if !o.every && !b.now.After(s.Deadline) || !b.q.claim(p) {
			o.deadline = earliest(o.deadline, s.Deadline)
			return true, nil
		}
		o.ended++
		b.delete(p.key())
		b.freed = append(b.freed, held{p, -1})
		b.dequeue(l, s.PayloadBytes)
		s.Delivery = delivery.Fail(s.Delivery, o.reason, b.now)
		return true, b.end(p.id(), s, false)
	})
}

// claim keeps a delivery from being leased, unless it is in flight.
func (q *Queue) claim(p place) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if _, flying := q.flying[p]; flying {
		return false
	}
	q.flying[p] = struct{}{}
	if l := q.lanes[p.lane]; l != nil {
		l.remove(p)
	}
	return true
}

// goneOp keeps what HoldGone says.
type goneOp struct {
	call
	ref         endpoint.Ref
	incarnation string
}

func (o *goneOp) prepare(b *batch) error {
	l := b.q.book.lane(o.ref)
	l.gone = o.incarnation
	b.touchLane(l)
	return nil
}

// HoldGone implements queue.Queue.
func (q *Queue) HoldGone(ctx context.Context, ref endpoint.Ref, incarnation string) error {
	if _, err := q.submit(ctx, &goneOp{ref: ref, incarnation: incarnation}); err != nil {
		return fmt.Errorf("hold gone: %w", err)
	}
	return nil
}

// Gone implements queue.Queue.
func (q *Queue) Gone(ref endpoint.Ref) string {
	q.mu.Lock()
	defer q.mu.Unlock()
	if l := q.lanes[laneOf(ref)]; l != nil {
		return l.gone
	}
	return ""
}
