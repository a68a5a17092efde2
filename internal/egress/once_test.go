// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package egress

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/garyclub/webhook-operator/internal/endpoint"
)

func serverTLS(protocol string) *tls.Config {
	return &tls.Config{Certificates: []tls.Certificate{ca.Leaf([]string{"127.0.0.1"})}, MinVersion: tls.VersionTLS12,
		NextProtos: []string{protocol}}
}

// TestRequestsAreNotRepeatedOverHTTP1 answers the first request of each connection and hangs up on the second, which the
// receiver has read by then.
func TestRequestsAreNotRepeatedOverHTTP1(t *testing.T) {
	for _, name := range []string{"X-Client", "Idempotency-Key", "X-Idempotency-Key"} {
		t.Run(name, func(t *testing.T) {
			var seen, keyed atomic.Int64
			p := hostile(t, func(conn net.Conn) {
				secure := tls.Server(conn, serverTLS("http/1.1"))
				reader := bufio.NewReader(secure)
				for n := range 2 {
					request, err := http.ReadRequest(reader)
					if err != nil {
						return
					}
					_, _ = io.Copy(io.Discard, request.Body)
					seen.Add(1)
					if request.Header.Get(name) == "k" {
						keyed.Add(1)
					}
					if n == 0 {
						_, _ = io.WriteString(secure, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
					}
				}
			})
			c := client(t)
			if failure := postKeyed(t, c, p, name); failure != nil {
				t.Fatal(failure)
			}
			if failure := postKeyed(t, c, p, name); !errors.Is(failure, ErrReset) {
				t.Errorf("the second post fails with %v, want %v", failure, ErrReset)
			}
			if seen.Load() != 2 || keyed.Load() != 2 {
				t.Errorf("2 posts were seen %d times, %d of them with the header", seen.Load(), keyed.Load())
			}
		})
	}
}

func postKeyed(t *testing.T, c *Client, p *endpoint.Endpoint, name string) *Error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	_, failure := c.Post(ctx, p, http.Header{name: {"k"}}, []byte(`{"a":1}`))
	return failure
}

// TestRequestsAreNotRepeatedOverHTTP2 resets each stream once its header has come.
func TestRequestsAreNotRepeatedOverHTTP2(t *testing.T) {
	for _, code := range []http2.ErrCode{http2.ErrCodeRefusedStream, http2.ErrCodeProtocol} {
		t.Run(code.String(), func(t *testing.T) {
			var seen atomic.Int64
			p := hostile(t, func(conn net.Conn) {
				framer := startHTTP2(conn)
				for {
					frame, err := framer.ReadFrame()
					if err != nil {
						return
					}
					if header, ok := frame.(*http2.HeadersFrame); ok {
						seen.Add(1)
						_ = framer.WriteRSTStream(header.StreamID, code)
					}
				}
			})
			if _, failure := post(t, client(t), p, time.Second); !errors.Is(failure, ErrReset) {
				t.Errorf("a post that was refused fails with %v, want %v", failure, ErrReset)
			}
			if n := seen.Load(); n != 1 {
				t.Errorf("one post was seen %d times", n)
			}
		})
	}
}

// startHTTP2 does what comes before the first request of a connection.
func startHTTP2(conn net.Conn) *http2.Framer {
	secure := tls.Server(conn, serverTLS("h2"))
	_, _ = io.ReadFull(secure, make([]byte, len(http2.ClientPreface)))
	framer := http2.NewFramer(secure, secure)
	_ = framer.WriteSettings()
	return framer
}

// TestConnectionsThatWereClosedWhileIdleCostNothing: the receiver says goodbye after each answer, as servers do that
// close connections after a number of requests.
func TestConnectionsThatWereClosedWhileIdleCostNothing(t *testing.T) {
	var seen atomic.Int64
	gone := make(chan struct{}, 10)
	p := hostile(t, func(conn net.Conn) {
		framer := startHTTP2(conn)
		for {
			frame, err := framer.ReadFrame()
			if err != nil {
				gone <- struct{}{}
				return
			}
			if f, ok := frame.(*http2.DataFrame); ok && f.StreamEnded() {
				seen.Add(1)
				_ = framer.WriteHeaders(http2.HeadersFrameParam{StreamID: f.StreamID, EndHeaders: true, EndStream: true,
					BlockFragment: ok200()})
				_ = framer.WriteGoAway(f.StreamID, http2.ErrCodeNo, nil)
			}
		}
	})
	c := client(t)
	for range 5 {
		if _, failure := post(t, c, p, 5*time.Second); failure != nil {
			t.Fatal(failure)
		}
		<-gone // the client has seen it and hung up
	}
	if n := seen.Load(); n != 5 {
		t.Errorf("5 posts were seen %d times", n)
	}
}

// ok200 is the header of an answer.
func ok200() []byte {
	var b bytes.Buffer
	_ = hpack.NewEncoder(&b).WriteField(hpack.HeaderField{Name: ":status", Value: "200"})
	return b.Bytes()
}
