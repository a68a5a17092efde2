// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package egress

import (
	"bufio"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/garyclub/webhook-operator/internal/endpoint"
	"github.com/garyclub/webhook-operator/internal/fixture/receiver"
)

// hostile accepts connections and gives each to serve, which returns when the client has left.
func hostile(t *testing.T, serve func(net.Conn)) *endpoint.Endpoint {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer func() { _ = conn.Close() }()
				serve(conn)
			}()
		}
	}()
	return to("https://" + listener.Addr().String() + "/")
}

// answering reads a request over TLS and lets answer write whatever it likes.
func answering(t *testing.T, answer func(io.Writer)) *endpoint.Endpoint {
	t.Helper()
	config := &tls.Config{Certificates: []tls.Certificate{ca.Leaf([]string{"127.0.0.1"})}, MinVersion: tls.VersionTLS12}
	return hostile(t, func(conn net.Conn) {
		secure := tls.Server(conn, config)
		request, err := http.ReadRequest(bufio.NewReader(secure))
		if err != nil {
			return
		}
		_, _ = io.Copy(io.Discard, request.Body)
		answer(secure)
	})
}

// forever writes text until the client has had enough, and closes left.
func forever(text string, written *atomic.Int64, left chan<- struct{}) func(io.Writer) {
	return func(w io.Writer) {
		defer close(left)
		for {
			n, err := io.WriteString(w, text)
			written.Add(int64(n))
			if err != nil {
				return
			}
		}
	}
}

func TestEndlessBodyCostsABoundedAmount(t *testing.T) {
	var written atomic.Int64
	left := make(chan struct{})
	p := answering(t, func(w io.Writer) {
		_, _ = io.WriteString(w, "HTTP/1.1 200 OK\r\nContent-Length: 9000000000000\r\n\r\n")
		forever(strings.Repeat("x", 1<<10), &written, left)(w)
	})
	reply, failure := post(t, client(t), p, 10*time.Second)
	if failure != nil || reply.StatusCode != 200 {
		t.Fatalf("reply is %+v, %v", reply, failure)
	}
	<-left // the connection is closed, so that the body ends
	// What was written lies in the socket buffers of both sides for the most part.
	if n := written.Load(); n > 32<<20 {
		t.Errorf("the receiver got rid of %d bytes", n)
	}
}

func TestBodyWithinTheCapKeepsTheConnection(t *testing.T) {
	r, p := receive(t, receiver.Options{Script: []receiver.Step{{Body: strings.Repeat("x", maxBodyBytes)}}})
	c := client(t)
	for range 3 {
		if _, failure := post(t, c, p, 5*time.Second); failure != nil {
			t.Fatal(failure)
		}
	}
	if n := r.Connections(); n != 1 {
		t.Errorf("3 requests opened %d connections", n)
	}
}

func TestFloodsAreCutOff(t *testing.T) {
	for name, tc := range map[string]struct{ head, text string }{
		"informational answers": {text: "HTTP/1.1 103 Early Hints\r\n\r\n"},
		"headers":               {head: "HTTP/1.1 200 OK\r\n", text: "X-A: " + strings.Repeat("x", 4<<10) + "\r\n"},
		"a status line":         {head: "HTTP/1.1 200 ", text: strings.Repeat("x", 4<<10)},
	} {
		t.Run(name, func(t *testing.T) {
			var written atomic.Int64
			left := make(chan struct{})
			p := answering(t, func(w io.Writer) {
				_, _ = io.WriteString(w, tc.head)
				forever(tc.text, &written, left)(w)
			})
			_, failure := post(t, client(t), p, 10*time.Second)
			if !errors.Is(failure, ErrAnswer) {
				t.Errorf("post fails with %v, want %v", failure, ErrAnswer)
			}
			<-left
		})
	}
}

func TestTimeoutCoversEverything(t *testing.T) {
	wait := func(conn io.Reader) { _, _ = io.Copy(io.Discard, conn) }
	left := make(chan struct{}, 1)
	c := client(t) // not closed before the end, which would end what hangs
	for name, p := range map[string]*endpoint.Endpoint{
		"no handshake": hostile(t, func(conn net.Conn) {
			wait(conn)
			left <- struct{}{}
		}),
		"no answer": answering(t, func(w io.Writer) { wait(w.(io.Reader)) }),
		"half a status line": answering(t, func(w io.Writer) {
			_, _ = io.WriteString(w, "HTTP/1.1 2")
			wait(w.(io.Reader))
		}),
		"half a body": answering(t, func(w io.Writer) {
			_, _ = io.WriteString(w, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
			wait(w.(io.Reader))
		}),
		"a chunk without end": answering(t, func(w io.Writer) {
			_, _ = io.WriteString(w, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nff\r\n")
			wait(w.(io.Reader))
		}),
	} {
		t.Run(name, func(t *testing.T) {
			begin := time.Now()
			_, failure := post(t, c, p, 200*time.Millisecond)
			if !errors.Is(failure, ErrTimedOut) {
				t.Errorf("post fails with %v, want %v", failure, ErrTimedOut)
			}
			if took := time.Since(begin); took > 5*time.Second {
				t.Errorf("it took %v", took)
			}
		})
	}
	// http.Transport goes on dialling when the request has given up; ours must not.
	select {
	case <-left:
	case <-time.After(10 * time.Second):
		t.Error("the connection whose handshake hangs outlives its attempt")
	}
}

func TestHangingReceiver(t *testing.T) {
	_, p := receive(t, receiver.Options{Script: []receiver.Step{{Hang: true}}})
	if _, failure := post(t, client(t), p, 200*time.Millisecond); !errors.Is(failure, ErrTimedOut) {
		t.Errorf("post fails with %v, want %v", failure, ErrTimedOut)
	}
}

func TestBrokenAnswers(t *testing.T) {
	for name, tc := range map[string]struct {
		answer string
		want   *Error
	}{
		"closes without an answer": {"", ErrReset},
		"closes within the body":   {"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf", ErrReset},
		"no HTTP":                  {"SSH-2.0-OpenSSH_9.6\r\n", ErrAnswer},
		"bad status code":          {"HTTP/1.1 2000 OK\r\n\r\n", ErrAnswer},
		"bad length":               {"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", ErrAnswer},
		"bad chunk":                {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", ErrAnswer},
	} {
		t.Run(name, func(t *testing.T) {
			p := answering(t, func(w io.Writer) {
				_, _ = io.WriteString(w, tc.answer)
				_ = w.(*tls.Conn).CloseWrite()
			})
			if _, failure := post(t, client(t), p, 5*time.Second); !errors.Is(failure, tc.want) {
				t.Errorf("post fails with %v, want %v", failure, tc.want)
			}
		})
	}
}
