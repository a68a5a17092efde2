// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package handover

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/garyclub/webhook-operator/internal/event"
)

func TestAllOfADeliveryGoesAlong(t *testing.T) {
	q, sink := newFakeQueue(), &fakeSink{}
	_, address := serve(t, "queue-of-gateway", sink)
	s := newSource(t, q, "team", address)
	q.add(1, true)
	l := q.waiting[0]
	if n, err := s.Rest(t.Context()); n != 1 || err != nil {
		t.Fatalf("%d were handed over, error %v", n, err)
	}
	got := sink.taken()[0]
	if diff := cmp.Diff(l.event, got.Event); diff != "" {
		t.Errorf("event differs (-want +got):\n%s", diff)
	}
	want := l.d
	want.UID = "" // that is the gateway's to know
	if wait := got.Delivery.Wait; wait > 40*time.Second || wait < 30*time.Second {
		t.Errorf("it waits for %s, want what was left of it", wait)
	}
	if left := time.Until(got.Delivery.Due); left > 40*time.Second || left < 20*time.Second {
		t.Errorf("it is due in %s", left)
	}
	want.Due, want.Wait = got.Delivery.Due, got.Delivery.Wait
	if diff := cmp.Diff(want, got.Delivery); diff != "" {
		t.Errorf("delivery differs (-want +got):\n%s", diff)
	}
}

func TestALargeBacklogGoesInBoundedMessages(t *testing.T) {
	q, sink := newFakeQueue(), &fakeSink{}
	_, address := serve(t, "queue-of-gateway", sink)
	s := newSource(t, q, "team", address)
	q.add(2*maxParcels+1, false)
	q.add(7, false, sized(event.MaxPayloadBytes))
	want := q.left()
	if n, err := s.Rest(t.Context()); n != want || err != nil || q.left() != 0 {
		t.Fatalf("%d of %d were handed over, %d are left, error %v", n, want, q.left(), err)
	}
	if got := len(sink.taken()); got != want {
		t.Errorf("the gateway has %d of %d", got, want)
	}
}

func TestOnlyWhatIsNotDueGoesBeforeTheEnd(t *testing.T) {
	q, sink := newFakeQueue(), &fakeSink{}
	_, address := serve(t, "queue-of-gateway", sink)
	s := newSource(t, q, "team", "")
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { s.Start(ctx) })
	defer running.Wait()
	defer cancel()
	q.add(3, true)
	q.add(5, false)
	if s.Begun() || s.Known() {
		t.Error("it has begun by itself")
	}
	s.Begin()
	if err := s.SetGateway(address); err != nil { // a gateway that is installed later
		t.Fatal(err)
	}
	eventually(t, "the hand-over of what is not due", func() bool { return len(sink.taken()) == 5 })
	q.add(2, false) // what comes to wait later
	eventually(t, "the hand-over of what came later", func() bool { return len(sink.taken()) == 7 })
	if got := q.left(); got != 3 {
		t.Errorf("%d are left, want the 3 that are due", got)
	}
}

func TestAFullGatewayIsAskedAgain(t *testing.T) {
	q, sink := newFakeQueue(), &fakeSink{err: ErrFull}
	_, address := serve(t, "queue-of-gateway", sink)
	s := newSource(t, q, "team", address)
	q.add(5, true)
	if _, err := s.Rest(t.Context()); status.Code(errors.Unwrap(err)) != codes.ResourceExhausted {
		t.Errorf("error is %v, want ResourceExhausted", err)
	}
	if q.left() != 5 || q.released != 6*lastTries { // one of them to see whether there is anything
		t.Errorf("%d are left after %d were given back, want all", q.left(), q.released)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { s.Start(ctx) })
	defer running.Wait()
	defer cancel()
	q.add(5, false)
	s.Begin()
	sink.fail(nil)
	eventually(t, "the hand-over", func() bool { return len(sink.taken()) == 5 })
}

func TestNobodyHandsOverToItself(t *testing.T) {
	q, sink := newFakeQueue(), &fakeSink{}
	_, address := serve(t, "queue-of-source", sink)
	s := newSource(t, q, "team", address)
	q.add(1, true)
	if _, err := s.Rest(t.Context()); !errors.Is(err, errSelf) || q.left() != 1 || q.released == 0 {
		t.Errorf("error %v, %d left, %d given back", err, q.left(), q.released)
	}
}

func TestWithoutAGatewayEverythingStays(t *testing.T) {
	q := newFakeQueue()
	q.add(1, true)
	s := newSource(t, q, "team", "")
	if _, err := s.Rest(t.Context()); !errors.Is(err, ErrNoGateway) || q.left() != 1 {
		t.Errorf("error %v, %d left", err, q.left())
	}
	if err := s.SetGateway("127.0.0.1:1"); err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	if _, err := s.Rest(t.Context()); err == nil || q.left() != 1 {
		t.Errorf("error %v, %d left", err, q.left())
	}
	if took := time.Since(begin); took > (lastTries/lateTries+1)*answerTimeout {
		t.Errorf("a gateway that is away was waited for during %s", took)
	}
}

func TestWhatTheGatewayDoesNotTakeStays(t *testing.T) {
	q := newFakeQueue()
	sink := &fakeSink{take: func(p Parcel) Verdict {
		switch p.Delivery.Ref.Name {
		case "e1":
			return Unknown
		case "e2":
			return Failed
		case "e3":
			return Present
		}
		return Added
	}}
	_, address := serve(t, "queue-of-gateway", sink)
	s := newSource(t, q, "team", address)
	for i := range 5 {
		q.add(2, true, named(i))
	}
	q.add(1, true, named(5), func(l *fakeLease) { l.event.SHA256[0]++ }) // the bytes on our disk have changed
	if n, err := s.Rest(t.Context()); n != 8 || err != nil {
		t.Errorf("%d were handed over, error %v, want 8", n, err)
	}
	if got := q.left(); got != 3 {
		t.Errorf("%d are left, want the 2 of the endpoint that is not known and the one that is not valid", got)
	}
	q.unread = errors.New("input/output error")
	q.add(1, true, named(6))
	if n, err := s.Rest(t.Context()); n != 0 || err != nil || q.left() != 4 {
		t.Errorf("%d were handed over, error %v, %d left; want what cannot be read to stay", n, err, q.left())
	}
}

func TestWhoMayHandOver(t *testing.T) {
	sink := &fakeSink{}
	served, address := serve(t, "queue-of-gateway", sink)
	for token, want := range map[string]codes.Code{
		"team": codes.OK, "gateway": codes.OK, "other": codes.PermissionDenied, "nobody": codes.Unauthenticated,
	} {
		q := newFakeQueue()
		q.add(1, true)
		s := newSource(t, q, token, address)
		_, err := s.Rest(t.Context())
		if got := status.Code(errors.Unwrap(err)); err != nil && got != want || (err == nil) != (want == codes.OK) {
			t.Errorf("%s: error %v, want %s", token, err, want)
		}
	}
	served.Refuse()
	q := newFakeQueue()
	q.add(1, true)
	s := newSource(t, q, "team", address)
	if _, err := s.Rest(t.Context()); err == nil || q.left() != 1 {
		t.Errorf("a gateway that ends answered with %v, %d left", err, q.left())
	}
}

func TestAStreamThatDoesNothingIsEnded(t *testing.T) {
	served, _ := serve(t, "queue-of-gateway", &fakeSink{})
	for range maxPodStreams {
		if !served.enter("uid") {
			t.Fatal("a pod has no place")
		}
	}
	if served.enter("uid") {
		t.Error("a pod has more places than it may have")
	}
	served.leave("uid")
	if !served.enter("uid") {
		t.Error("a place that was left is not free")
	}
}
