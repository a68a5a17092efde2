// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package prober

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strings"
	"sync/atomic"

	"golang.org/x/net/dns/dnsmessage"
)

// zone is what the prober's receivers are named under.
const zone = "prober.test"

// Lookups are what the name server does with questions.
type Lookups int32

// The states of the name server.
const (
	LookupsUp Lookups = iota
	LookupsSilent
	LookupsFailing
)

// NameServer is a DNS server that knows every name of its zone as 127.0.0.1.
type NameServer struct {
	conn  net.PacketConn
	state atomic.Int32
	done  chan struct{}
}

// StartNameServer listens on port 53, the only one that a resolv.conf can mean, of some address of loopback that is free.
func StartNameServer() (*NameServer, error) {
	var failed error
	for range 50 {
		address := fmt.Sprintf("127.%d.%d.%d:53", 1+rand.IntN(250), rand.IntN(250), 1+rand.IntN(250))
		conn, err := net.ListenPacket("udp", address)
		if err != nil {
			failed = err
			continue
		}
		s := &NameServer{conn: conn, done: make(chan struct{})}
		go s.serve()
		return s, nil
	}
	return nil, fmt.Errorf("name server: %w", failed)
}

// Address is that of the server, without the port.
func (s *NameServer) Address() string { return s.conn.LocalAddr().(*net.UDPAddr).IP.String() }

// Set says what happens to questions from now on.
func (s *NameServer) Set(l Lookups) { s.state.Store(int32(l)) }

// Close ends it.
func (s *NameServer) Close() {
	_ = s.conn.Close()
	<-s.done
}

func (s *NameServer) serve() {
	defer close(s.done)
	buffer := make([]byte, 4096)
	for {
		n, from, err := s.conn.ReadFrom(buffer)
		if err != nil {
			return // closed
		}
		l := Lookups(s.state.Load())
		if l == LookupsSilent {
			continue
		}
		if reply, err := answerTo(buffer[:n], l); err == nil {
			_, _ = s.conn.WriteTo(reply, from) // a resolver that has left asks again
		}
	}
}

// answerTo answers one question.
func answerTo(query []byte, l Lookups) ([]byte, error) {
	var m dnsmessage.Message
	if err := m.Unpack(query); err != nil {
		return nil, err
	}
	if len(m.Questions) != 1 {
		return nil, errors.New("not one question")
	}
	q := m.Questions[0]
	reply := dnsmessage.Message{Questions: m.Questions,
		Header: dnsmessage.Header{ID: m.ID, Response: true, Authoritative: true, RecursionDesired: m.RecursionDesired}}
	switch name := strings.ToLower(strings.TrimSuffix(q.Name.String(), ".")); {
	case l == LookupsFailing:
		reply.RCode = dnsmessage.RCodeServerFailure
	case !strings.HasSuffix(name, "."+zone):
		reply.RCode = dnsmessage.RCodeNameError
	case q.Type == dnsmessage.TypeA:
		reply.Answers = []dnsmessage.Resource{{
			Header: dnsmessage.ResourceHeader{Name: q.Name, Type: q.Type, Class: q.Class, TTL: 1},
			Body:   &dnsmessage.AResource{A: [4]byte{127, 0, 0, 1}},
		}}
	}
	return reply.Pack()
}
