// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package pebble

import (
	"encoding/binary"
	"errors"
	"fmt"

	pdb "github.com/cockroachdb/pebble/v2"
)

// load reads what is small: totals, lanes, counters, the heads of the outbox, and orders.
func (q *Queue) load() error {
	for _, step := range []func() error{q.loadMeta, q.loadLanes, q.loadCounters, q.loadOutbox, q.loadOrders} {
		if err := step(); err != nil {
			return err
		}
	}
	q.totals, q.version = q.book.totals, 1
	q.outboxLen = int64(len(q.book.outbox.byOut))
	if q.book.nextSeq > 1 {
		// What was deleted before may be in files still.
		q.book.scrubAt = millis(q.opt.Now().Add(sweepPause))
		q.scrubAt = q.book.scrubAt
	}
	if q.book.letters > 0 || q.book.keys > 0 || len(q.book.orders) > 0 {
		// The first sweep finds out when the next one is due.
		q.book.sweepAt = millis(q.opt.Now().Add(sweepPause))
		q.sweepAt = q.book.sweepAt
	}
	return nil
}

func (q *Queue) loadMeta() error {
	err := q.get(keyFormat, func(value []byte) error {
		if v, n := binary.Uvarint(value); n <= 0 || v != formatVersion {
			return fmt.Errorf("format %d is not known", v)
		}
		return nil
	})
	if errors.Is(err, pdb.ErrNotFound) {
		return q.found()
	}
	if err != nil {
		return err
	}
	if err := q.get(keyQueueID, func(value []byte) error { q.id = string(value); return nil }); err != nil {
		return err
	}
	err = q.get(keyTotals, func(value []byte) (err error) {
		q.book.totals, err = parseTotals(value)
		return err
	})
	if errors.Is(err, pdb.ErrNotFound) {
		return nil
	}
	return err
}

// found makes a new queue.
func (q *Queue) found() error {
	q.id = newQueueID()
	b := q.db.NewBatch()
	err := errors.Join(
		b.Set(keyFormat, binary.AppendUvarint(nil, formatVersion), nil),
		b.Set(keyQueueID, []byte(q.id), nil),
		b.Commit(pdb.Sync),
		b.Close(),
	)
	if err != nil {
		return fmt.Errorf("found queue: %w", err)
	}
	return nil
}

// loadLanes makes the lanes known. Those with deliveries get into the ring with an empty window: when each has its turn
// it is seen whether it is due.
func (q *Queue) loadLanes() error {
	now := millis(q.opt.Now())
	return q.each([]byte{tableLane}, after([]byte{tableLane}), func(it *pdb.Iterator) (bool, error) {
		info, err := parseLane(it.Value())
		if err != nil {
			return false, err
		}
		id := laneOf(info.ref)
		q.book.lanes[id] = &laneBook{id: id, laneInfo: info}
		l := &lane{id: id, laneInfo: info, more: info.waiting > 0}
		q.lanes[id] = l
		q.offer(l, now)
		return true, nil
	})
}

func (q *Queue) loadCounters() error {
	return q.each([]byte{tableCounters}, after([]byte{tableCounters}), func(it *pdb.Iterator) (bool, error) {
		c, err := parseCounters(string(it.Key()[1:]), it.Value())
		if err != nil {
			return false, err
		}
		kept := q.book.counter(c.UID, c.Ref)
		if l := q.book.lanes[kept.lane]; l != nil && l.uid == c.UID {
			c.Pending, c.Gone = l.waiting, l.gone
		}
		kept.Counters = c
		q.counters[c.UID] = countersAt{c, 1}
		return true, nil
	})
}

// loadOutbox reads the outbox once over, which is bounded.
func (q *Queue) loadOutbox() error {
	return q.each([]byte{tableOutbox}, after([]byte{tableOutbox}), func(it *pdb.Iterator) (bool, error) {
		out, ok := parseSeqKey(it.Key())
		if !ok {
			return false, errCorrupt
		}
		id, s, err := parseOutgoing(it.Value())
		if err != nil {
			return false, err
		}
		uid := q.book.counter(s.UID, s.Ref).UID
		q.book.outbox.add(&outgoing{id: id, out: out, state: s.State, uid: uid})
		return true, nil
	})
}

func (q *Queue) loadOrders() error {
	return q.each([]byte{tableOrder}, after([]byte{tableOrder}), func(it *pdb.Iterator) (bool, error) {
		id, ok := parseOrderKey(it.Key())
		if !ok {
			return false, errCorrupt
		}
		info, err := parseOrder(it.Value())
		q.book.orders[id] = info
		return true, err
	})
}
