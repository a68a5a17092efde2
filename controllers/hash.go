// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"hash"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/garyclub/webhook-operator/internal/endpoint"
)

// digest hashes parts, each with its length before it, so that no two lists of parts share the bytes that are hashed.
type digest struct{ h hash.Hash }

func (d digest) add(parts ...string) {
	var length [8]byte
	for _, s := range parts {
		binary.BigEndian.PutUint64(length[:], uint64(len(s)))
		d.h.Write(length[:])
		d.h.Write([]byte(s))
	}
}

func (d digest) addTLS(t endpoint.TLS) {
	d.add(string(t.CABundle), string(t.ClientCert), string(t.ClientKey), t.ServerName)
}

func (d digest) text(bytes int) string { return hex.EncodeToString(d.h.Sum(nil)[:bytes]) }

func shortHash(parts ...string) string {
	d := digest{sha256.New()}
	d.add(parts...)
	return d.text(8)
}

// incarnationOf changes with what ends the hold of a 410: the generation, the resolved URL, a requested test that
// succeeded (whose salt the status keeps).
func incarnationOf(p *endpoint.Endpoint, salt string) string {
	return shortHash("incarnation", p.UID, strconv.FormatInt(p.Generation, 10), p.URL, salt)
}

// inspectedOf stands for what an inspection depends on.
func inspectedOf(p *endpoint.Endpoint) string {
	d := digest{sha256.New()}
	d.add(p.URL)
	d.addTLS(p.TLS)
	return d.text(16)
}

// placeOf stands for where deliveries go and the credentials that they carry, whatever the generation and the signing
// key, whose rotation is no reason for a test event. Whoever may read the status can read it, so it is made with a key
// of the manager's: nobody can try out header values against it. With another key every place is another one, and each
// endpoint is tested once more: see Options.HashKey.
func placeOf(key []byte, p *endpoint.Endpoint) string {
	d := digest{hmac.New(sha256.New, key)}
	d.add("place", p.UID, p.URL)
	d.addTLS(p.TLS)
	for _, header := range p.Headers {
		d.add(header.Name, header.Value)
	}
	return d.text(16)
}

// testMark is what status.test.hash remembers, opaque to users, as place.salt.since.flags: 32, 16, 7 and 2 bytes at the
// most, of the 64 that the API takes.
type testMark struct {
	// place is where the latest test event went.
	place string
	// salt was left by the last requested test that was delivered; incarnationOf takes it in.
	salt string
	// since is the Unix second at which the first test at this place ended. A delivery that succeeds later went there too.
	since int64
	// delivered says that a test event was delivered to this place, even when a later one was not.
	delivered bool
	// due says that the place is to be tested again, until that is done.
	due bool
}

const (
	flagDelivered = "t"
	flagDue       = "d"
)

func readTestMark(text string) testMark {
	parts := strings.SplitN(text, ".", 4)
	parts = append(parts, make([]string, 4-len(parts))...)
	since, err := strconv.ParseInt(parts[2], 36, 64)
	if err != nil {
		since = math.MaxInt64 // not ours, so that no delivery counts
	}
	return testMark{place: parts[0], salt: parts[1], since: since,
		delivered: strings.Contains(parts[3], flagDelivered), due: strings.Contains(parts[3], flagDue)}
}

func (m testMark) text() string {
	var flags string
	if m.delivered {
		flags += flagDelivered
	}
	if m.due {
		flags += flagDue
	}
	return strings.Join([]string{m.place, m.salt, strconv.FormatInt(m.since, 36), flags}, ".")
}

// tested is the mark after a test at a place came to its end.
func (m testMark) tested(place string, delivered bool, at time.Time) testMark {
	if m.place != place {
		m.place, m.since, m.delivered = place, at.Unix(), false
	}
	m.delivered = m.delivered || delivered
	m.due = false
	return m
}
