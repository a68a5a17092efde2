// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package pebble

import (
	"context"
	"fmt"

	"github.com/garyclub/webhook-operator/internal/delivery"
	"github.com/garyclub/webhook-operator/internal/event"
	"github.com/garyclub/webhook-operator/internal/queue"
)

// TakeOver implements queue.Queue.
func (q *Queue) TakeOver(ctx context.Context, parcels []queue.Parcel) ([]queue.TookOver, error) {
	o := &takeOverOp{parcels: parcels, out: make([]queue.TookOver, len(parcels))}
	if _, err := q.submit(ctx, o); err != nil {
		return nil, fmt.Errorf("take %d deliveries over: %w", len(parcels), err)
	}
	return o.out, nil
}

type takeOverOp struct {
	call
	parcels []queue.Parcel
	out     []queue.TookOver
}

func (o *takeOverOp) size() int {
	n := 0
	for i := range o.parcels {
		n += len(o.parcels[i].Event.Payload) + eventCost + deliveryCost
	}
	return n
}

// taking is an event that is to be stored, with how many of its deliveries are new here.
type taking struct {
	seq    uint64
	fresh  int
	stored bool
	// lanes are those of its deliveries, one in each: an event that comes twice for one endpoint is stored twice.
	lanes map[laneID]struct{}
}

func (o *takeOverOp) prepare(b *batch) error {
	takings, cost, err := o.fresh(b)
	if err != nil {
		return err
	}
	if cost > 0 && (b.q.book.live+cost > b.q.opt.MaxBytes || !b.q.space.free(b.now, cost)) {
		return queue.ErrFull
	}
	for i := range o.parcels {
		if o.out[i] == 0 {
			o.out[i] = b.takeOver(&o.parcels[i], takings[i])
		}
	}
	return nil
}

// fresh notes which parcels are here already and for which there is no room, and returns the events of the others with
// what all of it costs. It changes nothing else, since the whole may still be refused.
func (o *takeOverOp) fresh(b *batch) (takings []*taking, cost int64, err error) {
	takings = make([]*taking, len(o.parcels))
	events := map[*event.Event][]*taking{}
	seen, shares := map[heldID]struct{}{}, shares{}
	for i := range o.parcels {
		p := &o.parcels[i]
		id := heldOf(laneOf(p.Delivery.Ref), p.Event.ID, p.Event.SHA256, p.Delivery.Accepted)
		_, here := seen[id]
		if !here {
			if here, err = b.holds(id); err != nil {
				return nil, 0, err
			}
		}
		if here {
			o.out[i] = queue.TookOverPresent
			continue
		}
		waits := p.Delivery.State != delivery.Failed
		if waits && !shares.add(b, id.lane, len(p.Event.Payload)) && !p.Last {
			o.out[i] = queue.TookOverShareFull
			continue
		}
		seen[id] = struct{}{}
		takings[i] = takingFor(events, p.Event, id.lane)
		if takings[i].fresh++; takings[i].fresh == 1 {
			cost += int64(len(p.Event.Payload)) + eventCost
		}
		cost += deliveryCost
	}
	return takings, cost, nil
}

// takingFor finds the copy of the event that a delivery of the lane can have, or adds one.
func takingFor(events map[*event.Event][]*taking, e *event.Event, lane laneID) *taking {
	for _, t := range events[e] {
		if _, taken := t.lanes[lane]; !taken {
			t.lanes[lane] = struct{}{}
			return t
		}
	}
	t := &taking{lanes: map[laneID]struct{}{lane: {}}}
	events[e] = append(events[e], t)
	return t
}

// shares are what lanes would hold with what is to be stored in them.
type shares map[laneID]*laneBook

// add says whether the lane has room for one delivery more, which it counts then.
func (s shares) add(b *batch, id laneID, payloadBytes int) bool {
	l := s[id]
	if l == nil {
		l = &laneBook{}
		if known := b.q.book.lanes[id]; known != nil {
			l.bytes = known.bytes
		}
		s[id] = l
	}
	if b.q.exceedsShare(l, payloadBytes) {
		return false
	}
	l.bytes += int64(payloadBytes) + deliveryCost
	return true
}

// takeOver stores one delivery, with its event when that is not stored yet.
func (b *batch) takeOver(p *queue.Parcel, t *taking) queue.TookOver {
	if !t.stored {
		b.store(p.Event, t)
	}
	d := p.Delivery
	d.EventID, d.Hops = p.Event.ID, d.Hops+1
	s := newStored(p.Event, d, t.fresh > 1)
	id := deliveryID{laneOf(d.Ref), t.seq}
	b.index(id.lane, s)
	if d.State == delivery.Failed {
		b.keepLetter(id, s)
		return queue.TookOverAdded
	}
	l := b.q.book.lane(d.Ref)
	b.countFor(l, d.UID)
	if b.q.exceedsShare(l, len(p.Event.Payload)) {
		s.Delivery = delivery.Fail(s.Delivery, delivery.ReasonQueueFull, b.now)
		b.note(b.end(id, s, false))
		return queue.TookOverFailed
	}
	b.enqueue(l, len(p.Event.Payload))
	b.put(place{l.id, millisAfter(d.Due), t.seq}, s)
	b.record(id, s)
	return queue.TookOverAdded
}

func (b *batch) store(e *event.Event, t *taking) {
	book := b.q.book
	t.seq, t.stored = book.nextSeq, true
	book.nextSeq++
	b.scratch = appendEvent(b.scratch[:0], e)
	b.set(seqKey(tableEvent, t.seq), b.scratch)
	book.live += int64(len(e.Payload)) + eventCost
	if t.fresh > 1 {
		b.hold(t.seq, t.fresh)
	}
}
