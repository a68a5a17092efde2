// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package pebble

import "github.com/garyclub/webhook-operator/internal/delivery"

// settleOp stores what an attempt came to, or the end of a delivery without one.
type settleOp struct {
	call
	held held
	uid  string // of the endpoint when the delivery was leased
	to   *stored
	// unattempted says that no attempt led to it.
	unattempted bool
}

func (o *settleOp) prepare(b *batch) error {
	p, s := o.held.place, o.to
	l := b.q.book.lane(s.Ref)
	if s.UID != o.uid {
		b.countFor(l, s.UID)
	}
	b.delete(p.key())
	b.freed = append(b.freed, o.held)
	if !s.State.Done() {
		b.put(place{p.lane, millisAfter(s.Due), p.seq}, s)
		b.record(p.id(), s)
		return nil
	}
	b.dequeue(l, s.PayloadBytes)
	return b.end(p.id(), s, !o.unattempted)
}

// interruptOp counts the deliveries that were in flight when the process died.
type interruptOp struct {
	call
	places []place
}

func (o *interruptOp) alone() bool { return true }

func (o *interruptOp) prepare(b *batch) error {
	for _, p := range o.places {
		s, ok, err := b.q.waitingAt(p)
		if err != nil {
			return err
		}
		if !ok {
			continue // settled since
		}
		s.Interruptions++
		if s.Interruptions < delivery.MaxInterruptions {
			b.put(p, s)
			continue
		}
		b.delete(p.key())
		b.dequeue(b.q.book.lane(s.Ref), s.PayloadBytes)
		s.Delivery = delivery.Fail(s.Delivery, delivery.ReasonInterrupted, b.now)
		if err := b.end(p.id(), s, false); err != nil {
			return err
		}
	}
	return nil
}
