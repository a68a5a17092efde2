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

// A page is the counters of one queue as they stand in its ConfigMap; or, under the id foldedQueue, those of all queues of
// a namespace that are gone. All numbers as varints, texts with their length before them. Version 1, which is read only:
//
//	+---------+-----------+-------+-------+-------+--------------------+-----------------+
//	| 1 (byte)| namespace | queue | flags | count | count tallies, by  | CRC-32C of all  |
//	|         | (text)    | (text)|       |       | UID, ascending     | before (4 bytes)|
//	+---------+-----------+-------+-------+-------+--------------------+-----------------+
//
//	tally: UID, name (texts); succeeded, failed, unrecorded, pending, lost; last success, last failure (milliseconds
//	since 1970, 0 for none); gone (text)
//
// Version 2:
//
//	+---------+-----------+--------+-------+--------+---------+--------+-------+---------+-------+---------+--------+
//	| 2 (byte)| namespace | queue  | flags | pod    | pod UID | heard  | count | tallies | count | folded  | CRC-32C|
//	|         | (text)    | (text) |       | (text) | (text)  | (ms)   |       |         |       | (texts) |        |
//	+---------+-----------+--------+-------+--------+---------+--------+-------+---------+-------+---------+--------+
//
//	tally: UID, name, namespace (texts), and the rest as in version 1. The namespace is empty when it is the queue's
//	folded: the digests (12 bytes) of the queues whose counters are in here, the latest last
//
// flags: 1 for a queue that was declared lost, 2 for one that outlives its pod.
//
// Version 3 is written only for a page into which queues were folded that had answers 410, so that an older manager reads
// all others. It is version 2 and, after folded:
//
//	+-------+------+
//	| count | gone |   gone: UID (text); count (at least 1), incarnations (texts), the one folded last at the end
//	+-------+------+
//
// What follows version 3 gets another number; these are not changed.
type page struct {
	namespace, queueID string
	lost               bool
	holder             holder
	// heard is when the queue last reported, to the millisecond, or was declared lost.
	heard   time.Time
	tallies map[string]tally // by endpoint UID
	folded  []string
	// gone are the incarnations that answered 410 to queues that were folded, by endpoint UID. That of the queue itself is
	// in its tally.
	gone map[string][]string
}

// holder is the pod that holds a queue. It is not known of pages of version 1.
type holder struct {
	pod, podUID string
	persistent  bool // the queue outlives it
}

const (
	pageVersion    = 3
	flagLost       = 1
	flagPersistent = 2

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
	version := byte(pageVersion)
	if len(p.gone) == 0 {
		version = 2
	}
	b = append(b, version)
	b = appendText(appendText(b, p.namespace), p.queueID)
	flags := uint64(0)
	if p.lost {
		flags |= flagLost
	}
	if p.holder.persistent {
		flags |= flagPersistent
	}
	b = binary.AppendUvarint(b, flags)
	b = appendText(appendText(b, p.holder.pod), p.holder.podUID)
	b = binary.AppendUvarint(b, milliseconds(p.heard))
	b = binary.AppendUvarint(b, uint64(len(p.tallies)))
	for _, uid := range slices.Sorted(maps.Keys(p.tallies)) {
		t := p.tallies[uid]
		b = appendText(appendText(appendText(b, uid), t.name), t.namespace)
		for _, n := range []int64{t.succeeded, t.failed, t.unrecorded, t.pending, t.lost} {
			b = binary.AppendUvarint(b, uint64(max(0, n)))
		}
		b = binary.AppendUvarint(b, milliseconds(t.lastSuccess))
		b = binary.AppendUvarint(b, milliseconds(t.lastFailure))
		b = appendText(b, t.gone)
	}
	b = binary.AppendUvarint(b, uint64(len(p.folded)))
	for _, digest := range p.folded {
		b = appendText(b, digest)
	}
	if version > 2 {
		b = p.appendGone(b)
	}
	return appendChecksum(b)
}

func (p *page) appendGone(b []byte) []byte {
	b = binary.AppendUvarint(b, uint64(len(p.gone)))
	for _, uid := range slices.Sorted(maps.Keys(p.gone)) {
		b = binary.AppendUvarint(appendText(b, uid), uint64(len(p.gone[uid])))
		for _, incarnation := range p.gone[uid] {
			b = appendText(b, incarnation)
		}
	}
	return b
}

func appendChecksum(b []byte) []byte {
	return binary.BigEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

// decodePage reads a page; whatever the bytes, it returns or fails.
func decodePage(b []byte) (*page, error) {
	if len(b) > 0 && (b[0] < 1 || b[0] > pageVersion) {
		return nil, errPageNews
	}
	body := len(b) - checksumBytes
	if body < 1 || binary.BigEndian.Uint32(b[body:]) != crc32.Checksum(b[:body], castagnoli) {
		return nil, errPage
	}
	r := pageReader{version: b[0], rest: b[1:body]}
	p := r.head()
	count := r.number()
	if count > int64(len(r.rest)/leastTally) {
		return nil, errPage
	}
	p.tallies = make(map[string]tally, count)
	for range count {
		uid := r.text()
		p.tallies[uid] = r.tally()
	}
	if r.version > 1 {
		p.folded = r.texts()
	}
	if r.version > 2 {
		p.gone = r.gone()
	}
	if r.bad || len(r.rest) > 0 || len(p.tallies) != int(count) {
		return nil, errPage
	}
	return p, nil
}

type pageReader struct {
	version byte
	rest    []byte
	bad     bool
}

func (r *pageReader) head() *page {
	p := &page{namespace: r.text(), queueID: r.text()}
	flags := r.number()
	p.lost = flags&flagLost != 0
	if r.version > 1 {
		p.holder = holder{persistent: flags&flagPersistent != 0, pod: r.text(), podUID: r.text()}
		p.heard = instant(r.number())
	}
	return p
}

// gone reads what is there only when it is not empty.
func (r *pageReader) gone() map[string][]string {
	count := r.number()
	if count < 1 || count > int64(len(r.rest)) {
		r.bad = true
		return nil
	}
	all := make(map[string][]string, count)
	for range count {
		uid := r.text()
		if all[uid] = r.texts(); len(all[uid]) == 0 {
			r.bad = true
		}
	}
	r.bad = r.bad || len(all) != int(count)
	return all
}

func (r *pageReader) texts() (all []string) {
	count := r.number()
	if count > int64(len(r.rest)) {
		r.bad = true
		return nil
	}
	for range count {
		all = append(all, r.text())
	}
	return all
}

func (r *pageReader) tally() (t tally) {
	t.name = r.text()
	if r.version > 1 {
		t.namespace = r.text()
	}
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
