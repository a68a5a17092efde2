// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package ingest

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr"

	"github.com/garyclub/webhook-operator/internal/event"
)

// FuzzConnection has a producer say these bytes to the real HTTP server and leave: every answer is one, each 202 stands
// for one append and nothing else is appended, and what is appended is an event byte for byte.
func FuzzConnection(f *testing.F) {
	head := "POST /v1/events HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
	length := "Content-Length: " + strconv.Itoa(len(custom)) + "\r\n"
	for _, s := range []string{
		head + length + "\r\n" + custom,
		head + length + "\r\n" + custom + head + length + "Connection: close\r\n\r\n" + custom,
		head + "Transfer-Encoding: chunked\r\n\r\n5\r\n{\"eve\r\n0\r\n\r\n",
		head + "Transfer-Encoding: chunked\r\n" + length + "\r\n0\r\n\r\n" + custom,
		head + "Transfer-Encoding: xchunked\r\n\r\n",
		head + "Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
		head + "Content-Length: -1\r\n\r\n", head + "Expect: 100-continue\r\n" + length + "\r\n" + custom,
		head + length + "Idempotency-Key: \"a\\\"b\"\r\n\r\n" + custom, head + length + "X: " + strings.Repeat("x", 20<<10) + "\r\n\r\n" + custom,
		strings.Replace(head, "1.1", "1.0", 1) + length + "\r\n" + custom, "GET / HTTP/1.1\r\n\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "\x16\x03\x01", "",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, said []byte) {
		if bytes.Contains(said, []byte("HEAD")) {
			return // its answers announce bodies that do not come, and cannot be told from others without the request
		}
		x := newFixture()
		answers := converse(t, x.server, said)
		accepted := 0
		in := bufio.NewReader(bytes.NewReader(answers))
		for {
			if _, err := in.Peek(1); err != nil {
				break
			}
			if checkAnswer(t, said, in) == http.StatusAccepted {
				accepted++
			}
		}
		if appends := x.queue.calls(); appends != accepted {
			t.Errorf("%q: %d answers of 202 for %d appends", said, accepted, appends)
		}
		for _, item := range x.queue.appended() {
			again, err := event.Parse(item.Event.Namespace, item.Event.Payload, item.Event.Accepted)
			if err != nil || again.Type != item.Event.Type || again.SHA256 != item.Event.SHA256 || item.Event.Namespace != "clinic" {
				t.Errorf("%q: appended %+v, which is read again as %+v, %v", said, item.Event, again, err)
			}
		}
	})
}

// checkAnswer reads one answer and holds it against what the package's comment promises.
func checkAnswer(t *testing.T, said []byte, in *bufio.Reader) int {
	t.Helper()
	answer, err := http.ReadResponse(in, &http.Request{Method: http.MethodPost})
	if err != nil {
		t.Fatalf("%q: an answer cannot be read: %v", said, err)
	}
	defer func() { _ = answer.Body.Close() }()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatalf("%q: the body of a %s cannot be read: %v", said, answer.Status, err)
	}
	// net/http answers by itself what it cannot take for a request, and says 100 to who waits for it.
	byItself := []int{http.StatusContinue, http.StatusBadRequest, http.StatusRequestTimeout, http.StatusExpectationFailed,
		http.StatusRequestHeaderFieldsTooLarge, http.StatusNotImplemented, http.StatusHTTPVersionNotSupported}
	switch kind := answer.Header.Get("Content-Type"); {
	case answer.StatusCode == http.StatusAccepted && kind == jsonType, kind == "application/problem+json":
		if !json.Valid(body) {
			t.Errorf("%q: the body of a %s is no JSON: %q", said, answer.Status, body)
		}
	case !slices.Contains(byItself, answer.StatusCode):
		t.Errorf("%q: answered %s of type %q", said, answer.Status, kind)
	}
	return answer.StatusCode
}

// converse has the server read what was said, and returns what it answered once it has hung up.
func converse(t *testing.T, s *Server, said []byte) []byte {
	t.Helper()
	c := &conversation{said: bytes.NewReader(said), ended: make(chan struct{})}
	l := &oneConnection{conn: make(chan net.Conn, 1), closed: make(chan struct{})}
	l.conn <- c
	server := s.httpServer(t.Context(), logr.Discard())
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = server.Serve(l) // ends by Close
	}()
	select {
	case <-c.ended:
	case <-time.After(20 * time.Second):
		t.Errorf("%q: the server does not hang up on a producer that has left", said)
	}
	_ = server.Close()
	<-served
	c.mu.Lock()
	defer c.mu.Unlock()
	return bytes.Clone(c.answers.Bytes())
}

// oneConnection accepts one, and then nothing until it is closed.
type oneConnection struct {
	conn   chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func (l *oneConnection) Accept() (net.Conn, error) {
	select {
	case c := <-l.conn:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *oneConnection) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

func (l *oneConnection) Addr() net.Addr { return &net.TCPAddr{} }

// conversation is a connection whose other end has said everything and reads whatever comes.
type conversation struct {
	said  *bytes.Reader
	ended chan struct{} // closed by Close
	once  sync.Once

	mu      sync.Mutex
	answers bytes.Buffer
}

func (c *conversation) Read(b []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.said.Read(b)
}

func (c *conversation) Write(b []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.answers.Write(b)
}

func (c *conversation) Close() error {
	c.once.Do(func() { close(c.ended) })
	return nil
}

func (c *conversation) LocalAddr() net.Addr              { return &net.TCPAddr{} }
func (c *conversation) RemoteAddr() net.Addr             { return &net.TCPAddr{} }
func (c *conversation) SetDeadline(time.Time) error      { return nil }
func (c *conversation) SetReadDeadline(time.Time) error  { return nil }
func (c *conversation) SetWriteDeadline(time.Time) error { return nil }

// FuzzIdempotencyKey: a key that is taken is short and visible, and its quoted form is the same key; one that is not is
// told of by the header's name.
func FuzzIdempotencyKey(f *testing.F) {
	for _, s := range []string{"order-7", `"order-7"`, `"a\"b\\c"`, `"`, `""`, `a"b`, "a b", "é", "\x00", strings.Repeat("k", 256), ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, value string) {
		key, refused := keyOf(keyed(value))
		if refused != nil {
			if refused.kind != kindKey || refused.field != keyHeader || len(value) > 40 && strings.Contains(refused.detail, value) {
				t.Errorf("%q: %+v", value, refused)
			}
			return
		}
		if len(key) == 0 || len(key) > MaxKeyBytes || strings.ContainsFunc(key, func(r rune) bool { return r <= ' ' || r > '~' }) {
			t.Errorf("%q is taken as the key %q", value, key)
		}
		quoted := `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(key) + `"`
		if again, refused := keyOf(keyed(quoted)); refused != nil || again != key {
			t.Errorf("%q is the key %q, and quoted it is %q (%+v)", value, key, again, refused)
		}
	})
}

// FuzzSplit: the lines of a batch are its body, cut; a problem is on a line that there is.
func FuzzSplit(f *testing.F) {
	for _, s := range []string{"", "\n", "a\nb", "a\r\nb\r\n", "\r\n\r\n", "a\n\n\nb", strings.Repeat("\n", MaxBatchEvents+1)} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		lines, refused := form{batch: true, limit: MaxBatchBytes}.split(body)
		if refused != nil {
			return
		}
		if len(lines) == 0 || len(lines) > MaxBatchEvents {
			t.Errorf("%d lines were taken", len(lines))
		}
		rest := body
		for i, line := range lines {
			after, ok := bytes.CutPrefix(rest, line)
			rest = bytes.TrimPrefix(after, []byte("\r"))
			if i == len(lines)-1 && len(rest) == 0 {
				break
			}
			if !ok || !bytes.HasPrefix(rest, []byte("\n")) {
				t.Fatalf("%q was cut to %q", body, lines)
			}
			rest = rest[1:]
		}
		if len(rest) > 0 {
			t.Errorf("of %q %q is left out", body, rest)
		}
	})
}
