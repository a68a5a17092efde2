// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package dispatcher

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-logr/logr"

	"github.com/garyclub/webhook-operator/internal/delivery"
	"github.com/garyclub/webhook-operator/internal/endpoint"
	"github.com/garyclub/webhook-operator/internal/event"
	"github.com/garyclub/webhook-operator/internal/fixture/receiver"
	"github.com/garyclub/webhook-operator/internal/queue"
)

// breakable is a queue that a test breaks.
type breakable struct {
	queue.Queue
	broken chan struct{}
	err    atomic.Pointer[error]
}

func (b *breakable) Broken() <-chan struct{} { return b.broken }

func (b *breakable) Err() error {
	if err := b.err.Load(); err != nil {
		return *err
	}
	return nil
}

func TestBrokenQueueEndsTheProcess(t *testing.T) {
	s := newStand(t)
	d := s.assemble()
	q := &breakable{Queue: d.queue, broken: make(chan struct{})}
	d.queue = q
	ended := make(chan error, 1)
	go func() { ended <- d.run(s.context(), nil) }()
	s.until("ready", func() bool { return s.status("/readyz") == 200 && s.status("/healthz") == 200 })
	disk := errors.New("input/output error")
	q.err.Store(&disk)
	if ready, alive := s.status("/readyz"), s.status("/healthz"); ready != 503 || alive != 503 {
		t.Errorf("a broken queue is answered %d and %d, want 503", ready, alive)
	}
	close(q.broken)
	if err := <-ended; !errors.Is(err, disk) {
		t.Errorf("ended with %v, want the queue's error", err)
	}
}

// status asks the health port; 0 when nobody answers.
func (s *stand) status(path string) int {
	s.Helper()
	request, err := http.NewRequestWithContext(s.Context(), http.MethodGet, "http://"+s.options.HealthListen+path, nil)
	if err != nil {
		s.Fatal(err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0
	}
	_ = response.Body.Close()
	return response.StatusCode
}

func TestGracefulStopReportsTheLastCounters(t *testing.T) {
	s := newStand(t)
	// The ledger never answers the first reports, so that one is under way when the end comes.
	s.sink.answers = func(c delivery.Counters) bool { return c.Succeeded == 1 }
	release := make(chan struct{})
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-release }))
	server.TLS = &tls.Config{Certificates: []tls.Certificate{ca.Leaf([]string{"127.0.0.1"})}, MinVersion: tls.VersionTLS12}
	server.StartTLS()
	defer server.Close()
	s.serve(endpointOf("a", server.URL))
	d := s.start()
	s.until("endpoints", func() bool { return d.endpoints.Load() != nil })
	if got := s.post(); !strings.Contains(got, `"deliveries":1`) {
		t.Errorf("answered %s, want one delivery", got)
	}
	<-s.sink.counted
	close(release)
	begin := time.Now()
	s.stop(d)
	if c := s.sink.latest(); c.Succeeded != 1 || c.Pending != 0 {
		t.Errorf("the last report says %+v, want the delivery", c)
	}
	if took := time.Since(begin); took >= flushTimeout {
		t.Errorf("stop took %v, want less than the flush timeout", took)
	}
	if n := s.counter(d, "webhook_dispatcher_deliveries_ended_total", "Delivered", "Delivered"); n != 1 {
		t.Errorf("%v deliveries are counted", n)
	}
}

func TestStopWithoutAManagerIsNoFailure(t *testing.T) {
	s := newStand(t)
	s.options.ManagerAddress = s.address() // nobody is there
	d := s.start()
	if got := s.post(); !strings.Contains(got, `"deliveries":null`) {
		t.Errorf("answered %s, want that it is not known", got)
	}
	begin := time.Now()
	s.stop(d)
	if took := time.Since(begin); took >= flushTimeout {
		t.Errorf("stop took %v, although no manager was there to wait for", took)
	}
	if got := s.logs.with("manager not reached"); len(got) == 0 {
		t.Error("the default log level says nothing about the manager")
	}
}

func TestDrainDeliversWhatIsDue(t *testing.T) {
	s := newStand(t)
	r := s.receive(receiver.Options{})
	s.serve(endpointOf("a", r.URL("/")))
	d := s.start()
	s.until("endpoints", func() bool { return d.endpoints.Load() != nil })
	const n = 20
	for range n {
		s.post()
	}
	s.stop(d)
	if got := r.Count(); got != n {
		t.Errorf("%d of %d deliveries went out before the end", got, n)
	}
}

func TestDrainAsksTheQueue(t *testing.T) {
	s := newStand(t)
	d := s.assemble()
	defer func() { _ = d.queue.Close() }()
	if d.delivering() {
		t.Error("an empty dispatcher delivers")
	}
	s.append(d, endpointOf("a", "https://127.0.0.1/"))
	if !d.delivering() {
		t.Error("with something due and nothing in flight yet the drain is over")
	}
}

// append puts an event for the endpoint into the queue.
func (s *stand) append(d *Dispatcher, p *endpoint.Endpoint) {
	s.Helper()
	now := d.clock.now()
	e := &event.Event{ID: event.NewID(), Namespace: namespace, Type: event.CallCompleted, Time: now, Accepted: now,
		Payload: []byte(payload), SHA256: sha256.Sum256([]byte(payload))}
	if _, err := d.queue.Append(s.Context(), []queue.Item{{Event: e, Matched: true, Endpoints: []*endpoint.Endpoint{p}}}); err != nil {
		s.Fatal(err)
	}
}

func TestListOfAnotherNamespaceIsRefused(t *testing.T) {
	s := newStand(t)
	foreign := endpointOf("a", "https://127.0.0.1/")
	foreign.Namespace = "other"
	s.options.TokenFile = s.file("token", []byte("other"))
	s.serve(foreign)
	d := s.start()
	defer s.stop(d)
	s.until("the refusal", func() bool { return len(s.logs.with("endpoints are refused")) > 0 })
	if got := s.post(); !strings.Contains(got, `"deliveries":null`) {
		t.Errorf("answered %s, want that the event waits for endpoints of its own namespace", got)
	}
}

func TestListThatCannotBeSavedIsInForce(t *testing.T) {
	s := newStand(t)
	r := s.receive(receiver.Options{})
	d := s.assemble()
	d.endpoints.file += "/no/folder"
	if err := d.Start(s.context()); err != nil {
		t.Fatal(err)
	}
	p := endpointOf("a", r.URL("/"))
	s.serve(p)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	s.until("endpoints", func() bool { return d.endpoints.Load() != nil })
	s.post()
	if err := r.Wait(ctx, 1); err != nil {
		t.Error(err)
	}
	s.until("the cause", func() bool { return len(s.logs.with("save last known endpoints")) > 0 })
	s.stop(d)
}

func TestOneClock(t *testing.T) {
	s := newStand(t)
	ahead := steadyClock()
	now := func() time.Time { return ahead.now().Add(time.Hour) }
	d, err := assemble(s.context(), s.options, clock{now, func(at time.Time) <-chan time.Time { return ahead.alarm(at.Add(-time.Hour)) }})
	if err != nil {
		t.Fatal(err)
	}
	p := endpointOf("a", "https://127.0.0.1/")
	p.Hold = endpoint.HoldSuspended
	s.serve(p)
	if err := d.Start(s.context()); err != nil {
		t.Fatal(err)
	}
	s.until("endpoints", func() bool { return d.endpoints.Load() != nil })
	begin := now()
	s.post()
	records, err := d.queue.Outbox(t.Context(), 0, 1)
	if err != nil {
		t.Fatal(err)
	}
	r := records[0].Record
	if r.Accepted.Before(begin) || r.Accepted.After(now()) || !r.Deadline.Equal(r.Accepted.Add(p.Retry.Deadline)) {
		t.Errorf("accepted at %v with the deadline %v, the clock says %v", r.Accepted, r.Deadline, begin)
	}
	s.stop(d)
}

// flaky fails a number of times to match.
type flaky struct {
	queue.Queue
	faults int
	calls  int
}

func (q *flaky) MatchWaiting(ctx context.Context, _ func(*event.Event) ([]*endpoint.Endpoint, bool)) error {
	if q.calls++; q.calls <= q.faults {
		return errors.New("input/output error")
	}
	<-ctx.Done()
	return ctx.Err()
}

func (q *flaky) Err() error { return nil }

func TestMatchingBeginsAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := &flaky{faults: 3}
		var all logs
		d := &Dispatcher{queue: q, clock: steadyClock(), endpoints: &endpoints{}}
		ctx, cancel := context.WithCancel(logr.NewContext(t.Context(), all.logger()))
		done := make(chan struct{})
		go func() { d.matchWaiting(ctx); close(done) }()
		<-time.After(time.Minute)
		synctest.Wait()
		if q.calls != 4 {
			t.Errorf("matching was begun %d times, want once more than it failed", q.calls)
		}
		if n := len(all.with("matching of waiting events failed")); n != 3 {
			t.Errorf("%d of 3 faults are logged", n)
		}
		cancel()
		<-done
	})
}
