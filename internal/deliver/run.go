// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package deliver

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/go-logr/logr"

	"github.com/garyclub/webhook-operator/internal/delivery"
	"github.com/garyclub/webhook-operator/internal/endpoint"
)

// settlePause is the wait before a delivery is attempted again whose settlement the queue refused: its receiver has had
// the request, and is not to have it again at once for as long as our disk is ill.
const settlePause = 10 * time.Second

// A delivery whose event cannot be read is put off by readPause up to maxReadFaults times before that uses up an attempt.
const (
	readPause     = 5 * time.Second
	maxReadFaults = 3
	maxUnread     = 1024
)

// run makes one attempt and settles it.
func (s *Stage) run(lease Lease) {
	d := lease.Delivery()
	outcome := delivery.OutcomeInterrupted
	s.Metrics.inFlight.Inc()
	defer func() {
		s.Metrics.inFlight.Dec()
		for _, ref := range s.gate.release(d.Ref, outcome) {
			s.Queue.Unpark(ref)
		}
	}()
	// Read now and not at the lease: a mended URL helps the retries too.
	p := s.gate.find(d.Ref)
	if p == nil {
		lease.Release(s.Now()) // held since it was admitted
		return
	}
	a, made := s.attempt(lease, d, p)
	if !made {
		lease.Release(s.Now().Add(readPause))
		return
	}
	if a.Outcome == delivery.OutcomeInterrupted && s.attempts.Err() != nil {
		lease.Release(s.Now()) // cut off by Stop: not counted
		return
	}
	outcome = a.Outcome
	s.settle(lease, d, p, a)
}

// attempt makes the attempt, unless our own disk is in its way and may be well again soon.
func (s *Stage) attempt(lease Lease, d delivery.Delivery, p *endpoint.Endpoint) (a delivery.Attempt, made bool) {
	number := d.AttemptCount + 1
	e, err := lease.Event()
	again := s.readAgain(d, err != nil)
	if err == nil {
		return Attempt(s.attempts, s.Poster, Request{Endpoint: p, Event: e, Number: number, Test: d.Trigger == delivery.TriggerTest}), true
	}
	s.Metrics.faults.Inc()
	logr.FromContextOrDiscard(s.attempts).Error(err, "read of an event failed", "namespace", d.Ref.Namespace,
		"endpoint", d.Ref.Name, "eventID", d.EventID)
	if again {
		return delivery.Attempt{}, false
	}
	// Counted in the end, although the fault is ours: given back for ever, a record that cannot be read would stand at the
	// head of its endpoint's line.
	return interrupted(number, time.Now(), "the event could not be read from the queue"), true
}

// unreadKey names a delivery.
type unreadKey struct {
	ref     endpoint.Ref
	eventID string
}

// readAgain notes how a read went and says whether a failed one is to be repeated without using up an attempt. Of more
// than maxUnread deliveries at a time the disk is past waiting for.
func (s *Stage) readAgain(d delivery.Delivery, failed bool) bool {
	s.unreadMu.Lock()
	defer s.unreadMu.Unlock()
	key := unreadKey{d.Ref, d.EventID}
	n, known := s.unread[key]
	if !failed || n >= maxReadFaults || !known && len(s.unread) >= maxUnread {
		delete(s.unread, key)
		return false
	}
	s.unread[key] = n + 1
	return true
}

func (s *Stage) settle(lease Lease, d delivery.Delivery, p *endpoint.Endpoint, a delivery.Attempt) {
	log := logr.FromContextOrDiscard(s.attempts).WithValues("namespace", d.Ref.Namespace, "endpoint", d.Ref.Name,
		"eventID", d.EventID, "attempt", a.Number)
	// Not the context of the attempts: what has been sent is settled even while stopping.
	ctx := context.WithoutCancel(s.attempts)
	after := delivery.After(d, p, a, s.Now(), rand.Float64())
	if a.Outcome == delivery.OutcomeGone {
		// Before the settlement, so that a crash between the two repeats the request that will say so again.
		if err := s.Queue.HoldGone(ctx, d.Ref, p.Incarnation); err != nil {
			log.Error(err, "hold after 410 failed")
		}
	}
	if err := lease.Settle(ctx, after); err != nil {
		s.Metrics.faults.Inc()
		log.Error(err, "settle failed; the attempt will be repeated")
		lease.Release(s.Now().Add(settlePause))
		return
	}
	s.Metrics.observe(a)
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
