// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"sync"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/event"

	"k8s.io/apimachinery/pkg/types"

	"github.com/garyclub/webhook-operator/api/v1alpha1"
	"github.com/garyclub/webhook-operator/internal/deliver"
	"github.com/garyclub/webhook-operator/internal/delivery"
	"github.com/garyclub/webhook-operator/internal/egress"
	"github.com/garyclub/webhook-operator/internal/endpoint"
	callevent "github.com/garyclub/webhook-operator/internal/event"
)

const (
	probeWorkers   = 8
	probeBacklog   = 8192
	inspectTimeout = 10 * time.Second
	// testPace is the least time between two test events to one host: receivers see them as real ones.
	testPace = time.Second
)

// Network is the way out: the client that dispatchers use too.
type Network interface {
	deliver.Poster
	Inspect(ctx context.Context, p *endpoint.Endpoint) (egress.Certificate, error)
}

// inspection is what a look at an endpoint's address and certificate found.
type inspection struct {
	of          string // hash of what was looked at
	at          time.Time
	certificate egress.Certificate
	failure     *delivery.Failure
}

// testRun is a test event: one delivery with its attempts.
type testRun struct {
	of       string // hash of where it goes, or the value of the request
	delivery delivery.Delivery
	event    *callevent.Event
	running  bool
}

// Prober does what takes the network: it looks at addresses and sends test events, a bounded number at once, and asks
// for a reconciliation when it is done. What it knows is in memory; what must survive is in the status.
type Prober struct {
	network Network
	jobs    chan func(context.Context)
	changed chan<- event.GenericEvent

	mu          sync.Mutex
	inspections map[types.NamespacedName]*inspection
	pending     map[types.NamespacedName]string
	tests       map[types.NamespacedName]*testRun
	hosts       map[string]time.Time // when the latest test went out
}

// NewProber returns a prober that tells changed what it has news about.
func NewProber(network Network, changed chan<- event.GenericEvent) *Prober {
	return &Prober{network: network, jobs: make(chan func(context.Context), probeBacklog), changed: changed,
		inspections: map[types.NamespacedName]*inspection{}, pending: map[types.NamespacedName]string{},
		tests: map[types.NamespacedName]*testRun{}, hosts: map[string]time.Time{}}
}

// Start works until ctx ends.
func (p *Prober) Start(ctx context.Context) error {
	var workers sync.WaitGroup
	for range probeWorkers {
		workers.Go(func() {
			for {
				select {
				case <-ctx.Done():
					return
				case job := <-p.jobs:
					job(ctx)
				}
			}
		})
	}
	workers.Wait()
	return nil
}

// Forget drops what is known of a deleted endpoint.
func (p *Prober) Forget(name types.NamespacedName) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.inspections, name)
	delete(p.pending, name)
	delete(p.tests, name)
}

// inspected returns the latest inspection of the hash, or nil.
func (p *Prober) inspected(name types.NamespacedName, of string) *inspection {
	p.mu.Lock()
	defer p.mu.Unlock()
	if found := p.inspections[name]; found != nil && found.of == of {
		return found
	}
	return nil
}

// inspect asks for a look, unless one is under way. A full backlog is asked again by the next reconciliation.
func (p *Prober) inspect(name types.NamespacedName, of string, e *endpoint.Endpoint) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.pending[name] == of {
		return
	}
	job := func(ctx context.Context) {
		ctx, cancel := context.WithTimeout(ctx, inspectTimeout)
		defer cancel()
		certificate, err := p.network.Inspect(ctx, e)
		found := &inspection{of: of, at: time.Now(), certificate: certificate, failure: failureOf(err)}
		p.mu.Lock()
		if p.pending[name] == of {
			p.inspections[name] = found
			delete(p.pending, name)
		}
		p.mu.Unlock()
		p.tell(ctx, name)
	}
	select {
	case p.jobs <- job:
		p.pending[name] = of
	default:
	}
}

// tested returns the test run of the hash, or nil.
func (p *Prober) tested(name types.NamespacedName, of string) *testRun {
	p.mu.Lock()
	defer p.mu.Unlock()
	if run := p.tests[name]; run != nil && run.of == of {
		copied := *run
		return &copied
	}
	return nil
}

// pace says how long a test to the host has to wait.
func (p *Prober) pace(host string, now time.Time) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	if wait := testPace - now.Sub(p.hosts[host]); wait > 0 && wait <= testPace {
		return wait
	}
	if len(p.hosts) > probeBacklog {
		clear(p.hosts)
	}
	p.hosts[host] = now
	return 0
}

// send makes one attempt of the test run.
func (p *Prober) send(name types.NamespacedName, e *endpoint.Endpoint, run testRun) {
	p.mu.Lock()
	defer p.mu.Unlock()
	run.running = true
	job := func(ctx context.Context) {
		d := run.delivery
		attempt := deliver.Attempt(ctx, p.network, deliver.Request{Endpoint: e, Event: run.event, Number: d.AttemptCount + 1, Test: true})
		done := testRun{of: run.of, event: run.event, delivery: delivery.After(d, e, attempt, time.Now(), 0.5)}
		p.mu.Lock()
		if now := p.tests[name]; now != nil && now.of == run.of {
			p.tests[name] = &done
		}
		p.mu.Unlock()
		p.tell(ctx, name)
	}
	select {
	case p.jobs <- job:
		p.tests[name] = &run
	default:
	}
}

func (p *Prober) tell(ctx context.Context, name types.NamespacedName) {
	object := &v1alpha1.WebhookEndpoint{}
	object.Namespace, object.Name = name.Namespace, name.Name
	select {
	case p.changed <- event.GenericEvent{Object: object}:
	case <-ctx.Done():
	}
}
