// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package handover

import (
	"context"
	"errors"
	"strconv"
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
	eventually(t, "that only what is due is left", func() bool { return q.left() == 3 })
}

func TestAGatewayThatRefusesIsAskedUntilTheEnd(t *testing.T) {
	for name, refusal := range map[string]error{"full": ErrFull, "not ready": ErrNotReady, "broken": errors.New("input/output error")} {
		q, sink := newFakeQueue(), &fakeSink{err: refusal}
		_, address := serve(t, "queue-of-gateway", sink)
		s := newSource(t, q, "team", address)
		q.add(5, true)
		ctx, cancel := context.WithCancel(t.Context())
		var resting sync.WaitGroup
		resting.Go(func() {
			_, err := s.Rest(ctx)
			if code := status.Code(errors.Unwrap(err)); code != codes.ResourceExhausted && code != codes.Unavailable {
				t.Errorf("%s: error is %v, want the refusal", name, err)
			}
		})
		eventually(t, "several refusals", func() bool { return sink.refusals() >= 5 })
		cancel()
		resting.Wait()
		if q.left() != 5 || q.lent() != 0 {
			t.Errorf("%s: %d are left, %d of them leased", name, q.left(), q.lent())
		}
		resting.Go(func() {
			if n, err := s.Rest(t.Context()); n != 5 || err != nil {
				t.Errorf("%s: %d were handed over, error %v", name, n, err)
			}
		})
		eventually(t, "another refusal", func() bool { return sink.refusals() >= 6 })
		sink.fail(nil)
		resting.Wait()
	}
}

func TestWhatIsNotDueIsOfferedAgain(t *testing.T) {
	q, sink := newFakeQueue(), &fakeSink{err: ErrFull}
	_, address := serve(t, "queue-of-gateway", sink)
	s := newSource(t, q, "team", address)
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { s.Start(ctx) })
	defer running.Wait()
	defer cancel()
	q.add(5, false)
	s.Begin()
	eventually(t, "a refusal", func() bool { return sink.refusals() > 0 })
	sink.fail(nil)
	eventually(t, "the hand-over", func() bool { return len(sink.taken()) == 5 })
}

func TestPausesOfRest(t *testing.T) {
	s := newSkips(time.Now)
	var p pauses
	for i := range 20 {
		wait, again := p.after(0, errLate, s)
		if !again || wait < firstPause/2 || wait > 2*maxPauseAtEnd {
			t.Errorf("after %d failures: %s, %v", i+1, wait, again)
		}
	}
	if wait, _ := p.after(1, errLate, s); wait > 2*firstPause {
		t.Errorf("after something was handed over it waits for %s", wait)
	}
	for i := 1; i <= lastSelves; i++ {
		if _, again := p.after(0, ErrSelf, s); again != (i < lastSelves) {
			t.Errorf("%d streams ended here: another is %v", i, again)
		}
	}
	p = pauses{}
	for range 2 * lastSelves { // one of two gateways is this one
		p.after(0, ErrSelf, s)
		if _, again := p.after(0, errLate, s); !again {
			t.Error("the other gateway is given up")
		}
	}
	if _, again := p.after(0, ErrNoGateway, s); again {
		t.Error("no gateway is asked again")
	}
	if _, again := p.after(0, nil, s); again {
		t.Error("it goes on with nothing left")
	}
}

func TestNobodyHandsOverToItself(t *testing.T) {
	q, sink := newFakeQueue(), &fakeSink{}
	_, address := serve(t, "queue-of-source", sink)
	s := newSource(t, q, "team", address)
	q.add(1, true)
	if _, err := s.Rest(t.Context()); !errors.Is(err, ErrSelf) || q.left() != 1 || q.released == 0 {
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
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if _, err := s.Rest(ctx); err == nil || q.left() != 1 {
		t.Errorf("error %v, %d left", err, q.left())
	}
}

func TestAGatewayThatDoesNotAnswerKeepsNobodyWithNothingLeft(t *testing.T) {
	s := newSource(t, newFakeQueue(), "team", "127.0.0.1:1")
	if n, err := s.Rest(t.Context()); n != 0 || err != nil {
		t.Errorf("%d were handed over, error %v", n, err)
	}
}

func TestWhatTheGatewayDoesNotTakeStays(t *testing.T) {
	q := newFakeQueue()
	asked := map[string]int{}
	sink := &fakeSink{take: func(p Parcel) Verdict {
		name := p.Delivery.Ref.Name
		asked[name]++
		switch {
		case name == "e1" && asked[name] <= 2:
			return Unknown
		case name == "e2" && !p.Last:
			return ShareFull
		case name == "e2":
			return Failed
		case name == "e3":
			return Present
		}
		return Added
	}}
	_, address := serve(t, "queue-of-gateway", sink)
	s := newSource(t, q, "team", address)
	for i := range 5 {
		q.add(2, true, named(i))
	}
	spoil := func(l *fakeLease) { l.event.SHA256[0]++ } // the bytes on our disk have changed
	q.add(1, true, named(5), spoil)
	q.add(1, true, named(5))
	ctx, cancel := context.WithCancel(t.Context())
	var resting sync.WaitGroup
	resting.Go(func() { _, _ = s.Rest(ctx) })
	eventually(t, "what the gateway comes to know, and what stands beside something spoilt", func() bool { return q.left() == 3 })
	cancel()
	resting.Wait()
	if n, err := s.Last(t.Context()); n != 2 || err != nil || q.left() != 1 || q.lent() != 0 {
		t.Errorf("%d were handed over at last, error %v, %d left, %d leased; want what is beyond its share to go, and the spoilt one to stay",
			n, err, q.left(), q.lent())
	}
	q.unread = errors.New("input/output error")
	q.add(1, true, named(6))
	if n, err := s.Rest(t.Context()); n != 0 || err != nil || q.left() != 2 {
		t.Errorf("%d were handed over, error %v, %d left; want what cannot be read to stay", n, err, q.left())
	}
}

func TestAQueueThatStaysKeepsWhatIsBeyondAShare(t *testing.T) {
	q, sink := newFakeQueue(), &fakeSink{take: func(p Parcel) Verdict {
		if p.Last {
			return Failed
		}
		return ShareFull
	}}
	_, address := serve(t, "queue-of-gateway", sink)
	s := newSource(t, q, "team", address)
	s.o.Persistent = true
	q.add(1, true)
	if n, err := s.pass(t.Context(), s.lastKind()); n != 0 || err != nil || q.left() != 1 {
		t.Errorf("%d went, error %v, %d left; want it to stay", n, err, q.left())
	}
}

func TestWhatIsRefusedIsBounded(t *testing.T) {
	s := newSkips(time.Now)
	d := sampleDelivery(sampleEvent("team", "{}"))
	for i := range maxSkipped {
		d.EventID = strconv.Itoa(i)
		s.refuse(&d)
	}
	if !s.wanted(d.Ref) {
		t.Error("the endpoint is passed over before its time")
	}
	d.EventID = "another"
	if s.refuse(&d); s.wanted(d.Ref) || s.refused(&d) || len(s.deliveries) != maxSkipped {
		t.Errorf("%d deliveries are kept in mind", len(s.deliveries))
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
		_, err := s.pass(t.Context(), passRest) // Rest would go on trying
		if got := status.Code(errors.Unwrap(err)); err != nil && got != want || (err == nil) != (want == codes.OK) {
			t.Errorf("%s: error %v, want %s", token, err, want)
		}
	}
	served.Refuse()
	q := newFakeQueue()
	q.add(1, true)
	s := newSource(t, q, "team", address)
	if _, err := s.pass(t.Context(), passRest); err == nil || q.left() != 1 {
		t.Errorf("a gateway that ends answered with %v, %d left", err, q.left())
	}
}
