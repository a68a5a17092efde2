// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package prober

import (
	"context"
	"io"
	"net"
	"sync"
	"time"
)

// Line is what a proxy does with connections.
type Line int

// The states of a line.
const (
	LineUp       Line = iota
	LineCut           // connections end, and new ones end at once
	LineSlow          // every piece of data waits
	LineReset         // connections end after a few bytes of the answer
	LineHalfOpen      // connections stay, and nothing comes through
)

const (
	slowPause  = 150 * time.Millisecond
	pieceBytes = 16 << 10
	resetAfter = 3 // pieces of the answer
)

// Proxy is the network between the dispatchers and one receiver: a TCP proxy whose line can be disturbed.
type Proxy struct {
	listener net.Listener
	target   string
	running  sync.WaitGroup

	mu      sync.Mutex
	line    Line
	changed chan struct{} // closed and replaced with the line
	closed  bool
	conns   map[net.Conn]struct{}
}

// StartProxy listens on a free port of loopback and leads to target.
func StartProxy(target string) (*Proxy, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p := &Proxy{listener: listener, target: target, changed: make(chan struct{}), conns: map[net.Conn]struct{}{}}
	p.running.Go(p.accept)
	return p, nil
}

// Port is where it listens.
func (p *Proxy) Port() int { return p.listener.Addr().(*net.TCPAddr).Port }

// Set disturbs the line, or mends it. Except for a slow line, and one that is half open, connections do not outlive it.
func (p *Proxy) Set(line Line) {
	p.mu.Lock()
	defer p.mu.Unlock()
	before := p.line
	p.line = line
	close(p.changed)
	p.changed = make(chan struct{})
	if line == LineCut || line == LineReset || before == LineHalfOpen {
		p.cut()
	}
}

// Cut ends all connections, so that new ones have to be made.
func (p *Proxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cut()
}

// cut needs the lock. A connection is reset rather than closed, as one is whose other end has died.
func (p *Proxy) cut() {
	for c := range p.conns {
		reset(c)
	}
}

func reset(c net.Conn) {
	if tcp, ok := c.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0) // what cannot be set is closed all the same
	}
	_ = c.Close()
}

// Close ends it with all connections.
func (p *Proxy) Close() {
	p.mu.Lock()
	p.closed = true
	p.line = LineCut
	close(p.changed)
	p.changed = make(chan struct{})
	_ = p.listener.Close()
	p.cut()
	p.mu.Unlock()
	p.running.Wait()
}

func (p *Proxy) accept() {
	for {
		conn, err := p.listener.Accept()
		if err != nil {
			return // closed
		}
		p.running.Go(func() { p.serve(conn) })
	}
}

func (p *Proxy) serve(sender net.Conn) {
	defer p.keep(sender)()
	line, _ := p.state()
	if line == LineCut {
		reset(sender)
		return
	}
	dialer := net.Dialer{Timeout: 5 * time.Second}
	receiver, err := dialer.DialContext(context.Background(), "tcp", p.target)
	if err != nil {
		reset(sender)
		return
	}
	defer p.keep(receiver)()
	var both sync.WaitGroup
	both.Go(func() { p.copy(receiver, sender, false) })
	both.Go(func() { p.copy(sender, receiver, true) })
	both.Wait()
}

// keep has a connection reset with the others until the returned function closes it.
func (p *Proxy) keep(c net.Conn) func() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.conns[c] = struct{}{}
	if p.closed {
		reset(c)
	}
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.conns, c)
		_ = c.Close()
	}
}

func (p *Proxy) state() (Line, <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.line, p.changed
}

// copy passes data on piece by piece, as the line lets it through. The end of one direction ends both: neither HTTP/1.1
// nor HTTP/2 goes on over a connection that is half closed.
func (p *Proxy) copy(to, from net.Conn, answers bool) {
	defer to.Close()
	defer from.Close()
	piece := make([]byte, pieceBytes)
	for passed := 0; ; passed++ {
		n, err := from.Read(piece)
		if n > 0 && !p.pass(to, piece[:n], answers && passed >= resetAfter) {
			return
		}
		if err != nil {
			return
		}
	}
}

// pass waits as the line demands and writes the piece. It returns false when the connection is to end.
func (p *Proxy) pass(to io.Writer, piece []byte, late bool) bool {
	for {
		line, changed := p.state()
		switch {
		case line == LineCut, line == LineReset && late:
			return false
		case line == LineHalfOpen:
			<-changed // what was held back is lost with the connection: see Set
			continue
		case line == LineSlow:
			pause := time.NewTimer(slowPause)
			select {
			case <-pause.C:
			case <-changed:
				pause.Stop()
				continue
			}
		}
		_, err := to.Write(piece)
		return err == nil
	}
}
