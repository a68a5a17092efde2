// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package pebble

import (
	"github.com/garyclub/webhook-operator/internal/delivery"
)

// outboxBook knows the records in the outbox by number and by delivery, and per state in their order.
type outboxBook struct {
	byOut      map[uint64]*outgoing
	byDelivery map[deliveryID]*outgoing
	states     [delivery.Failed + 1]outgoingList
	limit      int
}

type outgoing struct {
	id         deliveryID
	out        uint64
	state      delivery.State
	uid        string
	prev, next *outgoing
}

// outgoingList is doubly linked, oldest first.
type outgoingList struct{ oldest, newest *outgoing }

func newOutboxBook(limit int) outboxBook {
	return outboxBook{byOut: map[uint64]*outgoing{}, byDelivery: map[deliveryID]*outgoing{}, limit: limit}
}

func (k *outboxBook) add(o *outgoing) {
	k.byOut[o.out], k.byDelivery[o.id] = o, o
	l := &k.states[o.state]
	if o.prev = l.newest; o.prev == nil {
		l.oldest = o
	} else {
		o.prev.next = o
	}
	l.newest = o
}

func (k *outboxBook) remove(o *outgoing) {
	delete(k.byOut, o.out)
	if k.byDelivery[o.id] == o {
		delete(k.byDelivery, o.id)
	}
	l := &k.states[o.state]
	if o.prev == nil {
		l.oldest = o.next
	} else {
		o.prev.next = o.next
	}
	if o.next == nil {
		l.newest = o.prev
	} else {
		o.next.prev = o.prev
	}
}

// yields is the record that makes room for one of the given state; nil when that one itself is to be left out.
func (k *outboxBook) yields(to delivery.State) *outgoing {
	if !to.Done() {
		return nil
	}
	for _, state := range []delivery.State{delivery.Delivered, delivery.Pending, delivery.Retrying, delivery.Failed} {
		if state == delivery.Failed && to != delivery.Failed {
			return nil
		}
		if o := k.states[state].oldest; o != nil {
			return o
		}
	}
	return nil
}

// record puts the delivery's state into the outbox, in place of an older one.
func (b *batch) record(id deliveryID, s *stored) {
	book := b.q.book
	box := &book.outbox
	if old := box.byDelivery[id]; old != nil {
		box.remove(old)
		b.delete(seqKey(tableOutbox, old.out))
	}
	if len(box.byOut) >= box.limit {
		old := box.yields(s.State)
		if old == nil {
			b.unrecorded(s.State, s.UID)
			return
		}
		box.remove(old)
		b.delete(seqKey(tableOutbox, old.out))
		b.unrecorded(old.state, old.uid)
	}
	o := &outgoing{id: id, out: book.nextOut, state: s.State, uid: book.counter(s.UID, s.Ref).UID}
	book.nextOut++
	box.add(o)
	b.scratch = appendOutgoing(b.scratch[:0], id, s)
	b.set(seqKey(tableOutbox, o.out), b.scratch)
}

// unrecorded counts a record that is left out. Of a delivery that goes on a later one will tell.
func (b *batch) unrecorded(state delivery.State, uid string) {
	if c := b.q.book.counters[uid]; c != nil && state.Done() {
		c.Unrecorded++
		b.touch(c)
	}
}
