// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package pebble

import (
	"context"
	"errors"
	"fmt"
	"time"

	pdb "github.com/cockroachdb/pebble/v2"

	"github.com/garyclub/webhook-operator/internal/delivery"
	"github.com/garyclub/webhook-operator/internal/endpoint"
	"github.com/garyclub/webhook-operator/internal/event"
	"github.com/garyclub/webhook-operator/internal/queue"
)

// Append implements queue.Queue.
func (q *Queue) Append(ctx context.Context, items []queue.Item) ([]queue.Accepted, error) {
	o := &appendOp{items: items, out: make([]queue.Accepted, len(items))}
	if _, err := q.submit(ctx, o); err != nil {
		return nil, fmt.Errorf("append %d events: %w", len(items), err)
	}
	return o.out, nil
}

type appendOp struct {
	call
	items []queue.Item
	out   []queue.Accepted
}

func (o *appendOp) size() int {
	n := 0
	for i := range o.items {
		n += len(o.items[i].Event.Payload) + eventCost + deliveryCost*len(o.items[i].Endpoints)
	}
	return n
}

func (o *appendOp) prepare(b *batch) error {
	keys, err := o.repeats(b)
	if err != nil {
		return err
	}
	cost := int64(0)
	for i := range o.items {
		if !o.out[i].Repeated {
			cost += costOf(&o.items[i])
		}
	}
	book := b.q.book
	if cost > 0 && (book.live+cost > b.q.opt.MaxBytes || !b.q.space.free(b.now, cost)) {
		return queue.ErrFull
	}
	for i := range o.items {
		if !o.out[i].Repeated {
			b.add(&o.items[i], &o.out[i])
		}
	}
	for hash, k := range keys {
		b.remember(hash, k)
	}
	return nil
}

func costOf(item *queue.Item) int64 {
	if item.Matched && len(item.Endpoints) == 0 {
		return 0
	}
	return int64(len(item.Event.Payload)) + eventCost + int64(len(item.Endpoints))*deliveryCost
}

// repeats answers the items whose key is known, and returns the keys that are new. It changes nothing else, since a
// later item may still be refused.
func (o *appendOp) repeats(b *batch) (map[[32]byte]keyInfo, error) {
	var fresh map[[32]byte]keyInfo
	for i := range o.items {
		item := &o.items[i]
		if item.Key == ([32]byte{}) {
			o.out[i] = answerTo(item)
			continue
		}
		known, ok := fresh[item.Key]
		if !ok {
			var err error
			if known, ok, err = b.known(item.Key); err != nil {
				return nil, err
			}
		}
		if ok {
			if known.body != item.Event.SHA256 {
				return nil, queue.ErrKeyReused
			}
			o.out[i] = queue.Accepted{EventID: known.eventID, Deliveries: known.deliveries, Repeated: true}
			continue
		}
		o.out[i] = answerTo(item)
		if fresh == nil {
			fresh = map[[32]byte]keyInfo{}
		}
		fresh[item.Key] = keyInfo{
			at: millis(b.now), body: item.Event.SHA256, eventID: item.Event.ID, deliveries: o.out[i].Deliveries,
		}
	}
	return fresh, nil
}

func answerTo(item *queue.Item) queue.Accepted {
	if !item.Matched {
		return queue.Accepted{EventID: item.Event.ID, Deliveries: -1}
	}
	return queue.Accepted{EventID: item.Event.ID, Deliveries: len(item.Endpoints)}
}

// known looks an idempotency key up, in this batch and before.
func (b *batch) known(hash [32]byte) (k keyInfo, ok bool, err error) {
	if k, ok = b.keys[hash]; ok {
		return k, true, nil
	}
	k, err = b.q.storedKey(hash)
	if errors.Is(err, pdb.ErrNotFound) {
		return k, false, nil
	}
	return k, err == nil && k.at+b.q.opt.IdempotencyWindow.Milliseconds() > millis(b.now), err
}

func (q *Queue) storedKey(hash [32]byte) (k keyInfo, err error) {
	err = q.get(keyKey(hash), func(value []byte) error {
		k, err = parseKey(value)
		return err
	})
	return k, err
}

// remember keeps a key that is not known or whose window has passed.
func (b *batch) remember(hash [32]byte, k keyInfo) {
	book := b.q.book
	if old, err := b.q.storedKey(hash); err == nil {
		b.delete(keyAgeKey(old.at, hash))
		book.keys--
	}
	b.scratch = appendKey(b.scratch[:0], &k)
	b.set(keyKey(hash), b.scratch)
	age := keyAgeKey(k.at, hash)
	b.set(age, nil)
	book.lowKey = lower(book.lowKey, age)
	if b.keys == nil {
		b.keys = map[[32]byte]keyInfo{}
	}
	b.keys[hash] = k
	book.keys++
	if book.oldestKey == 0 {
		book.oldestKey = k.at
	}
	b.sweepBy(k.at + b.q.opt.IdempotencyWindow.Milliseconds())
}

// add stores one event with its deliveries. One that matched no endpoint leaves nothing but its key.
func (b *batch) add(item *queue.Item, out *queue.Accepted) {
	if out.Deliveries == 0 {
		return
	}
	book, e := b.q.book, item.Event
	seq := book.nextSeq
	book.nextSeq++
	b.scratch = appendEvent(b.scratch[:0], e)
	b.set(seqKey(tableEvent, seq), b.scratch)
	book.live += int64(len(e.Payload)) + eventCost
	if !item.Matched {
		b.set(seqKey(tableUnmatched, seq), nil)
		book.unmatched++
		b.match = true
		return
	}
	b.fanOut(seq, e, item.Endpoints)
}

// fanOut gives the stored event one delivery for each endpoint.
func (b *batch) fanOut(seq uint64, e *event.Event, endpoints []*endpoint.Endpoint) {
	shared := len(endpoints) > 1
	if shared {
		b.hold(seq, len(endpoints))
	}
	due := millis(b.now)
	for _, p := range endpoints {
		l := b.q.book.lane(p.Ref)
		b.countFor(l, p.UID)
		id := deliveryID{l.id, seq}
		s := newStored(e, first(e, p, b.now), shared)
		if b.q.opt.Receives {
			b.index(l.id, s)
		}
		if b.q.exceedsShare(l, len(e.Payload)) {
			s.Delivery = delivery.Fail(s.Delivery, delivery.ReasonQueueFull, b.now)
			b.note(b.end(id, s, false))
			continue
		}
		b.enqueue(l, len(e.Payload))
		b.put(place{l.id, due, seq}, s)
		b.record(id, s)
	}
}

// exceedsShare says whether the endpoint's share is too full for one delivery more.
func (q *Queue) exceedsShare(l *laneBook, payloadBytes int) bool {
	return l.bytes+int64(payloadBytes)+deliveryCost > int64(q.opt.EndpointShare*float64(q.opt.MaxBytes))
}

// first is a delivery at its beginning.
func first(e *event.Event, p *endpoint.Endpoint, now time.Time) delivery.Delivery {
	return delivery.Delivery{
		Ref: p.Ref, UID: p.UID, EventID: e.ID, Trigger: delivery.TriggerEvent, State: delivery.Pending,
		Accepted: e.Accepted, Deadline: e.Accepted.Add(p.Retry.Deadline), Due: now,
		MaxAttempts: p.Retry.MaxRetries + 1,
	}
}
