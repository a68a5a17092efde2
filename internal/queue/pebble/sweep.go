// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package pebble

import (
	"bytes"
	"encoding/binary"
	"errors"
	"time"

	pdb "github.com/cockroachdb/pebble/v2"
)

// sweepChunk bounds what one sweep drops of each table.
const sweepChunk = 1000

// sweepPause is the least time between two sweeps, so that single expiries do not wake an idle process each.
const sweepPause = time.Minute

func latest(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// lower is the one that sorts first: what is added within the millisecond of the last one dropped may lie before it.
func lower(a, b []byte) []byte {
	if bytes.Compare(b, a) < 0 {
		return b
	}
	return a
}

func appendUvarint(dst []byte, n uint64) []byte { return binary.AppendUvarint(dst, n) }

// bury makes a failed delivery a dead letter, which holds the event on.
func (b *batch) bury(id deliveryID, s *stored) {
	s.RedeliverableUntil = b.now.Add(b.q.opt.DeadLetterRetention)
	b.keepLetter(id, s)
}

func (b *batch) keepLetter(id deliveryID, s *stored) {
	book := b.q.book
	expires := millis(s.RedeliverableUntil)
	b.scratch = appendRecord(b.scratch[:0], s)
	key := deadKey(expires, id)
	b.set(key, b.scratch)
	book.lowDead = lower(book.lowDead, key)
	book.letters++
	book.dead += int64(s.PayloadBytes) + deliveryCost
	book.live += deliveryCost
	b.sweepBy(expires)
}

// unbury takes a dead letter out of its table. Its event is held on until it is released.
func (b *batch) unbury(key []byte, s *stored) {
	book := b.q.book
	b.delete(key)
	book.letters--
	book.dead -= int64(s.PayloadBytes) + deliveryCost
	book.live -= deliveryCost
}

// letterAt reads a dead letter by its key; nil when it is not there any more.
func (q *Queue) letterAt(key []byte) (s *stored, err error) {
	err = q.get(key, func(value []byte) error {
		s, err = parseRecord(value)
		return err
	})
	if errors.Is(err, pdb.ErrNotFound) {
		return nil, nil
	}
	return s, err
}

// sweepBy has a sweep done when something expires.
func (b *batch) sweepBy(expires int64) {
	at := max(expires, millis(b.now.Add(sweepPause)))
	if book := b.q.book; book.sweepAt == 0 || at < book.sweepAt {
		book.sweepAt = at
	}
}

// sweepAgain has the next sweep done at once when this one left something that expired.
func (b *batch) sweepAgain(dropped int) {
	if dropped == sweepChunk {
		b.q.book.sweepAt = millis(b.now)
	}
}

// sweepOp drops the dead letters, the idempotency keys and the orders that expired or are too many.
type sweepOp struct{ call }

func (o *sweepOp) alone() bool { return true }

func (o *sweepOp) prepare(b *batch) error {
	book := b.q.book
	book.sweepAt = 0
	b.sweepOrders()
	if err := b.sweepDead(); err != nil {
		return err
	}
	return b.sweepKeys()
}

func (b *batch) sweepDead() error {
	book, now, dropped := b.q.book, millis(b.now), 0
	err := b.q.each(book.lowDead, after([]byte{tableDead}), func(it *pdb.Iterator) (bool, error) {
		expires, id, ok := parseDeadKey(it.Key())
		if !ok {
			return false, errCorrupt
		}
		if (expires > now && book.dead <= book.maxDead) || dropped == sweepChunk {
			b.sweepBy(expires)
			b.sweepAgain(dropped)
			return false, nil
		}
		s, err := parseRecord(it.Value())
		if err != nil {
			return false, err
		}
		b.unbury(it.Key(), s)
		book.lowDead = append(book.lowDead[:0:0], it.Key()...)
		dropped++
		return true, b.release(id.seq, s)
	})
	return err
}

// sweepKeys drops a hundredth more than the number asks for, so that a full table is not swept for each key.
func (b *batch) sweepKeys() error {
	book, dropped := b.q.book, 0
	limit := millis(b.now) - b.q.opt.IdempotencyWindow.Milliseconds()
	spare := int64(0)
	if book.keys > book.maxKeys {
		spare = min(book.maxKeys/100, sweepChunk/2)
	}
	book.oldestKey = 0
	return b.q.each(book.lowKey, after([]byte{tableKeyAge}), func(it *pdb.Iterator) (bool, error) {
		at, hash, ok := parseKeyAgeKey(it.Key())
		if !ok {
			return false, errCorrupt
		}
		if (at > limit && book.keys <= book.maxKeys-spare) || dropped == sweepChunk {
			book.oldestKey = at
			b.sweepBy(at + b.q.opt.IdempotencyWindow.Milliseconds())
			b.sweepAgain(dropped)
			return false, nil
		}
		b.delete(it.Key())
		b.delete(keyKey(hash))
		book.keys--
		book.lowKey = append(book.lowKey[:0:0], it.Key()...)
		dropped++
		return true, nil
	})
}
