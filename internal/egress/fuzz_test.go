// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package egress

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/garyclub/webhook-operator/internal/delivery"
)

// known are the errors that an attempt may end with.
var known = []*Error{ErrAddressRefused, ErrHostNotFound, ErrExpired, ErrUntrusted, ErrWrongName, ErrHandshake, ErrTLSMaterial,
	ErrClientCert, ErrHeader, ErrURL, ErrDNS, ErrRefused, ErrReset, ErrProxy, ErrUnreachable, ErrAnswer, ErrFlood, ErrTimedOut, ErrCanceled}

// FuzzURL: a URL that is taken leads over https to a host in ASCII, shows none of its secrets, and is read again as it was.
func FuzzURL(f *testing.F) {
	for _, s := range []string{"https://hooks.example/catch/1?key=2", "https://u:p@hooks.example/", "http://a/", "https://[::1]:443/",
		"https://hooks.example:99999/", "https://a/%zz", "https:opaque", "https://１２７.0.0.1/", "https://a#f", "HTTPS://A/", "https://a%2eb/"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		target, err := parse(text)
		if err != nil {
			if !errors.Is(err, ErrURL) || Host(text) != "" {
				t.Errorf("%q: error %v, host %q", text, err, Host(text))
			}
			return
		}
		if target.Scheme != "https" || target.User != nil || target.Hostname() == "" || target.Fragment != "" {
			t.Errorf("%q was read as %q", text, target)
		}
		if host := Host(text); strings.ContainsAny(host, "/?#@\\") || strings.ContainsFunc(host, func(r rune) bool { return r > '~' }) {
			t.Errorf("the host of %q is shown as %q", text, host)
		}
		if again, err := parse(target.String()); err != nil || again.Host != target.Host {
			t.Errorf("%q became %q, which is read as %v, %v", text, target, again, err)
		}
	})
}

// FuzzPrefixes: a list of ranges is refused as a whole, or each of them allows what it names and is told as it was given.
func FuzzPrefixes(f *testing.F) {
	for _, s := range []string{"10.0.0.0/8", "10.0.0.0/8, fd00::/8", "", ",", "10.0.0.1", "::ffff:10.0.0.0/104", "fe80::1%eth0/64", "0.0.0.0/0"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, value string) {
		var p Prefixes
		if p.Set(value) != nil {
			return
		}
		if len(p) != strings.Count(value, ",")+1 {
			t.Errorf("%q has the ranges %v", value, p)
		}
		o := Options{Allow: p}
		if o.Validate() != nil {
			return
		}
		g := newGuard(p)
		for _, one := range p {
			if one.Addr().Is4() && !azureWireServer.Contains(one.Addr()) && !g.allows(one.Addr()) {
				t.Errorf("%s is allowed by name and refused", one)
			}
		}
		var again Prefixes
		if err := again.Set(strings.Join(strings.Fields(strings.Trim(p.String(), "[]")), ",")); err != nil || !slices.Equal(p, again) {
			t.Errorf("%v is told as %s and read as %v, %v", []netip.Prefix(p), p.String(), []netip.Prefix(again), err)
		}
	})
}

// FuzzClassify: whatever the network says, an attempt ends with one of the known errors, and nothing of what was said.
func FuzzClassify(f *testing.F) {
	for _, s := range []string{"remote error: tls: certificate required", "tls: ", "net/http: invalid header field", "", "EOF", "hunter2"} {
		f.Add(s, true)
		f.Add(s, false)
	}
	f.Fuzz(func(t *testing.T, text string, wrapped bool) {
		err := errors.New(text)
		if wrapped {
			err = &net.OpError{Op: "read", Net: "tcp", Err: fmt.Errorf("%s: %w", text, err)}
		}
		if got := classify(context.Background(), err); !slices.Contains(known, got) {
			t.Errorf("%q is classified as %v", text, got)
		}
	})
}

// FuzzAnswer has a receiver answer with these bytes, over HTTP/1: the attempt ends, by an answer or by a known error, and
// reads no more than it should.
func FuzzAnswer(f *testing.F) {
	for _, s := range []string{
		"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
		"HTTP/1.1 429 Slow\r\nRetry-After: 7\r\nContent-Length: 2\r\n\r\nhi",
		"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n",
		"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\nbytes",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;a=b\r\nhello\r\n0\r\nX: y\r\n\r\n",
		"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"HTTP/1.0 200\r\n\r\nuntil the end", "HTTP/1.1 999 What\r\n\r\n", "SSH-2.0\r\n", "",
	} {
		f.Add([]byte(s))
	}
	log.SetOutput(io.Discard) // net/http tells of what comes too much
	f.Fuzz(func(t *testing.T, answer []byte) {
		far := &canned{answer: bytes.NewReader(answer), asked: make(chan struct{})}
		c := New(Options{})
		transport, err := c.transport(to("https://receiver.example/"))
		if err != nil {
			t.Fatal(err)
		}
		// It is no *tls.Conn, so that the transport takes it for a connection that speaks HTTP/1.
		transport.DialTLSContext = func(context.Context, string, string) (net.Conn, error) { return far, nil }
		p := to("https://receiver.example/hook")
		c.transports[identity(p.TLS)] = transport
		reply, failure := post(t, c, p, 5*time.Second)
		c.Close()
		switch {
		case failure != nil && (!slices.Contains(known, failure) || failure.Outcome == delivery.OutcomeDelivered):
			t.Errorf("%q: the attempt ended with %v", answer, failure)
		case failure != nil && failure == ErrTimedOut:
			t.Errorf("%q: the attempt hung although the receiver had left", answer)
		case failure == nil && (reply.StatusCode < 200 || reply.StatusCode > 999):
			t.Errorf("%q: the answer is %+v", answer, reply)
		}
	})
}

// canned is a connection to a receiver that answers with these bytes and leaves.
type canned struct {
	answer *bytes.Reader
	asked  chan struct{} // closed once the request has come
	once   bool
}

func (c *canned) Read(b []byte) (int, error) {
	<-c.asked
	return c.answer.Read(b)
}

func (c *canned) Write(b []byte) (int, error) {
	if !c.once {
		c.once = true
		close(c.asked)
	}
	return len(b), nil
}

func (c *canned) Close() error                     { return nil }
func (c *canned) LocalAddr() net.Addr              { return &net.TCPAddr{} }
func (c *canned) RemoteAddr() net.Addr             { return &net.TCPAddr{} }
func (c *canned) SetDeadline(time.Time) error      { return nil }
func (c *canned) SetReadDeadline(time.Time) error  { return nil }
func (c *canned) SetWriteDeadline(time.Time) error { return nil }

// FuzzTLSMaterial: material that is refused is refused by one text, and material that is taken makes a connection's
// settings that verify.
func FuzzTLSMaterial(f *testing.F) {
	f.Add(ca.PEM(), []byte{}, []byte{})
	f.Add([]byte("hunter2"), []byte("hunter2"), []byte("hunter2"))
	f.Add([]byte("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"), []byte{}, []byte{})
	f.Fuzz(func(t *testing.T, bundle, cert, key []byte) {
		p := to("https://a.example/")
		p.TLS.CABundle, p.TLS.ClientCert, p.TLS.ClientKey = bundle, cert, key
		err := CheckTLS(p.TLS)
		if err != nil {
			if !errors.Is(err, ErrTLSMaterial) {
				t.Errorf("the error is %v", err)
			}
			return
		}
		config, err := tlsConfig(p.TLS)
		if err != nil || config.InsecureSkipVerify || (config.RootCAs != nil) != (len(bundle) > 0) {
			t.Errorf("settings %+v, %v", config, err)
		}
	})
}

// FuzzHeaders: headers that HTTP forbids fail an attempt, and no header makes net/http send a request twice.
func FuzzHeaders(f *testing.F) {
	f.Add("Idempotency-Key", "k")
	f.Add("x-idempotency-key", "k")
	f.Add("X A", "a\nb")
	f.Fuzz(func(t *testing.T, name, value string) {
		h := http.Header{}
		h.Set(name, value)
		notReplayable(h)
		if h["Idempotency-Key"] != nil || h["X-Idempotency-Key"] != nil {
			t.Errorf("%v would have a request sent twice", h)
		}
		if len(h) != 1 {
			t.Errorf("of one header %v is left", h)
		}
	})
}
