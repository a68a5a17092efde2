// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package pebble

import (
	"bytes"
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

var errDead = errors.New("a dead letter has no outcome to settle")

// LeaseDead implements queue.Queue. Calls of it, and of LeaseWaiting, take turns.
func (q *Queue) LeaseDead(ctx context.Context, n int, want func(endpoint.Ref) bool) ([]queue.Lease, error) {
	if err := q.enter(); err != nil {
		return nil, fmt.Errorf("lease dead letters: %w", err)
	}
	defer q.leave()
	q.passing.Lock()
	defer q.passing.Unlock()
	for resumed := true; resumed; {
		// What was given back before where this pass begins is for the next one.
		resumed = q.passedDead != nil
		leases, err := q.passDead(ctx, n, want)
		if err != nil {
			return nil, fmt.Errorf("lease dead letters: %w", err)
		}
		if len(leases) > 0 {
			return leases, nil
		}
	}
	return nil, nil
}

// passDead goes on from where the last one ended, to the end or until it has n leases.
func (q *Queue) passDead(ctx context.Context, n int, want func(endpoint.Ref) bool) (leases []queue.Lease, err error) {
	from, now := []byte{tableDead}, millis(q.opt.Now())
	if q.passedDead != nil {
		from = append(bytes.Clone(q.passedDead), 0)
	}
	err = q.each(from, after([]byte{tableDead}), func(it *pdb.Iterator) (bool, error) {
		if err := ctx.Err(); err != nil {
			return false, context.Cause(ctx)
		}
		expires, id, ok := parseDeadKey(it.Key())
		if !ok {
			return false, errCorrupt
		}
		s, err := parseRecord(it.Value())
		if err != nil || expires <= now || want != nil && !want(s.Ref) {
			return true, err
		}
		l := &deadLease{q: q, key: string(it.Key()), seq: id.seq, stored: s}
		if q.lend(l) {
			leases = append(leases, l)
		}
		q.passedDead = []byte(l.key)
		return len(leases) < n, nil
	})
	if err != nil {
		q.returned(lettersOf(leases))
		return nil, err
	}
	if len(leases) < n {
		q.passedDead = nil
	}
	return leases, nil
}

func lettersOf(leases []queue.Lease) []*deadLease {
	letters := make([]*deadLease, 0, len(leases))
	for _, l := range leases {
		if own, ok := l.(*deadLease); ok {
			letters = append(letters, own)
		}
	}
	return letters
}

// lend keeps a dead letter from being leased again.
func (q *Queue) lend(l *deadLease) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if _, lent := q.lent[l.key]; lent {
		return false
	}
	q.lent[l.key] = struct{}{}
	return true
}

// returned ends that.
func (q *Queue) returned(letters []*deadLease) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, l := range letters {
		delete(q.lent, l.key)
	}
}

// dropLetter removes a dead letter that another queue has. It may have left already: then this queue answers for what
// became of it.
func (b *batch) dropLetter(l *deadLease) error {
	key := []byte(l.key)
	s, err := b.q.letterAt(key)
	if s == nil || err != nil {
		return err
	}
	b.unbury(key, s)
	return b.release(l.seq, s)
}

// deadLease implements queue.Lease for a dead letter.
type deadLease struct {
	q      *Queue
	key    string
	seq    uint64
	stored *stored
	over   atomic.Bool
}

// Delivery implements queue.Lease.
func (l *deadLease) Delivery() delivery.Delivery { return l.stored.Delivery }

// Event implements queue.Lease.
func (l *deadLease) Event() (*event.Event, error) {
	if err := l.q.enter(); err != nil {
		return nil, err
	}
	defer l.q.leave()
	return l.q.event(l.seq)
}

// Settle implements queue.Lease.
func (l *deadLease) Settle(context.Context, delivery.Delivery) error { return errDead }

// Release implements queue.Lease.
func (l *deadLease) Release(time.Time) {
	if l.over.CompareAndSwap(false, true) {
		l.q.returned([]*deadLease{l})
	}
}
