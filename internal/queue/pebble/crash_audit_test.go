// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package pebble

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"

	pdb "github.com/cockroachdb/pebble/v2"

	"github.com/garyclub/webhook-operator/internal/delivery"
	"github.com/garyclub/webhook-operator/internal/endpoint"
)

// world is what a queue holds, by the names of deliveries: what a test asked for, and what a disk says.
type world struct {
	Waiting                       map[string]int // requests whose outcome is known
	Dead                          map[string]string
	Outbox                        map[string]delivery.State
	Unmatched, Keys               map[string]bool // of events
	Gone                          map[string]string
	Orders                        map[orderID]orderInfo
	Succeeded, Failed, Unrecorded map[string]int64
}

func newWorld() *world {
	return &world{Waiting: map[string]int{}, Dead: map[string]string{}, Outbox: map[string]delivery.State{},
		Unmatched: map[string]bool{}, Keys: map[string]bool{}, Gone: map[string]string{}, Orders: map[orderID]orderInfo{},
		Succeeded: map[string]int64{}, Failed: map[string]int64{}, Unrecorded: map[string]int64{}}
}

func (w *world) clone() *world {
	return &world{maps.Clone(w.Waiting), maps.Clone(w.Dead), maps.Clone(w.Outbox), maps.Clone(w.Unmatched), maps.Clone(w.Keys),
		maps.Clone(w.Gone), maps.Clone(w.Orders), maps.Clone(w.Succeeded), maps.Clone(w.Failed), maps.Clone(w.Unrecorded)}
}

// nameOf names a delivery by what a caller knows of it.
func nameOf(ref endpoint.Ref, eventID, order string) string {
	return ref.Name + " " + eventID + " " + order
}

// audit reads all tables of a queue that is at rest, and checks them against each other.
type audit struct {
	q     *Queue
	world *world
	// holders counts the deliveries of an event, shared those that count on its reference.
	holders, shared map[uint64]int
	lanes           map[laneID]laneInfo
	held            map[heldID]bool
	live, dead      int64
	letters, keys   int64
}

func auditOf(q *Queue) (*world, error) {
	a := &audit{q: q, world: newWorld(), holders: map[uint64]int{}, shared: map[uint64]int{}, lanes: map[laneID]laneInfo{},
		held: map[heldID]bool{}}
	for table, read := range map[byte]func(key, value []byte) error{
		tableDelivery: a.delivery, tableDead: a.letter, tableUnmatched: a.unmatched, tableKey: a.key, tableOrder: a.order,
		tableOutbox: a.outgoing, tableCounters: a.counters,
	} {
		if err := a.table(table, read); err != nil {
			return nil, err
		}
	}
	// These are judged by what was found in those.
	for _, table := range []struct {
		name byte
		read func(key, value []byte) error
	}{{tableEvent, a.event}, {tableReferences, a.references}, {tableLane, a.lane}, {tableHeld, a.isHeld}, {tableKeyAge, a.keyAge}} {
		if err := a.table(table.name, table.read); err != nil {
			return nil, err
		}
	}
	return a.world, a.sums()
}

func (a *audit) table(table byte, read func(key, value []byte) error) error {
	return a.q.each([]byte{table}, after([]byte{table}), func(it *pdb.Iterator) (bool, error) {
		if err := read(it.Key(), it.Value()); err != nil {
			return false, fmt.Errorf("table %c, key %x: %w", table, it.Key(), err)
		}
		return true, nil
	})
}

// holder reads what holds an event, and the event with its payload.
func (a *audit) holder(seq uint64, value []byte) (*stored, error) {
	s, err := parseRecord(value)
	if err != nil {
		return nil, err
	}
	e, err := a.q.event(seq)
	if err != nil {
		return nil, err
	}
	if sha256.Sum256(e.Payload) != s.PayloadSHA || len(e.Payload) != s.PayloadBytes || e.ID != s.EventID {
		return nil, errors.New("the event is another one")
	}
	a.holders[seq]++
	if s.shared {
		a.shared[seq]++
	}
	if s.indexed {
		a.held[heldOf(laneOf(s.Ref), s.EventID, s.PayloadSHA, s.Accepted)] = false
	}
	a.live += deliveryCost
	return s, nil
}

func (a *audit) delivery(key, value []byte) error {
	p, ok := parsePlace(key[1:])
	s, err := a.holder(p.seq, value)
	if err != nil || !ok || s.State.Done() || p.lane != laneOf(s.Ref) {
		return fmt.Errorf("no delivery that waits: %w", err)
	}
	name := nameOf(s.Ref, s.EventID, s.Order)
	if _, twice := a.world.Waiting[name]; twice {
		return fmt.Errorf("%s waits twice", name)
	}
	a.world.Waiting[name] = s.AttemptCount
	l := a.lanes[p.lane]
	l.waiting, l.bytes = l.waiting+1, l.bytes+int64(s.PayloadBytes)+deliveryCost
	a.lanes[p.lane] = l
	return nil
}

func (a *audit) letter(key, value []byte) error {
	_, id, ok := parseDeadKey(key)
	s, err := a.holder(id.seq, value)
	if err != nil || !ok || s.State != delivery.Failed || id.lane != laneOf(s.Ref) {
		return fmt.Errorf("no dead letter: %w", err)
	}
	a.world.Dead[nameOf(s.Ref, s.EventID, s.Order)] = s.Reason
	a.letters++
	a.dead += int64(s.PayloadBytes) + deliveryCost
	return nil
}

func (a *audit) unmatched(key, _ []byte) error {
	seq, _ := parseSeqKey(key)
	e, err := a.q.event(seq)
	if err == nil {
		a.world.Unmatched[e.ID] = true
		a.holders[seq]++
	}
	return err
}

func (a *audit) key(_, value []byte) error {
	k, err := parseKey(value)
	a.world.Keys[k.eventID] = true
	a.keys++
	return err
}

func (a *audit) keyAge([]byte, []byte) error {
	a.keys--
	return nil
}

func (a *audit) order(key, value []byte) error {
	id, _ := parseOrderKey(key)
	o, err := parseOrder(value)
	o.began, o.updated = 0, 0
	a.world.Orders[id] = o
	return err
}

func (a *audit) outgoing(key, value []byte) error {
	_, s, err := parseOutgoing(value)
	if err != nil {
		return err
	}
	name := nameOf(s.Ref, s.EventID, s.Order)
	if _, twice := a.world.Outbox[name]; twice {
		return fmt.Errorf("%s is told of twice", name)
	}
	if out, _ := parseSeqKey(key); out >= a.q.totals.nextOut {
		return fmt.Errorf("number %d is to come again", out)
	}
	a.world.Outbox[name] = s.State
	return nil
}

func (a *audit) counters(key, value []byte) error {
	c, err := parseCounters(string(key[1:]), value)
	for figures, n := range map[*map[string]int64]int64{
		&a.world.Succeeded: c.Succeeded, &a.world.Failed: c.Failed, &a.world.Unrecorded: c.Unrecorded,
	} {
		if n != 0 {
			(*figures)[c.Ref.Name] += n
		}
	}
	return err
}

func (a *audit) event(key, value []byte) error {
	seq, _ := parseSeqKey(key)
	e, err := parseEvent(value)
	if err != nil {
		return err
	}
	if a.holders[seq] == 0 || seq >= a.q.totals.nextSeq {
		return fmt.Errorf("nobody holds event %s, or its number is to come again", e.ID)
	}
	if a.shared[seq] == 0 && a.holders[seq] != 1 {
		return fmt.Errorf("%d hold event %s, which is not shared", a.holders[seq], e.ID)
	}
	a.live += int64(len(e.Payload)) + eventCost
	return nil
}

func (a *audit) references(key, value []byte) error {
	seq, _ := parseSeqKey(key)
	n, err := parseReferences(value)
	if err == nil && n != a.shared[seq] {
		err = fmt.Errorf("%d references, %d hold it", n, a.shared[seq])
	}
	delete(a.shared, seq)
	return err
}

func (a *audit) lane(key, value []byte) error {
	l, err := parseLane(value)
	id := laneID(key[1:])
	if found := a.lanes[id]; err == nil && (l.waiting != found.waiting || l.bytes != found.bytes) {
		err = fmt.Errorf("%d wait with %d bytes, found %d with %d", l.waiting, l.bytes, found.waiting, found.bytes)
	}
	delete(a.lanes, id)
	if l.gone != "" {
		a.world.Gone[l.ref.Name] = l.gone
	}
	return err
}

func (a *audit) isHeld(key, _ []byte) error {
	id := heldID{laneID(key[1:17]), [16]byte(key[17:])}
	if _, known := a.held[id]; !known {
		return errors.New("it holds nothing")
	}
	delete(a.held, id)
	return nil
}

// sums compares the totals with what was found.
func (a *audit) sums() error {
	a.q.mu.Lock()
	t := a.q.totals
	a.q.mu.Unlock()
	if len(a.shared) > 0 || len(a.lanes) > 0 || len(a.held) > 0 || a.keys != 0 {
		return fmt.Errorf("missing: %d references, %d lanes, %d held, and %d keys have no age", len(a.shared), len(a.lanes),
			len(a.held), a.keys)
	}
	if t.live != a.live || t.dead != a.dead || t.letters != a.letters || t.unmatched != int64(len(a.world.Unmatched)) ||
		t.keys != int64(len(a.world.Keys)) {
		return fmt.Errorf("totals are %+v, found %d live and %d dead bytes, %d dead letters, %d unmatched, %d keys", t, a.live,
			a.dead, a.letters, len(a.world.Unmatched), len(a.world.Keys))
	}
	pending := int64(0)
	counters, _ := a.q.Counters(0)
	for _, c := range counters {
		pending += c.Pending
	}
	if pending != int64(len(a.world.Waiting)) {
		return fmt.Errorf("%d count as pending, %d wait", pending, len(a.world.Waiting))
	}
	return nil
}
