// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package ingest

import (
	"context"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/garyclub/webhook-operator/internal/endpoint"
	"github.com/garyclub/webhook-operator/internal/event"
)

// fakeQueue keeps items as the queue does: all or none, repeats by key and body.
type fakeQueue struct {
	mu    sync.Mutex
	items []Item
	known map[[32]byte]Accepted
	body  map[[32]byte][32]byte
	err   error
	count int // of appends that succeeded
	// entered gets a value at each append, which then waits for proceed; both may be nil.
	entered, proceed chan struct{}
}

func (q *fakeQueue) Append(_ context.Context, items []Item) ([]Accepted, error) {
	if q.entered != nil {
		q.entered <- struct{}{}
		<-q.proceed
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.err != nil {
		return nil, q.err
	}
	out := make([]Accepted, len(items))
	for i, item := range items {
		out[i] = Accepted{EventID: item.Event.ID, Deliveries: -1}
		if item.Matched {
			out[i].Deliveries = len(item.Endpoints)
		}
		if item.Key == ([32]byte{}) {
			continue
		}
		if known, ok := q.known[item.Key]; ok {
			if q.body[item.Key] != item.Event.SHA256 {
				return nil, ErrKeyReused
			}
			out[i] = known
			out[i].Repeated = true
		}
	}
	q.count++
	for i, item := range items {
		if out[i].Repeated {
			continue
		}
		q.items = append(q.items, item)
		if item.Key != ([32]byte{}) {
			q.known[item.Key], q.body[item.Key] = out[i], item.Event.SHA256
		}
	}
	return out, nil
}

func (q *fakeQueue) calls() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.count
}

func (q *fakeQueue) appended() []Item {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.items
}

type fixture struct {
	server   *Server
	queue    *fakeQueue
	current  *endpoint.Current
	registry *prometheus.Registry
}

var now = time.Date(2026, 2, 15, 14, 32, 1, 0, time.UTC)

// newFixture has two endpoints for completed calls, one of them for agent_xyz alone.
func newFixture(change ...func(*Options)) *fixture {
	f := &fixture{
		queue:    &fakeQueue{known: map[[32]byte]Accepted{}, body: map[[32]byte][32]byte{}},
		current:  &endpoint.Current{},
		registry: prometheus.NewRegistry(),
	}
	f.current.Store(endpoint.NewSnapshot([]*endpoint.Endpoint{
		{Ref: endpoint.Ref{Namespace: "clinic", Name: "all"}, Events: []event.Type{event.CallCompleted}},
		{Ref: endpoint.Ref{Namespace: "clinic", Name: "one"}, Events: []event.Type{event.CallCompleted}, Agents: []string{"agent_xyz"}},
	}))
	o := Options{
		Addr: "127.0.0.1:0", Namespace: "clinic", Queue: f.queue, Endpoints: f.current, Registerer: f.registry,
		Now: func() time.Time { return now },
	}
	for _, c := range change {
		c(&o)
	}
	f.server = New(o)
	return f
}

type request struct {
	method, path, contentType, body string
	header                          http.Header
}

func (f *fixture) do(t testing.TB, q request) *httptest.ResponseRecorder {
	t.Helper()
	if q.method == "" {
		q.method = http.MethodPost
	}
	if q.path == "" {
		q.path = Path
	}
	r := httptest.NewRequestWithContext(t.Context(), q.method, q.path, strings.NewReader(q.body))
	if q.contentType == "" {
		q.contentType = jsonType
	}
	if q.contentType != "-" {
		r.Header.Set("Content-Type", q.contentType)
	}
	maps.Copy(r.Header, q.header)
	w := httptest.NewRecorder()
	f.server.ServeHTTP(w, r)
	if got := w.Header().Get("Cache-Control"); got != "no-store" {
		t.Errorf("Cache-Control = %q", got)
	}
	return w
}

// metrics are the counters and gauges, as in `events_total custom` = 1, with one label at most.
func (f *fixture) metrics(t testing.TB) map[string]float64 {
	t.Helper()
	families, err := f.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, family := range families {
		for _, m := range family.GetMetric() {
			name := strings.TrimPrefix(family.GetName(), "webhook_dispatcher_ingest_")
			for _, label := range m.GetLabel() {
				name += " " + label.GetValue()
			}
			if h := m.GetHistogram(); h != nil {
				got[name] = float64(h.GetSampleCount())
				continue
			}
			got[name] = m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	return got
}

// zeros are the metrics of a server that did nothing.
func zeros() map[string]float64 {
	want := map[string]float64{"body_bytes_total": 0, "repeated_total": 0, "requests_in_flight": 0, "request_duration_seconds": 0}
	for _, class := range []string{"booking.created", "call.completed", "contact.created", "custom"} {
		want["events_total "+class], want["unmatched_total "+class] = 0, 0
	}
	for k := range answers {
		want["rejected_total "+string(k)] = 0
	}
	return want
}

func page(t testing.TB) string {
	t.Helper()
	payload, err := os.ReadFile("../event/testdata/call_completed.json")
	if err != nil {
		t.Fatal(err)
	}
	return string(payload)
}

const custom = `{"event":"custom.a","timestamp":"2026-01-01T00:00:00Z"}`

func keyed(values ...string) http.Header { return http.Header{keyHeader: values} }

// addr is the address that it listens on, nil before Start.
func (s *Server) addr() net.Addr {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.listener == nil {
		return nil
	}
	return s.listener.Addr()
}
