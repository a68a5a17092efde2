// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package dispatcher

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/garyclub/webhook-operator/internal/deliver"
	"github.com/garyclub/webhook-operator/internal/delivery"
	"github.com/garyclub/webhook-operator/internal/endpoint"
	"github.com/garyclub/webhook-operator/internal/event"
	"github.com/garyclub/webhook-operator/internal/queue"
	"github.com/garyclub/webhook-operator/internal/queue/pebble"
)

// slow answers the endpoints of one namespace when it is told to, and the others at once.
type slow struct {
	namespace string
	answer    chan struct{}

	mu       sync.Mutex
	inFlight int
	most     int
	answered map[string]int // by namespace
}

func (s *slow) Post(ctx context.Context, p *endpoint.Endpoint, _ http.Header, _ []byte) (delivery.Reply, *delivery.Failure) {
	if p.Namespace == s.namespace {
		s.count(1)
		select {
		case <-s.answer:
		case <-ctx.Done():
		}
		s.count(-1)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answered[p.Namespace]++
	return delivery.Reply{StatusCode: 200}, nil
}

func (s *slow) count(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.inFlight += n
	s.most = max(s.most, s.inFlight)
}

func (s *slow) underWay() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.inFlight
}

func (s *slow) done(namespace string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.answered[namespace]
}

func TestANamespaceLeavesSlotsToOthers(t *testing.T) {
	const all, endpoints, each = 8, 20, 3
	q, err := pebble.Open(pebble.Options{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	var list []*endpoint.Endpoint
	for i := range endpoints {
		p := endpointOf(fmt.Sprint("e", i), "https://127.0.0.1/")
		p.Namespace, p.MaxInFlight = "many", 4
		list = append(list, p)
	}
	single := endpointOf("one", "https://127.0.0.1/")
	single.Namespace = "single"
	known := &endpoint.Current{}
	known.Store(endpoint.NewSnapshot(append(list, single)))
	poster := &slow{namespace: "many", answer: make(chan struct{}), answered: map[string]int{}}
	o := gatewayOptions()
	o.MaxInFlight = all
	stage := deliver.New(deliver.Options{Queue: deliverQueue{q}, Endpoints: known, Poster: poster,
		Metrics: deliver.NewMetrics(prometheus.NewRegistry()), MaxInFlight: all, MaxPerNamespace: o.maxPerNamespace(), Now: time.Now})
	stage.Start(t.Context())
	defer func() {
		stage.Stop(context.Background())
		if err := q.Close(); err != nil {
			t.Error(err)
		}
	}()
	add := func(namespace string, to ...*endpoint.Endpoint) {
		t.Helper()
		e, err := event.Parse(namespace, []byte(payload), time.Now())
		if err != nil {
			t.Fatal(err)
		}
		e.ID = event.NewID()
		if _, err := q.Append(t.Context(), []queue.Item{{Event: e, Matched: true, Endpoints: to}}); err != nil {
			t.Fatal(err)
		}
	}
	until := func(what string, done func() bool) {
		t.Helper()
		for limit := time.Now().Add(patience); !done(); {
			if time.Now().After(limit) {
				t.Fatalf("not seen: %s", what)
			}
			<-time.After(time.Millisecond)
		}
	}
	for range each {
		add("many", list...)
	}
	// Nothing is known of its endpoints: three quarters of its half.
	const most = all / 2 * 3 / 4
	until("its part of the slots taken", func() bool { return poster.underWay() == most })
	for range 5 {
		add("single", single)
	}
	until("the other namespace's deliveries", func() bool { return poster.done("single") == 5 })
	// None of those that were refused is forgotten.
	close(poster.answer)
	until("all of the first namespace's deliveries", func() bool { return poster.done("many") == endpoints*each })
	until("an empty queue", func() bool { return q.Stats().Waiting == 0 && stage.InFlight() == 0 })
	if poster.most > all/2 {
		t.Errorf("%d attempts of one namespace were under way, want at most %d", poster.most, all/2)
	}
}
