// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package dispatcher

import (
	"context"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-logr/logr"

	"github.com/garyclub/webhook-operator/internal/delivery"
	"github.com/garyclub/webhook-operator/internal/endpoint"
	"github.com/garyclub/webhook-operator/internal/queue"
)

// waitingQueue keeps deadlines by endpoint, and counts how often it is looked through.
type waitingQueue struct {
	queue.Queue

	mu        sync.Mutex
	deadlines map[endpoint.Ref][]time.Time
	counted   chan struct{}
	looks     int
	expired   map[string]int // by reason
	scans     int
}

func (q *waitingQueue) add(ref endpoint.Ref, deadline time.Time) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.deadlines[ref] = append(q.deadlines[ref], deadline)
	q.count()
}

func (q *waitingQueue) count() {
	close(q.counted)
	q.counted = make(chan struct{})
}

func (q *waitingQueue) Counted() <-chan struct{} {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.counted
}

func (q *waitingQueue) Waiting() (refs []endpoint.Ref) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.looks++
	for ref := range q.deadlines {
		refs = append(refs, ref)
	}
	return refs
}

func (q *waitingQueue) Expire(_ context.Context, ref endpoint.Ref, every bool, reason string) (ended int, next time.Time, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.scans++
	var left []time.Time
	for _, deadline := range q.deadlines[ref] {
		if every || time.Now().After(deadline) {
			ended++
			continue
		}
		left = append(left, deadline)
		if next.IsZero() || deadline.Before(next) {
			next = deadline
		}
	}
	if q.deadlines[ref] = left; len(left) == 0 {
		delete(q.deadlines, ref)
	}
	if q.expired[reason] += ended; ended > 0 {
		q.count()
	}
	return ended, next, nil
}

func (q *waitingQueue) Gone(endpoint.Ref) string { return "" }
func (q *waitingQueue) Rematch()                 {}

func (q *waitingQueue) ended(reason string) int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.expired[reason]
}

func (q *waitingQueue) work() (looks, scans int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.looks, q.scans
}

// sweeper is the endpoints of a bubble with a sweep that runs until the test ends.
func sweeper(t *testing.T, list ...*endpoint.Endpoint) (*endpoints, *waitingQueue) {
	t.Helper()
	q := &waitingQueue{deadlines: map[endpoint.Ref][]time.Time{}, counted: make(chan struct{}), expired: map[string]int{}}
	e := &endpoints{namespace: namespace, queue: q, file: filepath.Join(t.TempDir(), "endpoints"), grace: time.Minute,
		clock: steadyClock(), changed: func() {}, log: logr.Discard(), listed: make(chan struct{}, 1)}
	apply(t, e, list...)
	go e.sweep(t.Context())
	pass(0)
	return e, q
}

func apply(t *testing.T, e *endpoints, list ...*endpoint.Endpoint) {
	t.Helper()
	if err := e.apply(list); err != nil {
		t.Fatal(err)
	}
}

// pass lets the bubble's time pass.
func pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

func held() *endpoint.Endpoint {
	p := endpointOf("held", "https://127.0.0.1/")
	p.Hold = endpoint.HoldSuspended
	return p
}

func TestSweepSleepsWhileNothingCanEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := held()
		_, q := sweeper(t, p, endpointOf("well", "https://127.0.0.1/"))
		q.add(endpointOf("well", "").Ref, time.Now().Add(time.Minute))
		pass(12 * time.Hour)
		if looks, scans := q.work(); looks > 5 || scans != 0 {
			t.Errorf("with nothing held that waits: %d looks and %d scans in 12 hours", looks, scans)
		}
		q.add(p.Ref, time.Now().Add(2*time.Hour))
		q.add(p.Ref, time.Now().Add(3*time.Hour))
		pass(2*time.Hour + sweepInterval)
		if n := q.ended(delivery.ReasonDeadlineExceeded); n != 1 {
			t.Errorf("%d ended after the first deadline, want 1", n)
		}
		pass(time.Hour)
		if n := q.ended(delivery.ReasonDeadlineExceeded); n != 2 {
			t.Errorf("%d ended after the second deadline, want 2", n)
		}
		if looks, scans := q.work(); looks > 15 || scans > 10 {
			t.Errorf("%d looks and %d scans for two deadlines", looks, scans)
		}
	})
}

func TestSweepUnderLoadScansNothingThatIsNotDue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := held()
		_, q := sweeper(t, p)
		q.add(p.Ref, time.Now().Add(time.Hour))
		for range 100 { // others' deliveries come and go
			pass(time.Second)
			q.mu.Lock()
			q.count()
			q.mu.Unlock()
		}
		if looks, scans := q.work(); looks > 9 || scans != 1 {
			t.Errorf("%d looks and %d scans in 100 seconds, want one in 15 seconds and one scan", looks, scans)
		}
	})
}

func TestDeletedEndpointHasItsGrace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := endpointOf("a", "https://127.0.0.1/")
		e, q := sweeper(t, p)
		q.add(p.Ref, time.Now().Add(24*time.Hour))
		pass(time.Hour)
		apply(t, e)
		pass(30 * time.Second)
		apply(t, e, p) // a tool that replaces it
		pass(time.Hour)
		if n := q.ended(delivery.ReasonEndpointDeleted); n != 0 {
			t.Errorf("%d ended although the endpoint came back", n)
		}
		apply(t, e)
		pass(59 * time.Second)
		if n := q.ended(delivery.ReasonEndpointDeleted); n != 0 {
			t.Errorf("%d ended before the grace had passed", n)
		}
		pass(sweepInterval + time.Second)
		if n := q.ended(delivery.ReasonEndpointDeleted); n != 1 {
			t.Errorf("%d ended after the grace, want 1", n)
		}
	})
}

func TestRefusedListChangesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := endpointOf("a", "https://127.0.0.1/")
		e, _ := sweeper(t, p)
		foreign := endpointOf("b", "https://127.0.0.1/")
		foreign.Namespace = "other"
		if err := e.apply([]*endpoint.Endpoint{foreign}); err == nil || !strings.Contains(err.Error(), "--namespace") {
			t.Errorf("error is %v, want one that names the flag", err)
		}
		if known := e.known(); len(known) != 1 || known[0] != p {
			t.Errorf("in force are %v, want what was", known)
		}
		// Nor is a list taken from the disk that a run under another flag has left.
		again := &endpoints{namespace: "other", file: e.file, log: logr.Discard()}
		if again.load(); again.Load() != nil {
			t.Error("the last known endpoints of another namespace are in force")
		}
	})
}
