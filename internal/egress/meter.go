// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package egress

import (
	"crypto/tls"
	"net"
	"net/http/httptrace"
	"sync/atomic"
)

// What a receiver may send over one connection, the bytes of TLS included: so much for the handshake and for each
// request, of which it may save up some. It bounds what no limit of HTTP is about: frames of HTTP/2 without end that
// belong to no answer, such as pings, each of which costs us an answer, in an attempt and long after it.
const (
	connectionBytes = 1 << 20
	savedBytes      = 64 << 20
)

// meter ends a connection whose receiver sends more than it may.
type meter struct {
	net.Conn
	read, limit atomic.Int64
}

func newMeter(conn net.Conn) *meter {
	m := &meter{Conn: conn}
	m.allow()
	return m
}

// allow is called for each request. Of two at once one may be lost: there is room for it.
func (m *meter) allow() {
	read := m.read.Load()
	m.limit.Store(min(max(m.limit.Load(), read)+connectionBytes, read+savedBytes))
}

// Read fails for good once the limit is passed.
func (m *meter) Read(b []byte) (int, error) {
	if m.read.Load() > m.limit.Load() {
		return 0, ErrFlood
	}
	n, err := m.Conn.Read(b)
	m.read.Add(int64(n))
	return n, err
}

// metered allows for the request that has got a connection.
func metered(got httptrace.GotConnInfo) {
	secure, ok := got.Conn.(*tls.Conn)
	if !ok {
		return
	}
	if m, ok := secure.NetConn().(*meter); ok {
		m.allow()
	}
}
