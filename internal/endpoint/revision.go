// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package endpoint

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"hash"
)

// Revision is a hash over everything in p that a dispatcher acts on, the keys included. Generation is not among it: a
// new display name changes nothing for a dispatcher, and Incarnation follows the generation where it matters.
//
// It is compared between processes of different versions, so a new field is added at the end. Each field is written
// with its length or its number of elements, so that no two endpoints share the bytes that are hashed.
func Revision(p *Endpoint) string {
	w := revisionWriter{h: sha256.New()}
	w.texts(p.Namespace, p.Name, p.UID, p.Incarnation, p.URL)
	w.number(len(p.Events))
	for _, t := range p.Events {
		w.texts(string(t))
	}
	w.list(p.Agents)
	w.texts(string(p.Hold))
	w.number(int(p.Timeout))
	w.list(p.SuccessCodes)
	w.number(p.Retry.MaxRetries)
	w.number(int(p.Retry.InitialBackoff))
	w.number(int(p.Retry.MaxBackoff))
	w.number(int(p.Retry.Deadline))
	w.number(len(p.SigningKeys))
	for _, key := range p.SigningKeys {
		w.bytes(key)
	}
	w.number(len(p.Headers))
	for _, header := range p.Headers {
		w.texts(header.Name, header.Value)
	}
	w.bytes(p.TLS.CABundle)
	w.bytes(p.TLS.ClientCert)
	w.bytes(p.TLS.ClientKey)
	w.texts(p.TLS.ServerName)
	w.number(p.MaxInFlight)
	return hex.EncodeToString(w.h.Sum(nil)[:16])
}

type revisionWriter struct{ h hash.Hash }

// A hash's Write returns no error.

func (w revisionWriter) number(n int) {
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], uint64(n))
	_, _ = w.h.Write(b[:])
}

func (w revisionWriter) bytes(b []byte) {
	w.number(len(b))
	_, _ = w.h.Write(b)
}

func (w revisionWriter) texts(all ...string) {
	for _, s := range all {
		w.bytes([]byte(s))
	}
}

func (w revisionWriter) list(all []string) {
	w.number(len(all))
	w.texts(all...)
}
