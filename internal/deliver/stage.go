// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package deliver is the stage that sends what is due: it leases a delivery, signs and sends one request, judges the
// answer and settles.
//
// Its commit point is Settle: it returns after the delivery's new state is on disk. A crash before it repeats the
// request with the same webhook-id; a crash after it repeats nothing. The schedule in the queue is the only owner of
// retries; nothing below this stage sends twice.
package deliver

import (
	"context"
	"math/rand/v2"
	"runtime/debug"
	"sync"
	"time"

	"github.com/go-logr/logr"

	"github.com/garyclub/webhook-operator/internal/delivery"
	"github.com/garyclub/webhook-operator/internal/endpoint"
	"github.com/garyclub/webhook-operator/internal/event"
)

// Lease is one due delivery, held until it is settled.
type Lease interface {
	Delivery() delivery.Delivery
	Event() (*event.Event, error)
	Settle(ctx context.Context, d delivery.Delivery) error
	Release(at time.Time)
}

// Queue is what the stage needs of the queue.
type Queue interface {
	Lease(ctx context.Context, admit func(endpoint.Ref) bool) (Lease, error)
	Unpark(ref endpoint.Ref)
	Waiting() []endpoint.Ref
	HoldGone(ctx context.Context, ref endpoint.Ref, incarnation string) error
	Gone(ref endpoint.Ref) string
}

// Endpoints is the snapshot in force, nil before the first.
type Endpoints interface{ Load() *endpoint.Snapshot }

// Options connect the stage.
type Options struct {
	Queue     Queue
	Endpoints Endpoints
	Poster    Poster
	Metrics   *Metrics
	// MaxInFlight bounds the attempts under way.
	MaxInFlight int
	// Now is the steady clock of due times.
	Now func() time.Time
}

// Stage runs attempts.
type Stage struct {
	Options
	gate *gate

	stopLeasing context.CancelFunc
	attempts    context.Context // ends when attempts are to be cut off
	cut         context.CancelFunc
	loop        chan struct{}
	running     sync.WaitGroup
}

// New returns a stage that is not started.
func New(o Options) *Stage {
	return &Stage{Options: o, gate: newGate(o.Endpoints, o.Queue.Gone, o.MaxInFlight), loop: make(chan struct{})}
}

// Start begins to lease; it returns at once.
func (s *Stage) Start(ctx context.Context) {
	s.attempts, s.cut = context.WithCancel(context.WithoutCancel(ctx))
	leasing, stop := context.WithCancel(s.attempts)
	s.stopLeasing = stop
	go s.lease(leasing)
}

// Stop leases nothing more and waits for the attempts in flight. When ctx ends first they are cut off and given back
// uncounted.
func (s *Stage) Stop(ctx context.Context) {
	s.stopLeasing()
	<-s.loop
	done := make(chan struct{})
	go func() { s.running.Wait(); close(done) }()
	select {
	case <-done:
	case <-ctx.Done():
	}
	s.cut()
	<-done
}

// InFlight is the number of attempts under way.
func (s *Stage) InFlight() int { return s.gate.flying() }

// EndpointsChanged looks again at everything that waits.
func (s *Stage) EndpointsChanged() {
	s.gate.forget()
	for _, ref := range s.Queue.Waiting() {
		s.Queue.Unpark(ref)
	}
}

func (s *Stage) lease(ctx context.Context) {
	defer close(s.loop)
	log := logr.FromContextOrDiscard(ctx)
	for {
		lease, err := s.Queue.Lease(ctx, s.gate.Admit)
		if ctx.Err() != nil {
			if lease != nil {
				s.giveBack(lease)
			}
			return
		}
		if err != nil {
			log.Error(err, "lease failed")
			return
		}
		s.running.Go(func() { s.run(lease) })
	}
}

// run makes one attempt. A panic costs an attempt and nothing else.
func (s *Stage) run(lease Lease) {
	d := lease.Delivery()
	outcome := delivery.OutcomeInterrupted
	defer func() {
		for _, ref := range s.gate.release(d.Ref, outcome) {
			s.Queue.Unpark(ref)
		}
	}()
	p := s.gate.find(d.Ref)
	if p == nil {
		lease.Release(s.Now()) // held since it was admitted
		return
	}
	e, err := lease.Event()
	if err != nil {
		logr.FromContextOrDiscard(s.attempts).Error(err, "read of an event failed", "eventID", d.EventID)
		lease.Release(s.Now().Add(time.Second))
		return
	}
	attempt := s.attempt(d, p, e)
	if attempt.Outcome == delivery.OutcomeInterrupted && s.attempts.Err() != nil {
		lease.Release(s.Now())
		return
	}
	outcome = attempt.Outcome
	s.settle(lease, d, p, attempt)
}

func (s *Stage) attempt(d delivery.Delivery, p *endpoint.Endpoint, e *event.Event) (a delivery.Attempt) {
	number, start := d.AttemptCount+1, time.Now()
	defer func() {
		if r := recover(); r != nil {
			// The value may quote the payload; the stack does not.
			logr.FromContextOrDiscard(s.attempts).Info("attempt panicked", "eventID", d.EventID, "stack", string(debug.Stack()))
			a = delivery.Attempt{Number: number, Start: start, Duration: time.Since(start),
				Outcome: delivery.OutcomeInterrupted, Message: "an internal error interrupted the attempt"}
		}
	}()
	return Attempt(s.attempts, s.Poster, Request{Endpoint: p, Event: e, Number: number, Test: d.Trigger == delivery.TriggerTest})
}

func (s *Stage) settle(lease Lease, d delivery.Delivery, p *endpoint.Endpoint, a delivery.Attempt) {
	log := logr.FromContextOrDiscard(s.attempts).WithValues("namespace", d.Ref.Namespace, "endpoint", d.Ref.Name,
		"eventID", d.EventID, "attempt", a.Number)
	// Not the context of the attempts: what has been sent is settled even while stopping.
	ctx := context.WithoutCancel(s.attempts)
	after := delivery.After(d, p, a, s.Now(), rand.Float64())
	if a.Outcome == delivery.OutcomeGone {
		if err := s.Queue.HoldGone(ctx, d.Ref, p.Incarnation); err != nil {
			log.Error(err, "hold after 410 failed")
		}
	}
	if err := lease.Settle(ctx, after); err != nil {
		log.Error(err, "settle failed; the attempt will be repeated")
		return
	}
	s.Metrics.observe(a, after)
	report(log, a, after)
}

func report(log logr.Logger, a delivery.Attempt, d delivery.Delivery) {
	switch d.State {
	case delivery.Failed:
		log.Info("delivery failed", "reason", d.Reason, "statusCode", a.StatusCode)
	case delivery.Retrying:
		log.V(1).Info("attempt failed", "reason", string(a.Outcome), "statusCode", a.StatusCode, "retryAt", d.Due)
	default:
		log.V(1).Info("delivered", "statusCode", a.StatusCode)
	}
}

func (s *Stage) giveBack(lease Lease) {
	ref := lease.Delivery().Ref
	lease.Release(s.Now())
	s.gate.release(ref, delivery.OutcomeInterrupted)
}
