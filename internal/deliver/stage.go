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
	"sync"
	"sync/atomic"
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
	UnparkAll()
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
	// MaxInFlight bounds the attempts under way, and MaxPerNamespace those of one namespace; 0 is no bound of its own.
	MaxInFlight     int
	MaxPerNamespace int
	// Now is the steady clock of due times.
	Now func() time.Time
}

// Stage runs attempts.
type Stage struct {
	Options
	gate *gate

	mu          sync.Mutex
	stopLeasing context.CancelFunc // nil before Start
	attempts    context.Context    // ends when attempts are to be cut off
	cut         context.CancelFunc
	loop        chan struct{}
	running     sync.WaitGroup
	busy        atomic.Int64 // of running

	// unread counts the faults in reading the event of a delivery, for those that had any.
	unreadMu sync.Mutex
	unread   map[unreadKey]int
}

// New returns a stage that is not started.
func New(o Options) *Stage {
	g := newGate(o.Endpoints, o.Queue.Gone, max(o.MaxInFlight, 1))
	if o.MaxPerNamespace > 0 {
		g.perNamespace = o.MaxPerNamespace
	}
	return &Stage{Options: o, gate: g, loop: make(chan struct{}), unread: map[unreadKey]int{}}
}

// Start begins to lease, once; it returns at once. The end of ctx is not the end of the stage: that is Stop.
func (s *Stage) Start(ctx context.Context) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopLeasing != nil {
		return
	}
	s.attempts, s.cut = context.WithCancel(context.WithoutCancel(ctx))
	leasing, stop := context.WithCancel(s.attempts)
	s.stopLeasing = stop
	go s.lease(leasing) //nolint:contextcheck // the end that ctx asks for is graceful: Stop cuts it off
}

// Stop leases nothing more and waits for the attempts in flight. When ctx ends first they are cut off and given back
// uncounted.
func (s *Stage) Stop(ctx context.Context) {
	s.mu.Lock()
	stop := s.stopLeasing
	s.mu.Unlock()
	if stop == nil {
		return
	}
	stop()
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

// InFlight is the number of attempts under way. One counts until those that waited for its slot may go on.
func (s *Stage) InFlight() int { return int(s.busy.Load()) }

// EndpointsChanged looks again at everything that waits.
func (s *Stage) EndpointsChanged() {
	s.gate.forget()
	s.Queue.UnparkAll()
}

// faultPause is the wait after the queue failed: a stage that ended then would be a dispatcher that looks well and
// delivers nothing.
const faultPause = time.Second

func (s *Stage) lease(ctx context.Context) {
	defer close(s.loop)
	log := logr.FromContextOrDiscard(ctx)
	for ctx.Err() == nil {
		lease, err := s.Queue.Lease(ctx, s.gate.Admit)
		switch {
		case err == nil && ctx.Err() == nil:
			s.busy.Add(1)
			s.running.Go(func() { //nolint:contextcheck // see Start
				defer s.busy.Add(-1)
				s.run(lease)
			})
		case err == nil:
			s.giveBack(lease)
		case ctx.Err() == nil:
			s.Metrics.faults.Inc()
			log.Error(err, "lease failed")
			pause(ctx, faultPause)
		}
	}
}

func pause(ctx context.Context, wait time.Duration) {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

func (s *Stage) giveBack(lease Lease) {
	lease.Release(s.Now())
	s.gate.release(lease.Delivery().Ref, delivery.OutcomeInterrupted)
}
