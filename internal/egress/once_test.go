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

// TestStreamsThatAreReset resets each stream once its header has come. Only REFUSED_STREAM says that the request was not
// processed, and it is believed once.
func TestStreamsThatAreReset(t *testing.T) {
	for code, want := range map[http2.ErrCode]int64{
		http2.ErrCodeRefusedStream: 2, http2.ErrCodeProtocol: 1, http2.ErrCodeInternal: 1, http2.ErrCodeCancel: 1,
	} {
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
			if n := seen.Load(); n != want {
				t.Errorf("one post was seen %d times, want %d", n, want)
			}
		})
	}
}

// TestGoAwayWithinAnAttempt answers the first post of a connection if it is to be kept, and says goodbye on the next one.
func TestGoAwayWithinAnAttempt(t *testing.T) {
	const forever = 1 << 30
	for name, tc := range map[string]struct {
		goodbyes  int64 // connections that end so
		keep      bool
		includes  bool // the goodbye's last stream is the post's, which may have been processed
		code      http2.ErrCode
		want      *Error
		seen      int64
		processed int64
	}{
		"a new connection":                   {goodbyes: 1, seen: 2, processed: 1},
		"a kept connection":                  {goodbyes: 1, keep: true, seen: 2, processed: 1},
		"each connection":                    {goodbyes: forever, want: ErrReset, seen: 2},
		"each connection, kept":              {goodbyes: forever, keep: true, want: ErrReset, seen: 2},
		"a request that was let in":          {goodbyes: forever, includes: true, want: ErrReset, seen: 1},
		"a kept one's that was let in":       {goodbyes: forever, keep: true, includes: true, want: ErrReset, seen: 1},
		"an error on the connection's first": {goodbyes: forever, code: http2.ErrCodeEnhanceYourCalm, want: ErrReset, seen: 1},
	} {
		t.Run(name, func(t *testing.T) {
			var connections, seen, processed atomic.Int64
			var warm atomic.Bool
			p := hostile(t, func(conn net.Conn) {
				goodbye := connections.Add(1) <= tc.goodbyes
				framer := startHTTP2(conn)
				for {
					frame, err := framer.ReadFrame()
					if err != nil {
						return
					}
					f, ok := frame.(*http2.DataFrame)
					if !ok || !f.StreamEnded() {
						continue
					}
					switch warming := tc.keep && warm.CompareAndSwap(false, true); {
					case warming:
						_ = framer.WriteHeaders(answered(f.StreamID))
					case !goodbye:
						seen.Add(1)
						processed.Add(1)
						_ = framer.WriteHeaders(answered(f.StreamID))
					case tc.includes:
						seen.Add(1)
						_ = framer.WriteGoAway(f.StreamID, tc.code, nil)
						return
					default:
						seen.Add(1)
						_ = framer.WriteGoAway(f.StreamID-1, tc.code, nil)
					}
				}
			})
			c := client(t)
			if tc.keep {
				if _, failure := post(t, c, p, 5*time.Second); failure != nil {
					t.Fatal(failure)
				}
			}
			reply, failure := post(t, c, p, 5*time.Second)
			if failure != tc.want || failure == nil && reply.StatusCode != http.StatusOK {
				t.Errorf("a post is answered with %d and fails with %v, want %v", reply.StatusCode, failure, tc.want)
			}
			if seen.Load() != tc.seen || processed.Load() != tc.processed {
				t.Errorf("one post was seen %d times and processed %d times, want %d and %d", seen.Load(), processed.Load(), tc.seen, tc.processed)
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
				_ = framer.WriteHeaders(answered(f.StreamID))
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

// answered is the whole of a stream's answer.
func answered(stream uint32) http2.HeadersFrameParam {
	var b bytes.Buffer
	_ = hpack.NewEncoder(&b).WriteField(hpack.HeaderField{Name: ":status", Value: "200"})
	return http2.HeadersFrameParam{StreamID: stream, EndHeaders: true, EndStream: true, BlockFragment: b.Bytes()}
}
