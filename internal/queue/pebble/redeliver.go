// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package pebble

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	pdb "github.com/cockroachdb/pebble/v2"

	"github.com/garyclub/webhook-operator/internal/delivery"
	"github.com/garyclub/webhook-operator/internal/endpoint"
	"github.com/garyclub/webhook-operator/internal/queue"
)

// orderChunk and orderChunkBytes bound what one batch moves; one payload may pass the latter.
const (
	orderChunk      = 256
	orderChunkBytes = 1 << 20
)

var errForeignOrder = errors.New("the order is of another endpoint")

// Redeliver implements queue.Queue. Calls of it take turns.
func (q *Queue) Redeliver(ctx context.Context, o delivery.Order, p *endpoint.Endpoint) (delivery.Redelivered, error) {
	err := o.Validate()
	if err == nil && !o.DryRun && (p == nil || p.Ref != o.Ref) {
		err = errForeignOrder
	}
	if err != nil {
		return delivery.Redelivered{}, fmt.Errorf("redeliver: %w: %w", queue.ErrOrder, err)
	}
	q.ordering.Lock()
	defer q.ordering.Unlock()
	r := &redelivery{q: q, order: &o, endpoint: p, lane: laneOf(o.Ref)}
	if err := r.run(ctx); err != nil {
		return delivery.Redelivered{}, fmt.Errorf("redeliver: %w", err)
	}
	return delivery.Redelivered{Matched: r.info.matched, Moved: r.info.moved, ShareFull: r.info.full}, nil
}

// redelivery is one call of Redeliver.
type redelivery struct {
	q        *Queue
	order    *delivery.Order
	endpoint *endpoint.Endpoint
	lane     laneID
	info     orderInfo
	limit    int // of what may still be moved
	// before is set of an order that goes on: what failed after it began is not of it.
	before int64
}

func (r *redelivery) run(ctx context.Context) error {
	known := &orderOp{id: orderOf(r.order.ID)}
	if _, err := r.q.submit(ctx, known); err != nil {
		return err
	}
	// One that is done goes on all the same while its limit is not used up: dead letters may have been handed over since.
	if r.info = known.info; r.info.done && (r.info.full || r.info.moved >= r.order.Limit) {
		return nil
	}
	// What was moved is no dead letter any more, so all that is found now comes on top.
	r.info.matched, r.before = r.info.moved, r.info.began
	if !r.order.DryRun {
		r.limit = r.order.Limit - r.info.moved
	}
	if err := r.carryOut(ctx); err != nil || r.order.DryRun {
		return err
	}
	if known.info.done && r.info.moved == known.info.moved {
		return nil // it is not remembered for longer because somebody asks
	}
	r.info.done = true
	return r.commit(ctx, nil)
}

// carryOut goes through the dead letters as they are on disk, a chunk at a time, the oldest first.
func (r *redelivery) carryOut(ctx context.Context) error {
	for from := []byte{tableDead}; from != nil; {
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		letters, next, err := r.page(from)
		if err != nil {
			return err
		}
		if len(letters) > 0 {
			if err := r.commit(ctx, letters); err != nil {
				return err
			}
		}
		from = next
	}
	return nil
}

// page counts the dead letters of the order, and returns the keys of those to move. next is where to go on when these
// are a chunk.
func (r *redelivery) page(from []byte) (letters [][]byte, next []byte, err error) {
	if err := r.q.enter(); err != nil {
		return nil, nil, err
	}
	defer r.q.leave()
	size, now := 0, millis(r.q.opt.Now())
	err = r.q.each(from, after([]byte{tableDead}), func(it *pdb.Iterator) (bool, error) {
		s, err := r.match(it, now)
		if s == nil {
			return true, err
		}
		r.info.matched++
		if r.info.full || len(letters) >= r.limit {
			return true, nil
		}
		letters = append(letters, bytes.Clone(it.Key()))
		if size += s.PayloadBytes; len(letters) >= r.q.opt.seams.orderChunk || size >= orderChunkBytes {
			next = append(bytes.Clone(it.Key()), 0)
		}
		return next == nil, nil
	})
	return letters, next, err
}

// match returns the dead letter at which the iterator stands, when it is of the order and has not expired.
func (r *redelivery) match(it *pdb.Iterator, now int64) (*stored, error) {
	expires, id, ok := parseDeadKey(it.Key())
	if !ok {
		return nil, errCorrupt
	}
	if id.lane != r.lane || expires <= now {
		return nil, nil
	}
	s, err := parseRecord(it.Value())
	if err != nil || !r.order.Names(&s.Record) || r.before > 0 && millis(s.Completed) > r.before {
		return nil, err
	}
	return s, nil
}

// commit moves the letters, and has it kept how far the order came.
func (r *redelivery) commit(ctx context.Context, letters [][]byte) error {
	o := &redeliverOp{order: r.order, endpoint: r.endpoint, letters: letters, info: r.info}
	if _, err := r.q.submit(ctx, o); err != nil {
		return err
	}
	r.limit -= o.info.moved - r.info.moved
	r.info = o.info
	return nil
}

// orderOp reads how far an order was carried out. It is answered once that is synced.
type orderOp struct {
	call
	id   orderID
	info orderInfo
}

func (o *orderOp) prepare(b *batch) error {
	o.info = b.q.book.orders[o.id]
	return nil
}

// redeliverOp moves dead letters to the endpoint's lane.
type redeliverOp struct {
	call
	order    *delivery.Order
	endpoint *endpoint.Endpoint
	letters  [][]byte
	info     orderInfo
}

func (o *redeliverOp) alone() bool { return true }

func (o *redeliverOp) prepare(b *batch) error {
	for _, key := range o.letters {
		s, err := b.q.letterAt(key)
		if err != nil {
			return err
		}
		_, id, ok := parseDeadKey(key)
		if s == nil || !ok {
			continue // it has expired or was handed over
		}
		l := b.q.book.lane(o.order.Ref)
		if b.q.exceedsShare(l, s.PayloadBytes) {
			o.info.full = true
			break
		}
		room, err := b.roomToCopy(id.seq, s)
		if err != nil {
			return err
		}
		if !room && o.info.moved == 0 {
			return queue.ErrFull // nothing was written yet
		}
		if o.info.full = !room; !room {
			break
		}
		if err := o.move(b, l, key, id, s); err != nil {
			return err
		}
	}
	b.noteOrder(orderOf(o.order.ID), &o.info)
	return nil
}

// roomToCopy says whether the queue has room for a copy of the dead letter's event, once the letter is gone.
func (b *batch) roomToCopy(seq uint64, s *stored) (bool, error) {
	holders, cost := 1, int64(s.PayloadBytes)+eventCost
	if s.shared {
		var err error
		if holders, err = b.held(seq); err != nil {
			return false, err
		}
	}
	more := int64(0)
	if holders > 1 {
		more = cost // the event stays, for others
	}
	return b.q.book.live+more <= b.q.opt.MaxBytes && b.q.space.free(b.now, cost), nil
}

// move makes the dead letter a delivery that begins anew, with an event of its own. One whose event cannot be found
// stays: it must not stand in the way of the others.
func (o *redeliverOp) move(b *batch, l *laneBook, key []byte, id deliveryID, s *stored) error {
	book, p := b.q.book, o.endpoint
	seq := book.nextSeq
	err := b.q.get(seqKey(tableEvent, id.seq), func(value []byte) error {
		b.set(seqKey(tableEvent, seq), value)
		return nil
	})
	if errors.Is(err, pdb.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	book.nextSeq++
	book.live += int64(s.PayloadBytes) + eventCost
	b.unbury(key, s)
	if err := b.release(id.seq, s); err != nil {
		return err
	}
	b.countFor(l, p.UID)
	anew := &stored{Record: s.Record}
	anew.Delivery = o.again(s, b.now)
	if b.q.opt.Receives {
		b.index(l.id, anew)
	}
	b.enqueue(l, anew.PayloadBytes)
	b.put(place{l.id, millis(b.now), seq}, anew)
	b.record(deliveryID{l.id, seq}, anew)
	o.info.moved++
	return nil
}

// again is a redelivery at its beginning. What is moved in one batch differs in its acceptance: two dead letters of one
// event, whose key was used again, stay two.
func (o *redeliverOp) again(s *stored, now time.Time) delivery.Delivery {
	return delivery.Delivery{
		Ref: o.endpoint.Ref, UID: o.endpoint.UID, EventID: s.EventID, Trigger: delivery.TriggerRedelivery,
		Order: o.order.ID, OrderName: o.order.Name, State: delivery.Pending,
		Accepted: now.Add(time.Duration(o.info.moved)), Deadline: now.Add(o.endpoint.Retry.Deadline), Due: now,
		MaxAttempts: o.endpoint.Retry.MaxRetries + 1,
	}
}
