// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package ingest

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"
)

func started(t *testing.T, change ...func(*Options)) *fixture {
	t.Helper()
	f := newFixture(change...)
	if err := f.server.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.server.Stop(context.Background()) })
	return f
}

func dial(t *testing.T, f *fixture) net.Conn {
	t.Helper()
	c, err := new(net.Dialer).DialContext(t.Context(), "tcp", f.server.addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// send writes a request and returns the status of its answer and whether the connection stays.
func send(t *testing.T, c net.Conn, in *bufio.Reader, body string) (int, bool) {
	t.Helper()
	_, err := fmt.Fprintf(c, "POST %s HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", Path, len(body), body)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := http.ReadResponse(in, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = answer.Body.Close() }()
	buffer := make([]byte, 1<<16)
	for err == nil {
		_, err = answer.Body.Read(buffer)
	}
	return answer.StatusCode, !answer.Close
}

func TestStopAnswersWhatIsUnderWayAndTakesNoMore(t *testing.T) {
	f := started(t)
	f.queue.entered, f.queue.proceed = make(chan struct{}), make(chan struct{})
	c := dial(t, f)
	status := make(chan int)
	go func() {
		code, _ := send(t, c, bufio.NewReader(c), custom)
		status <- code
	}()
	<-f.queue.entered
	stopped := make(chan error)
	go func() { stopped <- f.server.Stop(t.Context()) }()
	for !f.server.closing.Load() { // until Stop has begun
		runtime.Gosched()
	}
	checkProblem(t, f.do(t, request{body: custom}), 503, kindClosing, "", 0)
	close(f.queue.proceed)
	if got := <-status; got != 202 {
		t.Errorf("what was under way was answered %d", got)
	}
	if err := <-stopped; err != nil {
		t.Error(err)
	}
	if err := f.server.Stop(t.Context()); err != nil {
		t.Errorf("a second stop: %v", err)
	}
	select {
	case <-f.server.Done():
	default:
		t.Error("not done after Stop")
	}
}

func TestStopGivesUp(t *testing.T) {
	f := started(t)
	f.queue.entered, f.queue.proceed = make(chan struct{}), make(chan struct{})
	defer close(f.queue.proceed)
	c := dial(t, f)
	go func() {
		_, _ = fmt.Fprintf(c, "POST %s HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", Path, len(custom), custom)
	}()
	<-f.queue.entered
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := f.server.Stop(ctx); err == nil {
		t.Error("no error although a request was under way")
	}
}

func TestStartTwiceAndStopBeforeStart(t *testing.T) {
	f := newFixture()
	if err := f.server.Stop(t.Context()); err != nil {
		t.Error(err)
	}
	f = started(t)
	if err := f.server.Start(t.Context()); err == nil {
		t.Error("a second start has no error")
	}
	g := newFixture(func(o *Options) { o.Addr = f.server.addr().String() })
	if err := g.server.Start(t.Context()); err == nil {
		t.Error("two servers listen on one address")
	}
}

func TestConnectionIsKeptOverARefusal(t *testing.T) {
	f := started(t)
	c := dial(t, f)
	in := bufio.NewReader(c)
	for _, tc := range []struct {
		body string
		want int
	}{{"{}", 422}, {custom, 202}, {"{", 400}, {custom, 202}} {
		if got, kept := send(t, c, in, tc.body); got != tc.want || !kept {
			t.Errorf("%s: %d, kept %v, want %d", tc.body, got, kept, tc.want)
		}
	}
}

func TestConnectionsThatKeepUsWaitingGoForNewOnes(t *testing.T) {
	f := started(t, func(o *Options) { o.MaxConnections = 2 })
	idle, slow := dial(t, f), dial(t, f)
	if got, _ := send(t, idle, bufio.NewReader(idle), custom); got != 202 {
		t.Fatalf("first connection: %d", got)
	}
	if _, err := io.WriteString(slow, "POST "+Path+" HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{"); err != nil {
		t.Fatal(err)
	}
	all, _ := f.server.listener.(*connections)
	for n := 0; n < 2; runtime.Gosched() { // until both wait
		all.mu.Lock()
		n = all.waiting.Len()
		all.mu.Unlock()
	}
	for range 3 {
		c := dial(t, f)
		if got, kept := send(t, c, bufio.NewReader(c), custom); got != 202 || !kept {
			t.Fatalf("a new connection: %d, kept %v", got, kept)
		}
	}
	for name, c := range map[string]net.Conn{"idle": idle, "slow": slow} {
		if _, err := c.Read(make([]byte, 1)); err == nil {
			t.Errorf("the connection that is %s was not closed", name)
		}
	}
}

func TestConnectionsThatAreHandledAreNotClosedForNewOnes(t *testing.T) {
	f := started(t, func(o *Options) { o.MaxConnections = 1 })
	f.queue.entered, f.queue.proceed = make(chan struct{}), make(chan struct{})
	status := make(chan int, 2)
	post := func() {
		c := dial(t, f)
		go func() {
			code, _ := send(t, c, bufio.NewReader(c), custom)
			status <- code
		}()
	}
	post()
	<-f.queue.entered // and not before: a connection that was just opened keeps us waiting too
	post()
	select {
	case <-f.queue.entered:
		t.Error("two are handled where there is room for one connection")
	case <-time.After(100 * time.Millisecond):
	}
	f.queue.proceed <- struct{}{}
	<-f.queue.entered // the first is answered, and idle
	f.queue.proceed <- struct{}{}
	for range 2 {
		if got := <-status; got != 202 {
			t.Errorf("answered %d", got)
		}
	}
}

// A connection that was chosen to go takes nothing with it: its request would be stored, and its producer hear nothing.
func TestWhatComesOverAConnectionThatGoesIsNotStored(t *testing.T) {
	f := newFixture()
	all := newConnections(nil, 1)
	var conns [2]*connection
	for i := range conns {
		near, far := net.Pipe()
		t.Cleanup(func() { _, _ = near.Close(), far.Close() })
		conns[i] = &connection{Conn: near, all: all}
		victim, ok := all.admit(conns[i])
		if !ok || (victim != nil) != (i == 1) {
			t.Fatalf("connection %d is admitted: %v, for %v", i, ok, victim)
		}
	}
	post := func(over *connection) *httptest.ResponseRecorder {
		r := httptest.NewRequestWithContext(withConnection(t.Context(), over), http.MethodPost, Path, strings.NewReader(custom))
		r.Header.Set("Content-Type", jsonType)
		w := httptest.NewRecorder()
		f.server.ServeHTTP(w, r)
		return w
	}
	checkProblem(t, post(conns[0]), 503, kindBusy, "", 0) // chosen, and not closed yet
	if n := f.queue.calls(); n != 0 {
		t.Errorf("%d appends for a producer that hears nothing", n)
	}
	if w := post(conns[1]); w.Code != 202 {
		t.Errorf("the new one: %d", w.Code)
	}
	_ = conns[0].Close()
	_ = conns[1].Close()
	if all.open != 0 || all.waiting.Len() != 0 {
		t.Errorf("%d are open and %d wait after all were closed", all.open, all.waiting.Len())
	}
}

// Between a gateway and a producer something may read another length than we do; between a sidecar and its app nothing.
func TestChunkedRequestsEndAGatewaysConnection(t *testing.T) {
	for _, config := range []*tls.Config{nil, {MinVersion: tls.VersionTLS12}} {
		f := newFixture(func(o *Options) { o.TLS = config })
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, Path, strings.NewReader(custom))
		r.Header.Set("Content-Type", jsonType)
		r.TransferEncoding, r.ContentLength = []string{"chunked"}, -1
		w := httptest.NewRecorder()
		f.server.ServeHTTP(w, r)
		if closed := w.Header().Get("Connection") == "close"; w.Code != 202 || closed != (config != nil) {
			t.Errorf("TLS %v: %d, and the connection is closed: %v", config != nil, w.Code, closed)
		}
	}
}

func TestBodyThatBreaksOff(t *testing.T) {
	f := started(t)
	c := dial(t, f)
	_, _ = fmt.Fprintf(c, "POST %s HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{", Path)
	_ = c.(*net.TCPConn).CloseWrite()
	answer, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = answer.Body.Close() }()
	if answer.StatusCode != 400 || len(f.queue.appended()) != 0 {
		t.Errorf("%d, %d events", answer.StatusCode, len(f.queue.appended()))
	}
}

// slowBody fails as a connection does at its read deadline.
type slowBody struct{}

func (slowBody) Read([]byte) (int, error) { return 0, os.ErrDeadlineExceeded }

func TestBodyThatIsTooSlow(t *testing.T) {
	f := newFixture()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, Path, slowBody{})
	r.Header.Set("Content-Type", jsonType)
	w := httptest.NewRecorder()
	f.server.ServeHTTP(w, r)
	checkProblem(t, w, 408, kindSlow, "", 0)
}

func TestChunkedBodyIsBoundedToo(t *testing.T) {
	f := started(t)
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+f.server.addr().String()+Path,
		struct{ *strings.Reader }{strings.NewReader(strings.Repeat(" ", 300<<10))})
	if err != nil {
		t.Fatal(err)
	}
	request.ContentLength = -1
	request.Header.Set("Content-Type", jsonType)
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	answer, err := transport.RoundTrip(request)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = answer.Body.Close() }()
	if answer.StatusCode != 413 {
		t.Errorf("%d, want 413", answer.StatusCode)
	}
}

func TestOptionsValidate(t *testing.T) {
	valid := newFixture().server.opt
	if err := valid.Validate(); err != nil {
		t.Fatal(err)
	}
	for name, breakIt := range map[string]func(*Options){
		"no queue":          func(o *Options) { o.Queue = nil },
		"no endpoints":      func(o *Options) { o.Endpoints = nil },
		"no namespace":      func(o *Options) { o.Namespace, o.Authenticate = "", nil },
		"negative slots":    func(o *Options) { o.MaxConcurrent = -1 },
		"less than a batch": func(o *Options) { o.MaxBufferedBytes = 1 },
	} {
		t.Run(name, func(t *testing.T) {
			o := valid
			breakIt(&o)
			if o.Validate() == nil {
				t.Error("no error")
			}
		})
	}
}
