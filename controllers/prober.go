// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/util/workqueue"
	ctrlevent "sigs.k8s.io/controller-runtime/pkg/event"

	"github.com/garyclub/webhook-operator/api/v1alpha1"
	"github.com/garyclub/webhook-operator/internal/deliver"
	"github.com/garyclub/webhook-operator/internal/delivery"
	"github.com/garyclub/webhook-operator/internal/endpoint"
)

// probeWorkers bounds the connections under way at once.
const probeWorkers = 8

// Prober looks at the network for the reconciler: it inspects addresses and sends test events, on the leader alone,
// by a bounded number of workers, one at a time per endpoint. What it found stays in memory, one entry per endpoint.
type Prober struct {
	network Network
	// changed hears of an endpoint about which something new is known.
	changed chan<- ctrlevent.GenericEvent
	// recorder may be nil: then test events have no DeliveryAttempts.
	recorder Recorder
	metrics  *Metrics

	mu     sync.Mutex
	queue  workqueue.TypedDelayingInterface[endpoint.Ref] // nil before Start
	probes map[endpoint.Ref]*probe
	hosts  hostPace
}

// probe is what is known about one endpoint, and what is to be done.
type probe struct {
	uid        string
	inspection *inspection
	test       *testRun
	// superseded are the last records of runs that another order took the place of, until a worker has offered them.
	superseded []delivery.Record
	// cancel ends the network step under way; nil when there is none.
	cancel context.CancelFunc
}

// NewProber returns a prober that works once it is started. The reconciler that it works for gives it the recorder and
// the metrics.
func NewProber(network Network, changed chan<- ctrlevent.GenericEvent) *Prober {
	return &Prober{network: network, changed: changed, probes: map[endpoint.Ref]*probe{}, hosts: hostPace{}}
}

// NeedLeaderElection is true: two managers would send each test event twice.
func (b *Prober) NeedLeaderElection() bool { return true }

// Start works until ctx ends. What is under way then is interrupted and has no result.
func (b *Prober) Start(ctx context.Context) error {
	queue := workqueue.NewTypedDelayingQueue[endpoint.Ref]()
	b.mu.Lock()
	b.queue = queue
	for ref := range b.probes {
		queue.Add(ref)
	}
	b.mu.Unlock()
	stop := context.AfterFunc(ctx, queue.ShutDown)
	defer stop()
	var workers sync.WaitGroup
	for range probeWorkers {
		workers.Go(func() { b.work(ctx, queue) })
	}
	workers.Wait()
	return nil
}

// work relies on the queue: it never hands out an endpoint that another worker is busy with.
func (b *Prober) work(ctx context.Context, queue workqueue.TypedDelayingInterface[endpoint.Ref]) {
	for {
		ref, shutdown := queue.Get()
		if shutdown {
			return
		}
		if ctx.Err() == nil {
			b.step(ctx, ref, queue)
		}
		queue.Done(ref)
	}
}

// step does the one thing that is due, or waits for the next one.
func (b *Prober) step(ctx context.Context, ref endpoint.Ref, queue workqueue.TypedDelayingInterface[endpoint.Ref]) {
	within, cancel := context.WithCancel(ctx)
	defer cancel()
	do, wait := b.next(within, ref, cancel)
	if do == nil {
		if wait > 0 {
			queue.AddAfter(ref, wait)
		}
		return
	}
	do()
	b.tell(ctx, ref)
	queue.Add(ref)
}

// tell waits while the reconciler's backlog is full: what was found is of no use before it is looked at.
func (b *Prober) tell(ctx context.Context, ref endpoint.Ref) {
	news := &v1alpha1.WebhookEndpoint{ObjectMeta: metav1.ObjectMeta{Namespace: ref.Namespace, Name: ref.Name}}
	select {
	case b.changed <- ctrlevent.GenericEvent{Object: news}:
	case <-ctx.Done():
	}
}

// next picks what is due. The inspection comes first, since without it a test's failure says less.
func (b *Prober) next(ctx context.Context, ref endpoint.Ref, cancel context.CancelFunc) (do func(), wait time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	p := b.probes[ref]
	if p == nil {
		return nil, 0
	}
	now := time.Now()
	p.cancel = nil
	if ended := p.superseded; len(ended) > 0 {
		p.superseded = nil
		return func() {
			for _, record := range ended {
				b.offer(ctx, record)
			}
		}, 0
	}
	if i := p.inspection; i != nil {
		if wait = i.due.Sub(now); wait <= 0 {
			p.cancel = cancel
			subject := i.subject
			return func() { b.inspect(ctx, ref, i, subject) }, 0
		}
	}
	run := p.test
	if run == nil || run.delivery.State.Done() {
		return nil, wait
	}
	if !run.paced && !run.delivery.Due.After(now) {
		run.paced = true
		run.delivery.Due = b.hosts.take(hostOf(run.subject), now)
	}
	if until := run.delivery.Due.Sub(now); until > 0 {
		if wait <= 0 || until < wait {
			wait = until
		}
		return nil, wait
	}
	p.cancel = cancel
	request := deliver.Request{Endpoint: run.subject, Event: run.event, Number: run.delivery.AttemptCount + 1, Test: true}
	return func() { b.attempt(ctx, ref, run, request) }, 0
}

// of returns the entry of an endpoint, a fresh one when the object is another of the same name. It needs the lock.
func (b *Prober) of(ref endpoint.Ref, uid string) *probe {
	p := b.probes[ref]
	if p == nil || p.uid != uid {
		p.interrupt()
		p = &probe{uid: uid}
		b.probes[ref] = p
	}
	return p
}

func (p *probe) interrupt() {
	if p != nil && p.cancel != nil {
		p.cancel()
		p.cancel = nil
	}
}

// wake needs the lock.
func (b *Prober) wake(ref endpoint.Ref) {
	if b.queue != nil {
		b.queue.Add(ref)
	}
}

// Forget drops an endpoint that is gone.
func (b *Prober) Forget(ref endpoint.Ref) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.probes[ref].interrupt()
	delete(b.probes, ref)
}

func (b *Prober) offer(ctx context.Context, r delivery.Record) {
	if b.recorder == nil {
		return
	}
	// A recorder that is full does not hold up the next endpoint's test: the result is in the endpoint's status too.
	ctx, cancel := context.WithTimeout(ctx, offerTimeout)
	defer cancel()
	if err := b.recorder.Offer(ctx, r.Ref.Namespace, r, func(bool) {}); err != nil {
		b.metrics.unrecorded.Inc()
	}
}

// jitter is in [0,1).
func jitter() float64 { return rand.Float64() }
