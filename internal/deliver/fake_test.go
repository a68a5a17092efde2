// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package deliver

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/garyclub/webhook-operator/internal/delivery"
	"github.com/garyclub/webhook-operator/internal/endpoint"
	"github.com/garyclub/webhook-operator/internal/event"
)

// fakeQueue keeps deliveries in memory, in the order in which they were added.
type fakeQueue struct {
	mu      sync.Mutex
	all     []*fakeLease
	parked  map[endpoint.Ref]bool
	changed chan struct{}
	// failLease, failRead and failSettle make that many calls fail.
	failLease, failRead, failSettle int

	goneMu sync.Mutex // its own: the gate asks while Lease holds mu
	gone   map[endpoint.Ref]string
}

func newFakeQueue() *fakeQueue {
	return &fakeQueue{parked: map[endpoint.Ref]bool{}, gone: map[endpoint.Ref]string{}, changed: make(chan struct{})}
}

var errDisk = errors.New("disk is ill")

// fakeLease is one delivery of the queue, held or not.
type fakeLease struct {
	q        *fakeQueue
	d        delivery.Delivery
	e        *event.Event // nil cannot be read
	held     bool
	released int
}

// add puts n fresh deliveries for the endpoint into the queue.
func (q *fakeQueue) add(p *endpoint.Endpoint, n int) []*fakeLease {
	q.mu.Lock()
	defer q.mu.Unlock()
	added := make([]*fakeLease, n)
	for i := range added {
		now := time.Now()
		e := &event.Event{ID: event.NewID(), Namespace: p.Namespace, Type: event.CallCompleted, Payload: []byte(`{"event":"call.completed"}`)}
		added[i] = &fakeLease{q: q, e: e, d: delivery.Delivery{Ref: p.Ref, EventID: e.ID, Trigger: delivery.TriggerEvent,
			State: delivery.Pending, Accepted: now, Due: now, Deadline: now.Add(p.Retry.Deadline)}}
	}
	q.all = append(q.all, added...)
	q.wake()
	return added
}

func (q *fakeQueue) wake() {
	close(q.changed)
	q.changed = make(chan struct{})
}

func (q *fakeQueue) Lease(ctx context.Context, admit func(endpoint.Ref) bool) (Lease, error) {
	for {
		lease, next, changed, err := q.pick(admit)
		if lease != nil || err != nil {
			return lease, err
		}
		timer := time.NewTimer(next)
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-changed:
		case <-timer.C:
		}
		timer.Stop()
	}
}

func (q *fakeQueue) pick(admit func(endpoint.Ref) bool) (Lease, time.Duration, chan struct{}, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.failLease > 0 {
		q.failLease--
		return nil, 0, nil, errDisk
	}
	next := time.Hour
	for _, l := range q.all {
		if l.held || l.d.State.Done() || q.parked[l.d.Ref] {
			continue
		}
		if wait := time.Until(l.d.Due); wait > 0 {
			next = min(next, wait)
			continue
		}
		if !admit(l.d.Ref) {
			q.parked[l.d.Ref] = true
			continue
		}
		l.held = true
		return l, 0, nil, nil
	}
	return nil, next, q.changed, nil
}

func (q *fakeQueue) Unpark(ref endpoint.Ref) {
	q.mu.Lock()
	defer q.mu.Unlock()
	delete(q.parked, ref)
	q.wake()
}

func (q *fakeQueue) UnparkAll() {
	q.mu.Lock()
	defer q.mu.Unlock()
	clear(q.parked)
	q.wake()
}

func (q *fakeQueue) HoldGone(_ context.Context, ref endpoint.Ref, incarnation string) error {
	q.goneMu.Lock()
	defer q.goneMu.Unlock()
	q.gone[ref] = incarnation
	return nil
}

func (q *fakeQueue) Gone(ref endpoint.Ref) string {
	q.goneMu.Lock()
	defer q.goneMu.Unlock()
	return q.gone[ref]
}

func (l *fakeLease) Delivery() delivery.Delivery { return l.now() }

func (l *fakeLease) Event() (*event.Event, error) {
	l.q.mu.Lock()
	defer l.q.mu.Unlock()
	if l.q.failRead > 0 {
		l.q.failRead--
		return nil, errDisk
	}
	if l.e == nil {
		return nil, errDisk
	}
	return l.e, nil
}

func (l *fakeLease) Settle(_ context.Context, d delivery.Delivery) error {
	l.q.mu.Lock()
	defer l.q.mu.Unlock()
	if l.q.failSettle > 0 {
		l.q.failSettle--
		return errDisk
	}
	l.d, l.held = d, false
	l.q.wake()
	return nil
}

func (l *fakeLease) Release(at time.Time) {
	l.q.mu.Lock()
	defer l.q.mu.Unlock()
	l.d.Due, l.held = at, false
	l.released++
	l.q.wake()
}

// spoil makes the event unreadable.
func (l *fakeLease) spoil() {
	l.q.mu.Lock()
	defer l.q.mu.Unlock()
	l.e = nil
}

// end fails the delivery without an attempt.
func (l *fakeLease) end() {
	l.q.mu.Lock()
	defer l.q.mu.Unlock()
	l.d = delivery.Fail(l.d, delivery.ReasonDeadlineExceeded, time.Now())
}

func (l *fakeLease) now() delivery.Delivery {
	l.q.mu.Lock()
	defer l.q.mu.Unlock()
	return l.d
}

// posterFunc answers a request; number counts those to the endpoint from 1.
type posterFunc func(ctx context.Context, p *endpoint.Endpoint, number int) (delivery.Reply, *delivery.Failure)

// fakePoster notes when each request came.
type fakePoster struct {
	answer posterFunc

	mu     sync.Mutex
	begin  time.Time
	times  map[string][]time.Duration // by endpoint, since the begin
	ids    map[string]int             // requests by webhook-id
	flying map[string]int
	most   map[string]int
}

func newFakePoster(answer posterFunc) *fakePoster {
	return &fakePoster{answer: answer, begin: time.Now(), times: map[string][]time.Duration{}, ids: map[string]int{},
		flying: map[string]int{}, most: map[string]int{}}
}

func (f *fakePoster) Post(ctx context.Context, p *endpoint.Endpoint, header http.Header, _ []byte) (delivery.Reply, *delivery.Failure) {
	f.mu.Lock()
	f.times[p.Name] = append(f.times[p.Name], time.Since(f.begin))
	f.ids[header.Get("webhook-id")]++
	f.flying[p.Name]++
	f.most[p.Name] = max(f.most[p.Name], f.flying[p.Name])
	number := len(f.times[p.Name])
	f.mu.Unlock()
	defer func() {
		f.mu.Lock()
		f.flying[p.Name]--
		f.mu.Unlock()
	}()
	return f.answer(ctx, p, number)
}

func (f *fakePoster) at(name string) []time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]time.Duration(nil), f.times[name]...)
}

func answer(code int) (delivery.Reply, *delivery.Failure) {
	return delivery.Reply{StatusCode: code}, nil
}

// hang waits for the timeout, or for being cut off.
func hang(ctx context.Context) (delivery.Reply, *delivery.Failure) {
	<-ctx.Done()
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return delivery.Reply{}, &delivery.Failure{Outcome: delivery.OutcomeTimedOut, Message: "no answer"}
	}
	return delivery.Reply{}, &delivery.Failure{Outcome: delivery.OutcomeInterrupted, Message: "cut off"}
}

func endpointOf(name string) *endpoint.Endpoint {
	return &endpoint.Endpoint{Ref: ref(name), UID: "uid-" + name, Incarnation: "1", URL: "https://" + name + ".example/",
		Timeout: 10 * time.Second, SuccessCodes: []string{"200"}, MaxInFlight: 16, SigningKeys: [][]byte{make([]byte, 24)},
		Retry: endpoint.Retry{MaxRetries: 3, InitialBackoff: 5 * time.Second, MaxBackoff: 300 * time.Second, Deadline: 24 * time.Hour}}
}

// stand is a stage over fakes, started.
type stand struct {
	*Stage
	queue   *fakeQueue
	poster  *fakePoster
	current *endpoint.Current
	metrics *prometheus.Registry
}

func start(t *testing.T, slots int, answer posterFunc, endpoints ...*endpoint.Endpoint) *stand {
	t.Helper()
	s := &stand{queue: newFakeQueue(), poster: newFakePoster(answer), current: &endpoint.Current{}, metrics: prometheus.NewRegistry()}
	s.current.Store(endpoint.NewSnapshot(endpoints))
	s.Stage = New(Options{Queue: s.queue, Endpoints: s.current, Poster: s.poster, Metrics: NewMetrics(s.metrics), MaxInFlight: slots, Now: time.Now})
	s.Start(t.Context())
	return s
}

// count is the value of a counter.
func (s *stand) count(t *testing.T, name, label string) float64 {
	t.Helper()
	families, err := s.metrics.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != "webhook_dispatcher_"+name {
			continue
		}
		for _, m := range f.GetMetric() {
			if label == "" || m.GetLabel()[0].GetValue() == label {
				return m.GetCounter().GetValue()
			}
		}
	}
	t.Fatalf("there is no counter %s %s", name, label)
	return 0
}
