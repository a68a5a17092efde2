// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"golang.org/x/time/rate"
	"k8s.io/client-go/rest"

	"github.com/garyclub/webhook-operator/api/v1alpha1"
	"github.com/garyclub/webhook-operator/internal/fixture/receiver"
)

const (
	eventsPerSecond   = 200
	failuresPerSecond = 2
	budgetEndpoints   = 20
	writeBudget       = 50 // the manager's default, per second
)

// Above the budget records are left out, visibly; the counters stay exact, and what failed has its record.
func TestWritesStayWithinTheBudgetAndCountersAreExact(t *testing.T) {
	n := newTenant(t, "budget")
	healthy := receive(t, receiver.Options{})
	broken := receive(t, receiver.Options{Script: []receiver.Step{{Status: 500}}})
	var names []string
	for i := range budgetEndpoints {
		name, r := fmt.Sprintf("e%d", i), healthy
		if i == 0 {
			r = broken
		}
		names = append(names, name)
		n.endpoint(name, r, onRequest, func(s *v1alpha1.WebhookEndpointSpec) {
			s.Events = []v1alpha1.EventType{v1alpha1.EventType("custom." + name)}
			s.Retry = v1alpha1.RetrySpec{MaxRetries: 0, InitialBackoffSeconds: 1, MaxBackoffSeconds: 300, DeadlineSeconds: 86400}
			s.History = v1alpha1.HistorySpec{Succeeded: 10, Failed: 200, TTLSecondsAfterFinished: 3600}
		})
	}
	n.start()
	n.upToDate(names...)

	p := &producer{url: n.EventsURL(), accepted: map[string]int64{}}
	before := writes(t)
	p.produce(t, time.Minute)
	after := writes(t)
	t.Logf("%d events accepted; %d mutating requests at the API server in 60 s", p.total(), after-before)
	if limit := 60 * writeBudget; after-before > limit {
		t.Errorf("%d mutating requests in 60 s, want at most %d", after-before, limit)
	}
	failures := int(p.count("e0"))
	if got := len(n.finished("e0", v1alpha1.DeliveryFailed, failures, soon)); got != failures {
		t.Errorf("%d failures have their record, want all %d", got, failures)
	}

	// The same with both killed in between.
	var killing sync.WaitGroup
	killing.Go(func() {
		<-time.After(3 * time.Second)
		n.Kill()
		n.restart()
		sys.KillManager()
		if err := sys.StartManager(t.Context()); err != nil {
			t.Error(err)
		}
	})
	p.produce(t, 15*time.Second)
	killing.Wait()

	var unrecorded, sum int64
	for _, name := range names {
		succeeded, failed := p.count(name), int64(0)
		if name == "e0" {
			succeeded, failed = failed, succeeded
		}
		n.counted(name, succeeded, failed)
		c := n.get(name).Status.Deliveries
		unrecorded += c.Unrecorded
		sum += c.Succeeded + c.Failed
		if c.Unrecorded > c.Succeeded+c.Failed {
			t.Errorf("%s: %d unrecorded of %d", name, c.Unrecorded, c.Succeeded+c.Failed)
		}
	}
	t.Logf("%d accepted: %d counted, %d of them without a record", p.total(), sum, unrecorded)
	if sum != p.total() {
		t.Errorf("%d accepted, %d counted", p.total(), sum)
	}
}

// producer posts one event per request at a fixed rate, and again under the same key until it is accepted.
type producer struct {
	url string

	mu       sync.Mutex
	accepted map[string]int64 // by endpoint
	next     atomic.Int64
}

func (p *producer) produce(t *testing.T, duration time.Duration) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), duration)
	defer cancel()
	pace := rate.NewLimiter(eventsPerSecond, 10)
	var workers sync.WaitGroup
	for range 8 {
		workers.Go(func() {
			for pace.Wait(ctx) == nil {
				number := p.next.Add(1)
				endpoint := fmt.Sprintf("e%d", 1+number%(budgetEndpoints-1))
				if number%(eventsPerSecond/failuresPerSecond) == 0 {
					endpoint = "e0"
				}
				// What was begun is finished: whether it was accepted has to be known.
				if err := p.post(context.WithoutCancel(ctx), endpoint, number); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	workers.Wait()
}

func (p *producer) post(ctx context.Context, endpoint string, number int64) error {
	body := call("custom."+endpoint, fmt.Sprintf("call_%d", number))
	for {
		a, err := post(ctx, p.url, "application/json", body, "Idempotency-Key", fmt.Sprint(number))
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err == nil && a.code == http.StatusAccepted:
			p.mu.Lock()
			p.accepted[endpoint]++
			p.mu.Unlock()
			return nil
		case err == nil && a.code != http.StatusServiceUnavailable:
			return fmt.Errorf("answer %d %s", a.code, a.text)
		}
		select { // the dispatcher is being started again
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
		}
	}
}

func (p *producer) count(endpoint string) int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.accepted[endpoint]
}

func (p *producer) total() (sum int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, n := range p.accepted {
		sum += n
	}
	return sum
}

var mutating = []string{http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete}

// writes is how many mutating requests the API server has answered, by its own count.
func writes(t *testing.T) (sum int) {
	t.Helper()
	client, err := rest.HTTPClientFor(sys.Config())
	if err != nil {
		t.Fatal(err)
	}
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, sys.Config().Host+"/metrics", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	response, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	requests := families["apiserver_request_total"]
	if requests == nil {
		t.Fatal("the API server has no apiserver_request_total")
	}
	for _, m := range requests.GetMetric() {
		for _, l := range m.GetLabel() {
			if l.GetName() == "verb" && slices.Contains(mutating, l.GetValue()) {
				sum += int(m.GetCounter().GetValue())
			}
		}
	}
	return sum
}
