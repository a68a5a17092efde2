// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package pebble

import (
	"errors"

	pdb "github.com/cockroachdb/pebble/v2"

	"github.com/garyclub/webhook-operator/internal/delivery"
	"github.com/garyclub/webhook-operator/internal/endpoint"
	"github.com/garyclub/webhook-operator/internal/queue"
)

// Costs beyond the payload, in bytes: about what keys, values and their share of the log and the tables take.
const (
	eventCost    = 512
	deliveryCost = 1024
)

// book is what the committer decides by. It runs ahead of what is published by the batches that are being synced, and
// nobody else reads it.
type book struct {
	totals
	lanes    map[laneID]*laneBook
	counters map[string]*counterBook
	outbox   outboxBook
	orders   map[orderID]orderInfo
	// lowDead and lowKey are where the tables of dead letters and of keys' ages begin: what is before them was deleted,
	// and an iterator need not pass over it.
	lowDead, lowKey []byte
	// oldestKey is the time of the oldest idempotency key; 0 when there is none.
	oldestKey int64
	// sweepAt is when the next sweep is due; 0 when nothing can expire.
	sweepAt int64
	// scrubAt is when the bytes of what was deleted have to leave the files; 0 when nothing was. dropped says that
	// something was since the queue was opened or scrubbed.
	scrubAt int64
	dropped bool

	maxDead, maxKeys int64
}

type laneBook struct {
	laneInfo
	id    laneID
	dirty bool
}

type counterBook struct {
	delivery.Counters
	lane  laneID
	dirty bool
}

// overfull says that something has to be dropped before the next request.
func (k *book) overfull() bool {
	return (k.dead > k.maxDead && k.letters > 0) || k.keys > k.maxKeys
}

func (k *book) lane(ref endpoint.Ref) *laneBook {
	id := laneOf(ref)
	l := k.lanes[id]
	if l == nil {
		l = &laneBook{id: id, laneInfo: laneInfo{ref: ref}}
		k.lanes[id] = l
	}
	return l
}

func (k *book) counter(uid string, ref endpoint.Ref) *counterBook {
	c := k.counters[uid]
	if c == nil {
		c = &counterBook{Counters: delivery.Counters{UID: uid, Ref: ref}, lane: laneOf(ref)}
		k.counters[uid] = c
	}
	return c
}

// index has a delivery found by its event for as long as it is here.
func (b *batch) index(lane laneID, s *stored) {
	id := heldOf(lane, s.EventID, s.PayloadSHA, s.Accepted)
	b.set(id.key(), nil)
	if b.indexed == nil {
		b.indexed = map[heldID]struct{}{}
	}
	b.indexed[id] = struct{}{}
	s.indexed = true
}

// holds says whether the event is here for the endpoint.
func (b *batch) holds(id heldID) (bool, error) {
	if _, ok := b.indexed[id]; ok {
		return true, nil
	}
	err := b.q.get(id.key(), func([]byte) error { return nil })
	if errors.Is(err, pdb.ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

// countFor has what waits in the lane counted for the endpoint with this UID.
func (b *batch) countFor(l *laneBook, uid string) {
	if l.uid == uid || uid == "" {
		return
	}
	if l.uid != "" {
		b.touch(b.q.book.counter(l.uid, l.ref))
	}
	l.uid = uid
	b.touchLane(l)
}

// put makes s wait in its lane.
func (b *batch) put(p place, s *stored) {
	b.scratch = appendRecord(b.scratch[:0], s)
	b.set(p.key(), b.scratch)
	b.waiting = append(b.waiting, arrival{p, s.Ref})
}

// enqueue and dequeue count a delivery into its lane and out of it.
func (b *batch) enqueue(l *laneBook, payloadBytes int) {
	l.waiting++
	l.bytes += int64(payloadBytes) + deliveryCost
	b.q.book.live += deliveryCost
	b.touchLane(l)
}

func (b *batch) dequeue(l *laneBook, payloadBytes int) {
	l.waiting--
	l.bytes -= int64(payloadBytes) + deliveryCost
	b.q.book.live -= deliveryCost
	b.touchLane(l)
}

// end records that the delivery is done, by an attempt or without one. It must not be waiting any more.
func (b *batch) end(id deliveryID, s *stored, attempted bool) error {
	b.countEnd(queue.Ended{Ref: s.Ref, State: s.State, Reason: s.Reason, Attempted: attempted})
	c := b.q.book.counter(s.UID, s.Ref)
	b.touch(c)
	if s.State == delivery.Delivered {
		c.Succeeded++
		c.LastSuccess = latest(c.LastSuccess, s.Completed)
		b.record(id, s)
		return b.release(id.seq, s)
	}
	c.Failed++
	c.LastFailure = latest(c.LastFailure, s.Completed)
	b.bury(id, s)
	b.record(id, s)
	return nil
}

// countEnd notes an end for those who count them.
func (b *batch) countEnd(how queue.Ended) {
	if b.ended == nil {
		b.ended = map[queue.Ended]int{}
	}
	b.ended[how]++
}

// release forgets a delivery that leaves the queue, and gives up its hold on its event. The last one deletes it.
func (b *batch) release(seq uint64, s *stored) error {
	if s.indexed {
		b.delete(heldOf(laneOf(s.Ref), s.EventID, s.PayloadSHA, s.Accepted).key())
	}
	left := 0
	if s.shared {
		n, err := b.held(seq)
		if err != nil {
			return err
		}
		left = n - 1
		b.hold(seq, left)
	}
	if left > 0 {
		return nil
	}
	if s.shared {
		b.delete(seqKey(tableReferences, seq))
	}
	b.dropEvent(seq, s.PayloadBytes)
	return nil
}

// held is how many deliveries hold the event.
func (b *batch) held(seq uint64) (n int, err error) {
	if n, ok := b.references[seq]; ok {
		return n, nil
	}
	err = b.q.get(seqKey(tableReferences, seq), func(value []byte) error {
		n, err = parseReferences(value)
		return err
	})
	return n, err
}

func (b *batch) hold(seq uint64, n int) {
	if b.references == nil {
		b.references = map[uint64]int{}
	}
	b.references[seq] = n
}
