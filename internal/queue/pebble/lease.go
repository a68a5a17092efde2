// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package pebble

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	pdb "github.com/cockroachdb/pebble/v2"

	"github.com/garyclub/webhook-operator/internal/delivery"
	"github.com/garyclub/webhook-operator/internal/endpoint"
	"github.com/garyclub/webhook-operator/internal/event"
	"github.com/garyclub/webhook-operator/internal/queue"
)

// readPause is how long a lane waits after a read of it failed: a disk that is ill may be well again.
const readPause = 5 * time.Second

// dueAlready is when what was leased by its due time may be leased again, whatever the clock of its due time was.
const dueAlready = 0

// Lease implements queue.Queue.
func (q *Queue) Lease(ctx context.Context, gate queue.Gate) (queue.Lease, error) {
	for {
		if err := q.room(ctx); err != nil {
			return nil, fmt.Errorf("lease: %w", err)
		}
		p, woken, err := q.pick()
		if err != nil {
			return nil, fmt.Errorf("lease: %w", err)
		}
		if woken != nil {
			select {
			case <-woken:
				continue
			case <-ctx.Done():
				q.forsake(woken)
				return nil, context.Cause(ctx)
			}
		}
		held, err := q.hold(ctx, p, gate)
		if err != nil {
			return nil, fmt.Errorf("lease: %w", err)
		}
		if held != nil {
			return held, nil
		}
	}
}

// pick takes the next due delivery out of its lane's window, so that nobody else gets it. When there is none it returns
// what to wait on. The window is refilled under the lock: 64 keys that lie next to each other.
func (q *Queue) pick() (place, chan struct{}, error) {
	if err := q.enter(); err != nil {
		return place{}, nil, err
	}
	defer q.leave()
	q.mu.Lock()
	defer q.mu.Unlock()
	now := millis(q.opt.Now())
	q.promote(now)
	for l := q.turn(); l != nil; l = q.turn() {
		if len(l.window) == 0 && l.more {
			if err := q.refill(l, now); err != nil {
				l.notBefore = max(l.notBefore, now+readPause.Milliseconds())
				q.offer(l, now)
				return place{}, nil, err
			}
		}
		if l.parked || len(l.window) == 0 || max(l.window[0].ready, l.notBefore) > now {
			q.offer(l, now)
			continue
		}
		p := l.window[0].place
		l.window = append(l.window[:0], l.window[1:]...)
		q.flying[p] = struct{}{}
		q.offer(l, now)
		return p, nil, nil
	}
	return place{}, q.await(), nil
}

// hold makes a lease of what was picked. It returns nil when the delivery is not to be handed out.
func (q *Queue) hold(ctx context.Context, p place, gate queue.Gate) (*lease, error) {
	if err := q.enter(); err != nil {
		return nil, err
	}
	s, found, err := q.waitingAt(p)
	q.leave()
	if err != nil || !found {
		// What is corrupt will be so the next time too: it must not stand for ever at the head of its lane.
		waits := err != nil && !errors.Is(err, errCorrupt) && !pdb.IsCorruptionError(err)
		q.giveBack(p, dueAlready, waits, millis(q.opt.Now().Add(readPause)))
		return nil, err
	}
	if now := q.opt.Now(); now.After(s.Deadline) {
		s.Delivery = delivery.Fail(s.Delivery, delivery.ReasonDeadlineExceeded, now)
		// It is under way already when ctx ends, and nothing waits for its answer.
		_, err := q.submit(context.WithoutCancel(ctx), &settleOp{held: held{p, -1}, uid: s.UID, to: s, unattempted: true})
		return nil, err
	}
	unparked := q.unparkedOf(p.lane)
	if !gate.Admit(s.Ref) {
		q.park(p, unparked)
		return nil, nil
	}
	return &lease{q: q, place: p, ready: dueAlready, stored: s, mark: q.marks.set(p)}, nil
}

// waitingAt reads the delivery that waits at the place.
func (q *Queue) waitingAt(p place) (s *stored, found bool, err error) {
	err = q.get(p.key(), func(value []byte) error {
		s, err = parseRecord(value)
		return err
	})
	if errors.Is(err, pdb.ErrNotFound) {
		return nil, false, nil
	}
	return s, err == nil, err
}

func (q *Queue) unparkedOf(id laneID) uint64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.lanes[id].unparked
}

// park puts a delivery back that the gate refused, and its lane aside until Unpark.
func (q *Queue) park(p place, unparked uint64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	l := q.lanes[p.lane]
	l.parked = l.unparked == unparked
	q.putBack(l, p, dueAlready)
}

// giveBack ends the hold on a delivery. When it still waits, it is due again as before, and its lane at the time.
func (q *Queue) giveBack(p place, ready int64, waits bool, at int64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !waits {
		delete(q.flying, p)
		return
	}
	l := q.lanes[p.lane]
	l.notBefore = max(l.notBefore, at)
	q.putBack(l, p, ready)
}

func (q *Queue) putBack(l *lane, p place, ready int64) {
	delete(q.flying, p)
	l.add(entry{p, ready})
	q.offer(l, millis(q.opt.Now()))
}

// Unpark implements queue.Queue.
func (q *Queue) Unpark(ref endpoint.Ref) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if l := q.lanes[laneOf(ref)]; l != nil {
		l.unparked++
		l.parked = false
		q.offer(l, millis(q.opt.Now()))
	}
}

// UnparkAll implements queue.Queue.
func (q *Queue) UnparkAll() {
	q.mu.Lock()
	defer q.mu.Unlock()
	now := millis(q.opt.Now())
	for _, l := range q.lanes {
		l.unparked++
		l.parked = false
		q.offer(l, now)
	}
}

var errSettled = errors.New("lease was given back already")

// lease implements queue.Lease.
type lease struct {
	q      *Queue
	place  place
	ready  int64 // when it may be leased after a release
	stored *stored
	mark   int
	over   atomic.Bool
}

// Delivery implements queue.Lease.
func (l *lease) Delivery() delivery.Delivery { return l.stored.Delivery }

// Event implements queue.Lease.
func (l *lease) Event() (*event.Event, error) {
	if err := l.q.enter(); err != nil {
		return nil, err
	}
	defer l.q.leave()
	return l.q.event(l.place.seq)
}

func (q *Queue) event(seq uint64) (e *event.Event, err error) {
	err = q.get(seqKey(tableEvent, seq), func(value []byte) error {
		e, err = parseEvent(value)
		return err
	})
	return e, err
}

// Settle implements queue.Lease.
func (l *lease) Settle(ctx context.Context, d delivery.Delivery) error {
	if !l.over.CompareAndSwap(false, true) {
		return errSettled
	}
	to := *l.stored
	to.Delivery = d
	to.Ref, to.EventID = l.stored.Ref, l.stored.EventID
	o := &settleOp{held: held{l.place, l.mark}, uid: l.stored.UID, to: &to}
	sent, err := l.q.submit(ctx, o)
	if !sent {
		l.over.Store(false)
	}
	if err != nil {
		return fmt.Errorf("settle: %w", err)
	}
	return nil
}

// Release implements queue.Lease.
func (l *lease) Release(at time.Time) {
	if !l.over.CompareAndSwap(false, true) {
		return
	}
	l.q.marks.clear(l.mark)
	l.q.giveBack(l.place, l.ready, true, millis(at))
}
