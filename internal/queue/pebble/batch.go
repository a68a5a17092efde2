// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package pebble

import (
	"errors"
	"fmt"
	"time"

	pdb "github.com/cockroachdb/pebble/v2"

	"github.com/garyclub/webhook-operator/internal/delivery"
	"github.com/garyclub/webhook-operator/internal/endpoint"
	"github.com/garyclub/webhook-operator/internal/queue"
)

// batch is what is committed in one piece, with the effects that are published once it is synced.
type batch struct {
	q       *Queue
	kv      *pdb.Batch
	ops     []op
	bytes   int
	err     error
	applied bool
	now     time.Time
	scratch []byte

	references map[uint64]int
	keys       map[[32]byte]keyInfo
	indexed    map[heldID]struct{}
	lanes      []*laneBook
	counters   []*counterBook

	// The effects.
	waiting   []arrival
	freed     []held
	nowLanes  []laneState
	nowCount  []delivery.Counters
	totals    totals
	lowKey    int64
	outboxLen int64
	sweepAt   int64
	scrubAt   int64
	match     bool // there are new unmatched events
	ended     map[queue.Ended]int
}

// arrival is a delivery that waits from now on.
type arrival struct {
	place place
	ref   endpoint.Ref
}

// held is a delivery that was kept from being leased until the batch is synced.
type held struct {
	place place
	mark  int // of its lease, or -1
}

type laneState struct {
	id   laneID
	info laneInfo
}

func (q *Queue) begin() *batch {
	return &batch{q: q, kv: q.db.NewBatch(), now: q.opt.Now()}
}

func (b *batch) take(o op) {
	b.ops = append(b.ops, o)
	b.bytes += o.size()
	err := b.q.usable()
	if err == nil {
		err = b.err
	}
	if err == nil {
		err = o.prepare(b)
	}
	if err != nil && !errors.Is(err, queue.ErrFull) && !errors.Is(err, queue.ErrKeyReused) {
		// It may have failed half way, so the book is not to be trusted any more.
		b.note(err)
	}
	o.answer().err = err
}

// finish adds to the batch what changed in the book, each thing once.
func (b *batch) finish() {
	book := b.q.book
	for seq, n := range b.references {
		if n > 0 {
			b.scratch = appendUvarint(b.scratch[:0], uint64(n))
			b.set(seqKey(tableReferences, seq), b.scratch)
		}
	}
	for _, l := range b.lanes {
		l.dirty = false
		if l.waiting == 0 && l.gone == "" {
			b.delete(laneKey(l.id))
		} else {
			b.scratch = appendLane(b.scratch[:0], &l.laneInfo)
			b.set(laneKey(l.id), b.scratch)
		}
		b.nowLanes = append(b.nowLanes, laneState{l.id, l.laneInfo})
		if l.uid != "" {
			b.touch(book.counter(l.uid, l.ref))
		}
	}
	for _, c := range b.counters {
		c.dirty = false
		c.Pending, c.Gone = 0, ""
		if l := book.lanes[c.lane]; l != nil && l.uid == c.UID {
			c.Pending, c.Gone = l.waiting, l.gone
		}
		b.scratch = appendCounters(b.scratch[:0], &c.Counters)
		b.set(countersKey(c.UID), b.scratch)
		b.nowCount = append(b.nowCount, c.Counters)
	}
	if !b.kv.Empty() {
		b.scratch = appendTotals(b.scratch[:0], &book.totals)
		b.set(keyTotals, b.scratch)
	}
	b.totals, b.lowKey, b.sweepAt, b.scrubAt = book.totals, book.oldestKey, book.sweepAt, book.scrubAt
	b.outboxLen = int64(len(book.outbox.byOut))
}

func (b *batch) set(key, value []byte) { b.note(b.kv.Set(key, value, nil)) }

func (b *batch) delete(key []byte) { b.note(b.kv.Delete(key, nil)) }

func (b *batch) note(err error) {
	if err != nil && b.err == nil {
		b.err = fmt.Errorf("write batch: %w", err)
	}
}

// touchLane and touch have the lane or the counters written at the end of the batch.
func (b *batch) touchLane(l *laneBook) {
	if !l.dirty {
		l.dirty = true
		b.lanes = append(b.lanes, l)
	}
}

func (b *batch) touch(c *counterBook) {
	if !c.dirty {
		c.dirty = true
		b.counters = append(b.counters, c)
	}
}

// get reads what was applied; what this batch wrote is not seen.
func (q *Queue) get(key []byte, found func(value []byte) error) error {
	value, closer, err := q.db.Get(key)
	if errors.Is(err, pdb.ErrNotFound) {
		return pdb.ErrNotFound
	}
	if err != nil {
		return fmt.Errorf("read table %c: %w", key[0], err)
	}
	defer func() { _ = closer.Close() }()
	if err := found(value); err != nil {
		return fmt.Errorf("read table %c: %w", key[0], err)
	}
	return nil
}

// each calls visit for the keys in [from, to) until it returns false.
func (q *Queue) each(from, to []byte, visit func(it *pdb.Iterator) (bool, error)) error {
	it, err := q.db.NewIter(&pdb.IterOptions{LowerBound: from, UpperBound: to})
	if err != nil {
		return fmt.Errorf("iterate table %c: %w", from[0], err)
	}
	defer func() { _ = it.Close() }()
	for ok := it.First(); ok; ok = it.Next() {
		more, err := visit(it)
		if err != nil {
			return fmt.Errorf("iterate table %c: %w", from[0], err)
		}
		if !more {
			return nil
		}
	}
	if err := it.Error(); err != nil {
		return fmt.Errorf("iterate table %c: %w", from[0], err)
	}
	return nil
}
