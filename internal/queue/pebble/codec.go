// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package pebble

import (
	"encoding/binary"
	"errors"
	"time"
)

// codecVersion begins each value.
const codecVersion = 1

var errCorrupt = errors.New("value is corrupt")

func appendText[T ~string](dst []byte, s T) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(s))), s...)
}

func appendTime(dst []byte, t time.Time) []byte {
	return binary.AppendUvarint(binary.AppendVarint(dst, t.Unix()), uint64(t.Nanosecond()))
}

func appendInt[T ~int | ~int64](dst []byte, n T) []byte { return binary.AppendVarint(dst, int64(n)) }

// reader takes a value apart. It works on a string, so that the texts of a value share one allocation. After the first
// thing that does not fit, all that follows reads as zero and ok is false.
type reader struct {
	rest   string
	broken bool
}

// open checks the version.
func openValue(value string) *reader {
	r := &reader{rest: value}
	if r.byte() != codecVersion {
		r.broken = true
	}
	return r
}

// err is called at the end: nothing may be left over.
func (r *reader) err() error {
	if r.broken || r.rest != "" {
		return errCorrupt
	}
	return nil
}

func (r *reader) take(n int) string {
	if r.broken || n < 0 || n > len(r.rest) {
		r.broken, r.rest = true, ""
		return ""
	}
	s := r.rest[:n]
	r.rest = r.rest[n:]
	return s
}

func (r *reader) byte() byte {
	if s := r.take(1); s != "" {
		return s[0]
	}
	return 0
}

func (r *reader) uvarint() uint64 {
	var n uint64
	for shift := uint(0); shift < 64; shift += 7 {
		b := r.byte()
		if shift == 63 && b > 1 {
			break
		}
		n |= uint64(b&0x7f) << shift
		if b < 0x80 {
			return n
		}
	}
	r.broken, r.rest = true, ""
	return 0
}

func (r *reader) int64() int64 {
	n := r.uvarint()
	v := int64(n >> 1)
	if n&1 != 0 {
		v = ^v
	}
	return v
}

func (r *reader) int() int { return int(r.int64()) }

func (r *reader) duration() time.Duration { return time.Duration(r.int64()) }

func (r *reader) text() string {
	n := r.uvarint()
	if n > uint64(len(r.rest)) {
		r.broken = true
		return ""
	}
	return r.take(int(n))
}

func (r *reader) time() time.Time {
	sec, nsec := r.int64(), r.uvarint()
	if nsec >= uint64(time.Second) {
		r.broken = true
	}
	if r.broken {
		return time.Time{}
	}
	return time.Unix(sec, int64(nsec)).UTC()
}

func (r *reader) sum() (sum [32]byte) {
	copy(sum[:], r.take(len(sum)))
	return sum
}
