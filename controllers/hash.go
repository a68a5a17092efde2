// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"hash"
	"strconv"
	"strings"

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

// placeOf stands for where deliveries go and the credentials that they carry, whatever the generation. Whoever may read
// the status can read it, so it is made with the signing key: nobody can try out header values against it.
func placeOf(p *endpoint.Endpoint) string {
	if len(p.SigningKeys) == 0 {
		return ""
	}
	d := digest{hmac.New(sha256.New, p.SigningKeys[0])}
	d.add("place", p.UID, p.URL)
	d.addTLS(p.TLS)
	for _, header := range p.Headers {
		d.add(header.Name, header.Value)
	}
	return d.text(16)
}

// status.test.hash is the place of the latest test and, after a dot, the salt that the last successful requested test
// left. Both are opaque to users.

func splitTestHash(text string) (place, salt string) {
	place, salt, _ = strings.Cut(text, ".")
	return place, salt
}

func joinTestHash(place, salt string) string {
	if salt == "" {
		return place
	}
	return place + "." + salt
}
