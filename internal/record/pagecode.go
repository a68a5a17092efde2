// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package record

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"maps"
	"slices"
	"time"
)

// A page is the counters of one queue as they stand in its ConfigMap. Version 1, all numbers as varints, texts with their
// length before them:
//
//	+---------+-----------+-------+-------+-------+--------------------+-----------------+
//	| 1 (byte)| namespace | queue | flags | count | count tallies, by  | CRC-32C of all  |
//	|         | (text)    | (text)|       |       | UID, ascending     | before (4 bytes)|
//	+---------+-----------+-------+-------+-------+--------------------+-----------------+
//
//	tally: UID, name (texts); succeeded, failed, unrecorded, pending, lost; last success, last failure (milliseconds
//	since 1970, 0 for none); gone (text)
//
// flags: 1 for a queue that was declared lost. What follows version 1 gets another number; this one is not changed.
type page struct {
	namespace, queueID string
	lost               bool
	tallies            map[string]tally // by endpoint UID
}

const (
	pageVersion = 1
	flagLost    = 1

	maxText       = 512
	maxPageBytes  = 900 << 10
	leastTally    = 10 // bytes
	checksumBytes = 4
)

var (
	errPage     = errors.New("not a page of counters")
	castagnoli  = crc32.MakeTable(crc32.Castagnoli)
	errPageNews = errors.New("page of counters of a later version")
)

func (p *page) encode() []byte {
	b := make([]byte, 0, 64+80*len(p.tallies))
	b = append(b, pageVersion)
	b = appendText(appendText(b, p.namespace), p.queueID)
	flags := uint64(0)
	if p.lost {
		flags |= flagLost
	}
	b = binary.AppendUvarint(b, flags)
	b = binary.AppendUvarint(b, uint64(len(p.tallies)))
	for _, uid := range slices.Sorted(maps.Keys(p.tallies)) {
		t := p.tallies[uid]
		b = appendText(appendText(b, uid), t.name)
		for _, n := range []int64{t.succeeded, t.failed, t.unrecorded, t.pending, t.lost} {
			b = binary.AppendUvarint(b, uint64(max(0, n)))
		}
		b = binary.AppendUvarint(b, milliseconds(t.lastSuccess))
		b = binary.AppendUvarint(b, milliseconds(t.lastFailure))
		b = appendText(b, t.gone)
	}
	return appendChecksum(b)
}

func appendChecksum(b []byte) []byte {
	return binary.BigEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

// decodePage reads a page; whatever the bytes, it returns or fails.
func decodePage(b []byte) (*page, error) {
	if len(b) > 0 && b[0] != pageVersion {
		return nil, errPageNews
	}
	body := len(b) - checksumBytes
	if body < 1 || binary.BigEndian.Uint32(b[body:]) != crc32.Checksum(b[:body], castagnoli) {
		return nil, errPage
	}
	r := pageReader{rest: b[1:body]}
	p := &page{namespace: r.text(), queueID: r.text()}
	p.lost = r.number()&flagLost != 0
	count := r.number()
	if count > int64(len(r.rest)/leastTally) {
		return nil, errPage
	}
	p.tallies = make(map[string]tally, count)
	for range count {
		uid := r.text()
		p.tallies[uid] = r.tally()
	}
	if r.bad || len(r.rest) > 0 || len(p.tallies) != int(count) {
		return nil, errPage
	}
	return p, nil
}

type pageReader struct {
	rest []byte
	bad  bool
}

func (r *pageReader) tally() (t tally) {
	t.name = r.text()
	for _, n := range []*int64{&t.succeeded, &t.failed, &t.unrecorded, &t.pending, &t.lost} {
		*n = r.number()
	}
	t.lastSuccess, t.lastFailure = instant(r.number()), instant(r.number())
	t.gone = r.text()
	return t
}

// number reads one that is not negative; a bad one is 0.
func (r *pageReader) number() int64 {
	n, length := binary.Uvarint(r.rest)
	if length <= 0 || int64(n) < 0 {
		r.bad, r.rest = true, nil
		return 0
	}
	r.rest = r.rest[length:]
	return int64(n)
}

func (r *pageReader) text() string {
	length := r.number()
	if length > int64(len(r.rest)) || length > maxText {
		r.bad, r.rest = true, nil
		return ""
	}
	s := string(r.rest[:length])
	r.rest = r.rest[length:]
	return s
}

func appendText(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

func milliseconds(t time.Time) uint64 {
	if t.IsZero() {
		return 0
	}
	return uint64(max(0, t.UnixMilli()))
}

func instant(ms int64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms).UTC()
}
