// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package handover

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"

	"github.com/garyclub/webhook-operator/internal/delivery"
	"github.com/garyclub/webhook-operator/internal/endpoint"
	"github.com/garyclub/webhook-operator/internal/event"
	"github.com/garyclub/webhook-operator/internal/fixture/pki"
)

const patience = 20 * time.Second

var ca = pki.NewCA("hand-over test")

// fakeQueue is a source's queue in memory.
type fakeQueue struct {
	mu       sync.Mutex
	waiting  []*fakeLease
	dead     []*fakeLease
	news     chan struct{}
	handed   int
	unread   error
	released int
}

type fakeLease struct {
	q      *fakeQueue
	event  *event.Event
	d      delivery.Delivery
	due    bool
	leased bool
}

func (l *fakeLease) Delivery() delivery.Delivery { return l.d }

func (l *fakeLease) Event() (*event.Event, error) { return l.event, l.q.unread }

func (l *fakeLease) Release(time.Time) {
	l.q.mu.Lock()
	defer l.q.mu.Unlock()
	if l.leased {
		l.leased = false
		l.q.released++
	}
}

func newFakeQueue() *fakeQueue { return &fakeQueue{news: make(chan struct{})} }

func (q *fakeQueue) add(n int, due bool, change ...func(*fakeLease)) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for range n {
		l := &fakeLease{q: q, due: due, event: sampleEvent("team", `{"event":"call.completed"}`)}
		l.d = sampleDelivery(l.event)
		for _, c := range change {
			c(l)
		}
		q.waiting = append(q.waiting, l)
	}
	close(q.news)
	q.news = make(chan struct{})
}

func (q *fakeQueue) LeaseWaiting(_ context.Context, n int, due bool, want func(endpoint.Ref) bool) (all []Lease, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, l := range q.waiting {
		if len(all) < n && !l.leased && (due || !l.due) && want(l.d.Ref) {
			l.leased = true
			all = append(all, l)
		}
	}
	return all, nil
}

// bury makes the last one that waits a dead letter.
func (q *fakeQueue) bury() *fakeLease {
	q.mu.Lock()
	defer q.mu.Unlock()
	l := q.waiting[len(q.waiting)-1]
	q.waiting = q.waiting[:len(q.waiting)-1]
	l.d = deadLetter(l.d)
	q.dead = append(q.dead, l)
	return l
}

// buried is how many dead letters there are.
func (q *fakeQueue) buried() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.dead)
}

func (q *fakeQueue) LeaseDead(_ context.Context, n int, want func(endpoint.Ref) bool) (all []Lease, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, l := range q.dead {
		if len(all) < n && !l.leased && want(l.d.Ref) {
			l.leased = true
			all = append(all, l)
		}
	}
	return all, nil
}

func (q *fakeQueue) Deferred() <-chan struct{} {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.news
}

func (q *fakeQueue) HandedOver(_ context.Context, leases []Lease) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	gone := map[Lease]bool{}
	for _, l := range leases {
		gone[l] = true
	}
	var left []*fakeLease
	for _, l := range q.waiting {
		if !gone[l] {
			left = append(left, l)
		}
	}
	q.handed += len(q.waiting) - len(left)
	q.waiting = left
	q.dead = slices.DeleteFunc(q.dead, func(l *fakeLease) bool { return gone[l] })
	return nil
}

func (q *fakeQueue) left() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.waiting)
}

// lent is how many are leased.
func (q *fakeQueue) lent() (n int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, l := range slices.Concat(q.waiting, q.dead) {
		if l.leased {
			n++
		}
	}
	return n
}

// fakeSink keeps what it takes.
type fakeSink struct {
	mu      sync.Mutex
	parcels []Parcel
	take    func(Parcel) Verdict
	err     error
	refused int
}

func (q *fakeSink) TakeOver(_ context.Context, parcels []Parcel) ([]Verdict, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.err != nil {
		q.refused++
		return nil, q.err
	}
	verdicts := make([]Verdict, len(parcels))
	for i, p := range parcels {
		verdicts[i] = Added
		if q.take != nil {
			verdicts[i] = q.take(p)
		}
		if verdicts[i] == Added {
			q.parcels = append(q.parcels, p)
		}
	}
	return verdicts, nil
}

func (q *fakeSink) taken() []Parcel {
	q.mu.Lock()
	defer q.mu.Unlock()
	return append([]Parcel(nil), q.parcels...)
}

func (q *fakeSink) refusals() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.refused
}

func (q *fakeSink) fail(err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.err = err
}

// bearerOf is a token that stands for the namespace of its pod; "gateway" stands for a gateway.
type bearerOf string

func (b bearerOf) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return map[string]string{"authorization": "Bearer " + string(b)}, nil
}

func (bearerOf) RequireTransportSecurity() bool { return true }

func authenticate(_ context.Context, token string) (Identity, error) {
	if token == "nobody" {
		return Identity{}, status.Error(codes.Unauthenticated, "no")
	}
	return Identity{Namespace: token, ServiceAccount: token, Pod: "p", PodUID: "uid-" + token}, nil
}

// serve starts a sink and returns its address.
func serve(t *testing.T, queueID string, q SinkQueue) (*Sink, string) {
	t.Helper()
	leaf := ca.Leaf([]string{"127.0.0.1"})
	s, err := NewSink(SinkOptions{Queue: q, QueueID: queueID, Authenticate: authenticate,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &leaf, nil },
		Gateway:        func(i Identity) bool { return i.Namespace == "gateway" }})
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() { _ = s.Serve(listener) })
	t.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		s.Stop(ctx)
		serving.Wait()
	})
	return s, listener.Addr().String()
}

func newSource(t *testing.T, q SourceQueue, namespace, gateway string) *Source {
	t.Helper()
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(ca.PEM())
	s, err := NewSource(SourceOptions{Queue: q, QueueID: "queue-of-source", Token: bearerOf(namespace),
		Transport: credentials.NewTLS(&tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS13})})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	if err := s.SetGateway(gateway); err != nil {
		t.Fatal(err)
	}
	return s
}

func sampleEvent(namespace, payload string) *event.Event {
	at := time.Date(2026, 3, 1, 12, 0, 0, 5, time.UTC)
	return &event.Event{ID: event.NewID(), Namespace: namespace, Type: event.CallCompleted, Time: at, CallID: "call_1",
		AgentID: "agent", Payload: []byte(payload), SHA256: sha256.Sum256([]byte(payload)), Accepted: at}
}

func sampleDelivery(e *event.Event) delivery.Delivery {
	now := time.Now()
	return delivery.Delivery{
		Ref: endpoint.Ref{Namespace: e.Namespace, Name: "a"}, UID: "uid-a", EventID: e.ID, Trigger: delivery.TriggerEvent,
		State: delivery.Retrying, Accepted: e.Accepted, Deadline: now.Add(time.Hour).UTC(), Due: now.Add(40 * time.Second),
		Wait: time.Minute, AttemptCount: 2, MaxAttempts: 4, Interruptions: 1, Hops: 1,
		Attempts: []delivery.Attempt{
			{Number: 1, Start: e.Accepted, Duration: time.Second, Outcome: delivery.OutcomeTimedOut, Message: "no answer"},
			{Number: 2, Start: e.Accepted, StatusCode: 503, Outcome: delivery.OutcomeThrottled, RetryAfter: time.Minute},
		},
	}
}

// deadLetter is the delivery once it has failed.
func deadLetter(d delivery.Delivery) delivery.Delivery {
	d = delivery.Fail(d, string(delivery.OutcomeTimedOut), time.Now().UTC())
	d.RedeliverableUntil = d.Completed.Add(time.Hour)
	d.Trigger, d.Order, d.OrderName = delivery.TriggerRedelivery, "0d3a-uid", "again"
	return d
}

func eventually(t *testing.T, what string, done func() bool) {
	t.Helper()
	for limit := time.Now().Add(patience); !done(); {
		if time.Now().After(limit) {
			t.Fatalf("not seen: %s", what)
		}
		<-time.After(time.Millisecond)
	}
}

// dial opens a connection and says nothing on it.
func dial(t *testing.T, address string) net.Conn {
	t.Helper()
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	return conn
}

func named(i int) func(*fakeLease) {
	return func(l *fakeLease) { l.d.Ref.Name = "e" + strconv.Itoa(i) }
}

func sized(bytes int) func(*fakeLease) {
	return func(l *fakeLease) {
		payload := strings.Repeat("x", bytes)
		l.event.Payload, l.event.SHA256 = []byte(payload), sha256.Sum256([]byte(payload))
	}
}
