// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package pebble

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"time"

	"github.com/garyclub/webhook-operator/internal/endpoint"
)

// The tables. They stand on disk.
const (
	tableEvent      = 'e'
	tableReferences = 'c'
	tableUnmatched  = 'u'
	tableDelivery   = 'd'
	tableDead       = 'x'
	tableOutbox     = 'o'
	tableLane       = 'l'
	tableCounters   = 'n'
	tableKey        = 'i'
	tableKeyAge     = 'j'
	tableMeta       = 'm'
	tableHeld       = 'h'
	tableOrder      = 'r'
)

var (
	keyFormat  = []byte{tableMeta, 'f'}
	keyQueueID = []byte{tableMeta, 'q'}
	keyTotals  = []byte{tableMeta, 's'}
)

// laneID names the waiting line of one endpoint.
type laneID [16]byte

func laneOf(ref endpoint.Ref) laneID {
	text := make([]byte, 0, 128)
	text = append(append(append(text, ref.Namespace...), 0), ref.Name...)
	sum := sha256.Sum256(text)
	return laneID(sum[:16])
}

// deliveryID names a delivery over its whole life.
type deliveryID struct {
	lane laneID
	seq  uint64
}

// place is where a waiting delivery stands: its lane, and in it by due time and then by sequence.
type place struct {
	lane laneID
	due  int64
	seq  uint64
}

func (p place) id() deliveryID { return deliveryID{p.lane, p.seq} }

// before compares places of one lane.
func (p place) compare(other place) int {
	return cmp.Or(cmp.Compare(p.due, other.due), cmp.Compare(p.seq, other.seq))
}

const (
	placeSize       = 32
	deliveryKeySize = 1 + placeSize
)

func (p place) append(dst []byte) []byte {
	dst = append(dst, p.lane[:]...)
	dst = binary.BigEndian.AppendUint64(dst, uint64(p.due))
	return binary.BigEndian.AppendUint64(dst, p.seq)
}

func (p place) key() []byte { return p.append(append(make([]byte, 0, deliveryKeySize), tableDelivery)) }

// parsePlace reads what place.append wrote.
func parsePlace(b []byte) (place, bool) {
	if len(b) != placeSize {
		return place{}, false
	}
	return place{
		lane: laneID(b[:16]),
		due:  int64(binary.BigEndian.Uint64(b[16:])),
		seq:  binary.BigEndian.Uint64(b[24:]),
	}, true
}

func lanePrefix(lane laneID) []byte { return append([]byte{tableDelivery}, lane[:]...) }

func laneKey(lane laneID) []byte { return append([]byte{tableLane}, lane[:]...) }

func countersKey(uid string) []byte { return append([]byte{tableCounters}, uid...) }

func seqKey(table byte, seq uint64) []byte {
	return binary.BigEndian.AppendUint64(append(make([]byte, 0, 9), table), seq)
}

// parseSeqKey reads the number after the table's byte.
func parseSeqKey(key []byte) (uint64, bool) {
	if len(key) != 9 {
		return 0, false
	}
	return binary.BigEndian.Uint64(key[1:]), true
}

func deadKey(expires int64, id deliveryID) []byte {
	key := binary.BigEndian.AppendUint64(append(make([]byte, 0, deliveryKeySize), tableDead), uint64(expires))
	key = append(key, id.lane[:]...)
	return binary.BigEndian.AppendUint64(key, id.seq)
}

func parseDeadKey(key []byte) (expires int64, id deliveryID, ok bool) {
	if len(key) != deliveryKeySize {
		return 0, deliveryID{}, false
	}
	return int64(binary.BigEndian.Uint64(key[1:])),
		deliveryID{lane: laneID(key[9:25]), seq: binary.BigEndian.Uint64(key[25:])}, true
}

// heldID names a delivery by what another queue knows of it: its endpoint and its event. The body and the acceptance are a
// part of that: an idempotency key that is used again after its window gives the same id to another event, even one with
// the same body, while the first may still be here as a dead letter.
type heldID struct {
	lane  laneID
	event [16]byte
}

func heldOf(lane laneID, eventID string, body [32]byte, accepted time.Time) heldID {
	text := append([]byte(eventID), body[:]...)
	sum := sha256.Sum256(binary.BigEndian.AppendUint64(text, uint64(accepted.UnixNano())))
	return heldID{lane, [16]byte(sum[:16])}
}

func (h heldID) key() []byte {
	return append(append(append(make([]byte, 0, 33), tableHeld), h.lane[:]...), h.event[:]...)
}

// orderID names an order.
type orderID [16]byte

func orderOf(id string) orderID {
	sum := sha256.Sum256([]byte(id))
	return orderID(sum[:16])
}

func (o orderID) key() []byte { return append(append(make([]byte, 0, 17), tableOrder), o[:]...) }

func parseOrderKey(key []byte) (orderID, bool) {
	if len(key) != 17 {
		return orderID{}, false
	}
	return orderID(key[1:]), true
}

func keyKey(hash [32]byte) []byte { return append([]byte{tableKey}, hash[:]...) }

func keyAgeKey(at int64, hash [32]byte) []byte {
	key := binary.BigEndian.AppendUint64(append(make([]byte, 0, 41), tableKeyAge), uint64(at))
	return append(key, hash[:]...)
}

func parseKeyAgeKey(key []byte) (at int64, hash [32]byte, ok bool) {
	if len(key) != 41 {
		return 0, hash, false
	}
	return int64(binary.BigEndian.Uint64(key[1:])), [32]byte(key[9:]), true
}

// after is the first key behind all that begin with prefix.
func after(prefix []byte) []byte {
	end := bytes.Clone(prefix)
	for i := len(end) - 1; i >= 0; i-- {
		if end[i]++; end[i] != 0 {
			return end[:i+1]
		}
	}
	return nil
}

// millis is the millisecond in which t lies; millisAfter the first one that is not before t.
func millis(t time.Time) int64 { return max(t.UnixMilli(), 0) }

func millisAfter(t time.Time) int64 { return millis(t.Add(time.Millisecond - 1)) }
