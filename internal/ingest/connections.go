// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package ingest

import (
	"container/list"
	"context"
	"net"
	"net/http"
	"sync"
)

// connections bounds those that are open. When there are as many as may be, the one that has kept us waiting for the
// longest is closed for a new one: a flood of connections that say nothing, or say it slowly, costs a good producer no
// more than a connection that it has left idle. Those whose request has come whole are never closed; when all are such,
// a new one waits in the listener's backlog.
type connections struct {
	net.Listener
	most int

	mu      sync.Mutex
	freed   *sync.Cond // when there is room, or one that waits
	open    int
	waiting *list.List // of *connection, the one that waits for the longest first
	closed  bool
}

func newConnections(l net.Listener, most int) *connections {
	c := &connections{Listener: l, most: most, waiting: list.New()}
	c.freed = sync.NewCond(&c.mu)
	return c
}

// Accept returns the next connection once there is room for it.
func (c *connections) Accept() (net.Conn, error) {
	accepted, err := c.Listener.Accept()
	if err != nil {
		return nil, err
	}
	conn := &connection{Conn: accepted, all: c}
	victim, ok := c.admit(conn)
	if victim != nil {
		_ = victim.Close()
	}
	if !ok {
		_ = accepted.Close()
		return nil, net.ErrClosed
	}
	return conn, nil
}

// admit adds a connection, and names the one that has to go for it.
func (c *connections) admit(conn *connection) (victim *connection, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.open >= c.most && c.waiting.Len() == 0 && !c.closed {
		c.freed.Wait()
	}
	if c.closed {
		return nil, false
	}
	if c.open >= c.most {
		victim, _ = c.waiting.Front().Value.(*connection) // there is nothing else in it
		victim.end()                                      // now: its request may come whole before it is closed
	}
	c.open++
	conn.place = c.waiting.PushBack(conn)
	return victim, true
}

// Close ends the listener, and whoever waits for room.
func (c *connections) Close() error {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	c.freed.Broadcast()
	return c.Listener.Close()
}

// connection is one of them.
type connection struct {
	net.Conn
	all   *connections
	place *list.Element // among those that wait; nil while its request is handled
	gone  bool
}

// Close may be called again.
func (c *connection) Close() error {
	c.all.mu.Lock()
	c.end()
	c.all.mu.Unlock()
	return c.Conn.Close()
}

// end needs the lock. What comes over the connection from now on is not handled.
func (c *connection) end() {
	if c.gone {
		return
	}
	c.gone = true
	c.all.open--
	c.leave()
	c.all.freed.Signal()
}

// leave needs the lock.
func (c *connection) leave() {
	if c.place != nil {
		c.all.waiting.Remove(c.place)
		c.place = nil
	}
}

// handled takes the connection out of those that wait; false when it has ended.
func (c *connection) handled() bool {
	c.all.mu.Lock()
	defer c.all.mu.Unlock()
	c.leave()
	return !c.gone
}

// waits puts it behind those that wait.
func (c *connection) waits() {
	c.all.mu.Lock()
	defer c.all.mu.Unlock()
	if c.gone {
		return
	}
	c.leave()
	c.place = c.all.waiting.PushBack(c)
	c.all.freed.Signal()
}

// connectionOf is nil for one that is none of ours. Over TLS it is within.
func connectionOf(conn net.Conn) *connection {
	if secure, ok := conn.(interface{ NetConn() net.Conn }); ok {
		conn = secure.NetConn()
	}
	c, _ := conn.(*connection)
	return c
}

type connectionKey struct{}

// withConnection keeps the connection in the context of its requests.
func withConnection(ctx context.Context, conn net.Conn) context.Context {
	return context.WithValue(ctx, connectionKey{}, connectionOf(conn))
}

// handled is called when a request has come whole: its connection is not closed before the answer is written. False says
// that it was closed for another one; nobody would hear the answer.
func handled(ctx context.Context) bool {
	c, _ := ctx.Value(connectionKey{}).(*connection)
	return c == nil || c.handled() // a handler may be without a server
}

// answered is called at each change of a connection's state, of which one says that an answer was written.
func answered(conn net.Conn, state http.ConnState) {
	if c := connectionOf(conn); c != nil && state == http.StateIdle {
		c.waits()
	}
}
