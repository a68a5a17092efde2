// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package dispatcher

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/garyclub/webhook-operator/internal/delivery"
	"github.com/garyclub/webhook-operator/internal/endpoint"
	"github.com/garyclub/webhook-operator/internal/fixture/receiver"
	"github.com/garyclub/webhook-operator/internal/handover"
	"github.com/garyclub/webhook-operator/internal/queue"
	"github.com/garyclub/webhook-operator/internal/queue/pebble"
)

// sinkAt is a gateway's sink with a queue of its own, which knows the endpoints.
type sinkAt struct {
	queue   queue.Queue
	address string
	known   *endpoints
}

func (s *stand) sinkFor(all ...*endpoint.Endpoint) sinkAt {
	s.Helper()
	q, err := pebble.Open(pebble.Options{Dir: s.TempDir(), Receives: true})
	if err != nil {
		s.Fatal(err)
	}
	known := &endpoints{}
	if len(all) > 0 { // otherwise it is not ready
		known.Store(endpoint.NewSnapshot(all))
	}
	leaf := ca.Leaf([]string{"127.0.0.1"})
	sink, err := handover.NewSink(handover.SinkOptions{Queue: sinkQueue{q, known}, QueueID: q.ID(),
		Authenticate: func(_ context.Context, token string) (handover.Identity, error) {
			return handover.Identity{Namespace: token, PodUID: token}, nil
		},
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &leaf, nil }})
	if err != nil {
		s.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		s.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() { _ = sink.Serve(listener) })
	s.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		sink.Stop(ctx)
		serving.Wait()
		_ = q.Close()
	})
	return sinkAt{q, listener.Addr().String(), known}
}

// connected waits for the manager's list, with which it says that it knows of no gateway.
func (s *stand) connected() {
	s.Helper()
	s.until("the manager", func() bool { return len(s.logs.with("manager connected")) > 0 })
}

// drainStand is a dispatcher whose receiver answers 503, and a gateway.
func drainStand(t *testing.T, change ...func(*endpoint.Endpoint)) (*stand, *Dispatcher, *receiver.Receiver, sinkAt) {
	s := newStand(t)
	r := s.receive(receiver.Options{Script: []receiver.Step{{Status: http.StatusServiceUnavailable}}})
	p := endpointOf("a", r.URL("/"))
	for _, c := range change {
		c(p)
	}
	s.serve(p)
	gateway := s.sinkFor(p)
	d := s.start()
	s.connected()
	return s, d, r, gateway
}

func TestDrainHandsOverWhatWaitsForARetry(t *testing.T) {
	s, d, r, gateway := drainStand(t)
	ctx := s.context()
	s.post()
	if err := r.Wait(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	d.Drain(ctx)
	s.post() // events still come in
	d.setGateway(gateway.address, s.logs.logger())
	s.until("both at the gateway", func() bool { return gateway.queue.Stats().Waiting == 2 })
	records, err := gateway.queue.Outbox(t.Context(), 0, 10)
	if err != nil || len(records) != 2 {
		t.Fatalf("%d records, error %v", len(records), err)
	}
	for _, o := range records {
		if o.Record.AttemptCount != 1 || o.Record.Hops != 1 || o.Record.UID != "uid-a" {
			t.Errorf("the gateway tells of %+v", o.Record.Delivery)
		}
	}
	s.stop(d)
	if got := s.logs.with(`"waiting"=0 "unmatchedEvents"=0 "handedOver"=2`); len(got) != 1 {
		t.Errorf("the end says %v", s.logs.with("has stopped"))
	}
}

func TestStopHandsOverWhatIsHeldToo(t *testing.T) {
	s, d, r, gateway := drainStand(t, func(p *endpoint.Endpoint) { p.Hold = endpoint.HoldSuspended })
	d.setGateway(gateway.address, s.logs.logger())
	for range 3 {
		s.post()
	}
	s.stop(d)
	if got := gateway.queue.Stats().Waiting; got != 3 || r.Count() != 0 {
		t.Errorf("the gateway has %d of 3, the receiver got %d requests", got, r.Count())
	}
}

func TestStopHandsOverDeadLetters(t *testing.T) {
	s := newStand(t)
	r := s.receive(receiver.Options{Script: []receiver.Step{{Status: http.StatusGone}}})
	p := endpointOf("a", r.URL("/"))
	s.serve(p)
	gateway := s.sinkFor(p)
	d := s.start()
	s.connected()
	s.post()
	s.until("the failure", func() bool { return d.queue.Stats().DeadLetters == 1 })
	s.post() // it waits, since the endpoint is gone
	d.setGateway(gateway.address, s.logs.logger())
	s.stop(d)
	if got := gateway.queue.Stats(); got.DeadLetters != 1 || got.Waiting != 1 || r.Count() != 1 {
		t.Errorf("the gateway has %d dead letters and %d waiting, the receiver got %d requests", got.DeadLetters, got.Waiting, r.Count())
	}
	records, err := gateway.queue.Outbox(t.Context(), 0, 10)
	if err != nil || len(records) != 1 || records[0].Record.State.Done() {
		t.Errorf("the gateway tells of %d deliveries, error %v; want only the one that waits", len(records), err)
	}
	order := delivery.Order{ID: "1", Ref: p.Ref, Limit: 10}
	moved, err := gateway.queue.Redeliver(t.Context(), order, p)
	if err != nil || moved.Moved != 1 {
		t.Errorf("%d are redelivered by the gateway, error %v", moved.Moved, err)
	}
	if got := s.logs.with(`"handedOver"=1 "of"=1`); len(got) != 1 {
		t.Errorf("the end says %v", s.logs.with("dead letters"))
	}
}

func TestStopWithoutAGatewayKeepsDeadLetters(t *testing.T) {
	s := newStand(t)
	r := s.receive(receiver.Options{Script: []receiver.Step{{Status: http.StatusGone}}})
	s.serve(endpointOf("a", r.URL("/")))
	d := s.start()
	s.connected()
	s.post()
	s.until("the failure", func() bool { return d.queue.Stats().DeadLetters == 1 })
	begin := time.Now()
	s.stop(d)
	if took := time.Since(begin); took > flushTimeout || len(s.logs.with("dead letters were")) != 0 {
		t.Errorf("stop took %s and says %v", took, s.logs.with("dead letters were"))
	}
}

func TestStopHandsOverWhatTheLastAttemptsLeave(t *testing.T) {
	s := newStand(t)
	s.options.DrainTimeout = 4 * time.Second
	r := s.receive(receiver.Options{Script: []receiver.Step{{Hang: true}}})
	p := endpointOf("a", r.URL("/"))
	s.serve(p)
	gateway := s.sinkFor(p)
	d := s.start()
	s.connected()
	d.setGateway(gateway.address, s.logs.logger())
	s.post()
	if err := r.Wait(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	s.stop(d)
	if got := gateway.queue.Stats().Waiting; got != 1 {
		t.Errorf("the gateway has %d, want the delivery whose attempt was cut off", got)
	}
}

func TestStopWithoutAGatewaySaysWhatIsLeft(t *testing.T) {
	s, d, r, _ := drainStand(t)
	s.post()
	if err := r.Wait(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	d.Drain(s.context())
	begin := time.Now()
	s.stop(d)
	if took := time.Since(begin); took > flushTimeout {
		t.Errorf("stop took %s", took)
	}
	if got := s.logs.with("has stopped"); len(got) != 1 || !strings.Contains(got[0], `"waiting"=1`) {
		t.Errorf("the end says %v", got)
	}
}

func TestTheGatewayIsRemembered(t *testing.T) {
	s := newStand(t)
	d := s.assemble()
	d.setGateway("gateway.webhook-system.svc:9445", s.logs.logger())
	if err := d.queue.Close(); err != nil {
		t.Fatal(err)
	}
	s.options.HealthListen = s.address()
	d = s.assemble()
	defer func() { _ = d.queue.Close() }()
	if got := d.source.Gateway(); got != "gateway.webhook-system.svc:9445" {
		t.Errorf("the gateway is %q after a restart", got)
	}
}

func TestStopAsksAGatewayAgainThatRefuses(t *testing.T) {
	s, d, r, _ := drainStand(t)
	p := endpointOf("a", r.URL("/"))
	gateway := s.sinkFor()
	d.setGateway(gateway.address, s.logs.logger())
	s.post()
	if err := r.Wait(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	var stopping sync.WaitGroup
	stopping.Go(func() { s.stop(d) })
	s.until("several refusals", func() bool { return s.counter(d, "webhook_dispatcher_hand_over_faults_total") >= 6 })
	gateway.known.Store(endpoint.NewSnapshot([]*endpoint.Endpoint{p}))
	stopping.Wait()
	if got := gateway.queue.Stats().Waiting; got != 1 {
		t.Errorf("the gateway has %d, want what it refused at first", got)
	}
}

// The first hand-over goes on to the reserve, and what the gateway comes to take then goes in the last one.
func TestStopKeepsTimeForTheLastHandOver(t *testing.T) {
	s := newStand(t)
	s.options.DrainTimeout = 4 * time.Second
	d := s.assemble()
	defer func() { _ = d.queue.Close() }()
	ctx, cancel := context.WithTimeout(t.Context(), s.options.DrainTimeout)
	defer cancel()
	early, cancelEarly := d.lessReserve(ctx)
	defer cancelEarly()
	end, _ := ctx.Deadline()
	if got, _ := early.Deadline(); end.Sub(got) != time.Second {
		t.Errorf("%s are left for the last hand-over, want a quarter of the drain timeout", end.Sub(got))
	}
}

func TestStopDoesNotWaitForAGatewayThatHasNothingToTake(t *testing.T) {
	s := newStand(t)
	r := s.receive(receiver.Options{})
	s.serve(endpointOf("a", r.URL("/")))
	d := s.start()
	s.connected()
	d.setGateway("127.0.0.1:1", s.logs.logger())
	for range 5 { // due when the end begins
		s.post()
	}
	begin := time.Now()
	s.stop(d)
	if took := time.Since(begin); took > s.options.DrainTimeout/2 {
		t.Errorf("stop took %s", took)
	}
	if got := s.logs.with(`"waiting"=0`); len(got) != 1 || r.Count() != 5 {
		t.Errorf("the end says %v, %d were delivered", s.logs.with("has stopped"), r.Count())
	}
}

// What is handed over after the last report would count as lost.
func TestNothingIsHandedOverAfterTheLastReport(t *testing.T) {
	s, d, r, gateway := drainStand(t)
	s.post()
	if err := r.Wait(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	d.Drain(s.context())
	handedOver := func() bool { return gateway.queue.Stats().Waiting > 0 }
	var stopping, told atomic.Bool
	s.sink.mu.Lock()
	s.sink.answers = func(delivery.Counters) bool {
		if stopping.Load() && told.CompareAndSwap(false, true) {
			d.setGateway(gateway.address, s.logs.logger())
			for limit := time.After(time.Second); !handedOver(); {
				select {
				case <-limit:
					return true
				case <-time.After(time.Millisecond):
				}
			}
		}
		return true
	}
	s.sink.mu.Unlock()
	s.post()
	stopping.Store(true)
	s.stop(d)
	if handedOver() || !told.Load() {
		t.Errorf("a hand-over after the last report: %v; a report at the end: %v", handedOver(), told.Load())
	}
}

func TestUnknownEndpointsAreNotTakenOver(t *testing.T) {
	s, d, _, _ := drainStand(t)
	d.options.DrainTimeout = time.Second
	other := s.sinkFor(endpointOf("b", "https://127.0.0.1/"))
	d.setGateway(other.address, s.logs.logger())
	s.post()
	s.stop(d)
	if got := other.queue.Stats().Waiting; got != 0 {
		t.Errorf("the gateway has %d of an endpoint that it does not know", got)
	}
	if got := s.logs.with("has stopped"); len(got) != 1 || !strings.Contains(got[0], `"waiting"=1`) {
		t.Errorf("the end says %v", got)
	}
}
