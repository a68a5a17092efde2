// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package pebble

import (
	"encoding/binary"

	"github.com/garyclub/webhook-operator/internal/delivery"
	"github.com/garyclub/webhook-operator/internal/endpoint"
)

// laneInfo is what is kept of a lane besides its deliveries.
type laneInfo struct {
	ref     endpoint.Ref
	uid     string // of the endpoint that the waiting deliveries are counted for
	waiting int64
	bytes   int64
	gone    string
}

func appendLane(dst []byte, l *laneInfo) []byte {
	dst = append(dst, codecVersion)
	dst = appendText(dst, l.ref.Namespace)
	dst = appendText(dst, l.ref.Name)
	dst = appendText(dst, l.uid)
	dst = appendInt(dst, l.waiting)
	dst = appendInt(dst, l.bytes)
	return appendText(dst, l.gone)
}

func parseLane(value []byte) (laneInfo, error) {
	r := openValue(string(value))
	l := laneInfo{ref: endpoint.Ref{Namespace: r.text(), Name: r.text()}, uid: r.text()}
	l.waiting, l.bytes, l.gone = r.int64(), r.int64(), r.text()
	return l, r.err()
}

func appendCounters(dst []byte, c *delivery.Counters) []byte {
	dst = append(dst, codecVersion)
	dst = appendText(dst, c.Ref.Namespace)
	dst = appendText(dst, c.Ref.Name)
	dst = appendInt(dst, c.Succeeded)
	dst = appendInt(dst, c.Failed)
	dst = appendInt(dst, c.Unrecorded)
	dst = appendTime(dst, c.LastSuccess)
	return appendTime(dst, c.LastFailure)
}

func parseCounters(uid string, value []byte) (delivery.Counters, error) {
	r := openValue(string(value))
	c := delivery.Counters{UID: uid, Ref: endpoint.Ref{Namespace: r.text(), Name: r.text()}}
	c.Succeeded, c.Failed, c.Unrecorded = r.int64(), r.int64(), r.int64()
	c.LastSuccess, c.LastFailure = r.time(), r.time()
	return c, r.err()
}

// keyInfo is what an idempotency key stands for.
type keyInfo struct {
	at         int64
	body       [32]byte
	eventID    string
	deliveries int
}

func appendKey(dst []byte, k *keyInfo) []byte {
	dst = append(dst, codecVersion)
	dst = appendInt(dst, k.at)
	dst = append(dst, k.body[:]...)
	dst = appendText(dst, k.eventID)
	return appendInt(dst, k.deliveries)
}

func parseKey(value []byte) (keyInfo, error) {
	r := openValue(string(value))
	k := keyInfo{at: r.int64(), body: r.sum(), eventID: r.text(), deliveries: r.int()}
	return k, r.err()
}

// orderInfo is how far an order was carried out.
type orderInfo struct {
	// began is when its first part was carried out, updated when the last one was.
	began, updated int64
	matched, moved int
	done, full     bool // full: there was no room for more
}

const (
	flagOrderDone = 1
	flagOrderFull = 2
)

func appendOrder(dst []byte, o *orderInfo) []byte {
	var flags byte
	if o.done {
		flags |= flagOrderDone
	}
	if o.full {
		flags |= flagOrderFull
	}
	dst = append(dst, codecVersion, flags)
	dst = appendInt(dst, o.began)
	dst = appendInt(dst, o.updated)
	dst = appendInt(dst, o.matched)
	return appendInt(dst, o.moved)
}

func parseOrder(value []byte) (orderInfo, error) {
	r := openValue(string(value))
	flags := r.byte()
	o := orderInfo{done: flags&flagOrderDone != 0, full: flags&flagOrderFull != 0, began: r.int64(), updated: r.int64()}
	o.matched, o.moved = r.int(), r.int()
	return o, r.err()
}

// totals are the figures of the whole queue.
type totals struct {
	nextSeq, nextOut         uint64
	live, dead               int64 // bytes
	letters, unmatched, keys int64
}

func appendTotals(dst []byte, t *totals) []byte {
	dst = append(dst, codecVersion)
	dst = binary.AppendUvarint(dst, t.nextSeq)
	dst = binary.AppendUvarint(dst, t.nextOut)
	for _, n := range []int64{t.live, t.dead, t.letters, t.unmatched, t.keys} {
		dst = appendInt(dst, n)
	}
	return dst
}

func parseTotals(value []byte) (totals, error) {
	r := openValue(string(value))
	t := totals{nextSeq: r.uvarint(), nextOut: r.uvarint()}
	for _, n := range []*int64{&t.live, &t.dead, &t.letters, &t.unmatched, &t.keys} {
		*n = r.int64()
	}
	return t, r.err()
}

func parseReferences(value []byte) (int, error) {
	r := &reader{rest: string(value)}
	n := r.uvarint()
	if n > 1<<31 {
		return 0, errCorrupt
	}
	return int(n), r.err()
}
