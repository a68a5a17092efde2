// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package pebble

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"

	pdb "github.com/cockroachdb/pebble/v2"

	"github.com/garyclub/webhook-operator/internal/endpoint"
	"github.com/garyclub/webhook-operator/internal/queue"
)

// LeaseWaiting implements queue.Queue. Calls of it take turns.
func (q *Queue) LeaseWaiting(ctx context.Context, n int, p queue.Passage) ([]queue.Lease, error) {
	if err := q.enter(); err != nil {
		return nil, fmt.Errorf("lease what waits: %w", err)
	}
	defer q.leave()
	q.passing.Lock()
	defer q.passing.Unlock()
	for resumed := true; resumed; {
		// What came to wait before where this pass begins is for the next one.
		resumed = q.passed != place{}
		leases, err := q.pass(ctx, n, p)
		if len(leases) > 0 {
			return leases, nil // a fault is met again by the next call
		}
		if err != nil {
			return nil, fmt.Errorf("lease what waits: %w", err)
		}
	}
	return nil, nil
}

// pass goes on from where the last one ended, to the end of all lanes or until it has n leases.
func (q *Queue) pass(ctx context.Context, n int, p queue.Passage) (leases []queue.Lease, err error) {
	for _, id := range q.passable(p.Want) {
		if err := ctx.Err(); err != nil {
			return leases, context.Cause(ctx)
		}
		if leases, err = q.passLane(id, leases, n, p.Due); err != nil || len(leases) >= n {
			return leases, err
		}
	}
	q.passed = place{}
	return leases, nil
}

// passable are the lanes with something waiting, the one in which the last pass ended first.
func (q *Queue) passable(want func(endpoint.Ref) bool) []laneID {
	q.mu.Lock()
	infos := make([]laneState, 0, len(q.lanes))
	for id, l := range q.lanes {
		if l.waiting > 0 {
			infos = append(infos, laneState{id, l.laneInfo})
		}
	}
	q.mu.Unlock()
	ids := make([]laneID, 0, len(infos))
	for _, i := range infos {
		if want == nil || want(i.info.ref) {
			ids = append(ids, i.id)
		}
	}
	slices.SortFunc(ids, func(a, b laneID) int { return bytes.Compare(a[:], b[:]) })
	if at := slices.Index(ids, q.passed.lane); at >= 0 {
		return append(ids[at:len(ids):len(ids)], ids[:at]...)
	}
	q.passed = place{}
	return ids
}

// passLane leases from one lane as it is on disk.
func (q *Queue) passLane(id laneID, leases []queue.Lease, n int, due bool) ([]queue.Lease, error) {
	from, now := lanePrefix(id), millis(q.opt.Now())
	if !due {
		from = place{lane: id, due: now + 1}.key()
	}
	if q.passed.lane == id {
		if at := append(q.passed.key(), 0); bytes.Compare(at, from) > 0 {
			from = at
		}
	}
	err := q.each(from, after(lanePrefix(id)), func(it *pdb.Iterator) (bool, error) {
		p, ok := parsePlace(it.Key()[1:])
		if !ok {
			return false, errCorrupt
		}
		q.passed = p
		l, err := q.leaseAt(p, now, due)
		if l != nil {
			leases = append(leases, l)
		}
		return len(leases) < n, err
	})
	if err == nil && len(leases) < n {
		q.passed = place{} // the lane's end
	}
	return leases, err
}

// leaseAt leases what waits at the place, or nothing when somebody else has it.
func (q *Queue) leaseAt(p place, now int64, due bool) (queue.Lease, error) {
	if !q.claim(p) {
		return nil, nil
	}
	s, found, err := q.waitingAt(p) // again: it may have been settled since the iterator began
	if !found {
		q.giveBack(p, dueAlready, err != nil && !errors.Is(err, errCorrupt) && !pdb.IsCorruptionError(err), 0)
		return nil, err
	}
	// As in refill: a due time of a clock that was set back since is a wait from now on.
	ready := min(p.due, now+s.Wait.Milliseconds())
	if ready <= now && !due {
		q.giveBack(p, dueAlready, true, 0)
		return nil, nil
	}
	return &lease{q: q, place: p, ready: ready, stored: s, mark: -1}, nil
}

// Deferred implements queue.Queue.
func (q *Queue) Deferred() <-chan struct{} {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.deferred.wait()
}

// HandedOver implements queue.Queue.
func (q *Queue) HandedOver(ctx context.Context, leases []queue.Lease) error {
	o := &handedOverOp{leases: make([]*lease, 0, len(leases))}
	for _, l := range leases {
		if !o.add(q, l) {
			o.restore()
			return fmt.Errorf("hand over: %w", errSettled)
		}
	}
	sent, err := q.submit(ctx, o)
	if !sent {
		o.restore()
	}
	if err != nil {
		return fmt.Errorf("hand over %d deliveries: %w", len(leases), err)
	}
	q.returned(o.letters)
	return nil
}

// handedOverOp removes deliveries that another queue answers for.
type handedOverOp struct {
	call
	leases  []*lease
	letters []*deadLease
}

// add takes the lease, unless it is over already or of another queue.
func (o *handedOverOp) add(q *Queue, l queue.Lease) bool {
	switch own := l.(type) {
	case *lease:
		if own.q == q && own.over.CompareAndSwap(false, true) {
			o.leases = append(o.leases, own)
			return true
		}
	case *deadLease:
		if own.q == q && own.over.CompareAndSwap(false, true) {
			o.letters = append(o.letters, own)
			return true
		}
	}
	return false
}

func (o *handedOverOp) restore() {
	for _, l := range o.leases {
		l.over.Store(false)
	}
	for _, l := range o.letters {
		l.over.Store(false)
	}
}

// alone: a dead letter is looked up again.
func (o *handedOverOp) alone() bool { return len(o.letters) > 0 }

func (o *handedOverOp) size() int { return 1024 * (len(o.leases) + len(o.letters)) }

func (o *handedOverOp) prepare(b *batch) error {
	for _, l := range o.letters {
		if err := b.dropLetter(l); err != nil {
			return err
		}
	}
	for _, l := range o.leases {
		b.delete(l.place.key())
		b.freed = append(b.freed, held{l.place, l.mark})
		b.dequeue(b.q.book.lane(l.stored.Ref), l.stored.PayloadBytes)
		b.forget(l.place.id())
		if err := b.release(l.place.seq, l.stored); err != nil {
			return err
		}
	}
	return nil
}

// forget takes what the manager has not taken yet out of the outbox: the queue that has the delivery now tells of it.
func (b *batch) forget(id deliveryID) {
	box := &b.q.book.outbox
	if old := box.byDelivery[id]; old != nil {
		box.remove(old)
		b.delete(seqKey(tableOutbox, old.out))
	}
}
