// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package control

import (
	"context"
	"errors"
	"time"

	"github.com/go-logr/logr"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/garyclub/webhook-operator/internal/control/controlpb"
	"github.com/garyclub/webhook-operator/internal/delivery"
	"github.com/garyclub/webhook-operator/internal/endpoint"
)

// changeDelay is how long changes are collected: a Secret that is rotated may change many endpoints, one by one.
const changeDelay = 20 * time.Millisecond

type endpointsStream = grpc.BidiStreamingServer[controlpb.EndpointsRequest, controlpb.EndpointsResponse]

// errHungUp: the dispatcher has ended its side.
var errHungUp = errors.New("dispatcher hung up")

// Endpoints serves one dispatcher: one view of its namespace, or of all when it is a gateway, at a time, the next after the last one was taken. So a slow
// dispatcher gets fewer and larger changes, and its backlog here is one list that all streams share.
func (s *Server) Endpoints(stream endpointsStream) error {
	ctx, cancel := context.WithCancel(stream.Context())
	defer cancel()
	log := logr.FromContextOrDiscard(ctx)
	from := callerOf(ctx)

	t := &endpointsTalk{
		server: s, stream: stream, requests: make(chan *controlpb.EndpointsRequest),
		session: s.sessions.open(from.viewed()), view: s.viewFor(from),
	}
	defer s.sessions.close(t.session)
	s.metrics.streams.WithLabelValues(streamEndpoints).Inc()
	defer s.metrics.streams.WithLabelValues(streamEndpoints).Dec()

	go t.receive(ctx) // ends with this stream, which returning from here ends
	hello, err := t.hello(ctx)
	if err != nil {
		return ended(err)
	}
	log.V(1).Info("dispatcher connected", "queue", hello.GetQueueId(), "version", delivery.BoundedMessage(hello.GetVersion()))
	return ended(t.run(ctx, hello.GetKnown()))
}

// viewed is the namespace whose endpoints the caller gets; empty for all.
func (c caller) viewed() string {
	if c.gateway {
		return ""
	}
	return c.Namespace
}

type view func() (list []*endpoint.Endpoint, complete bool, changed <-chan struct{})

func (s *Server) viewFor(c caller) view {
	if c.gateway {
		return s.o.Registry.ViewAll
	}
	return func() ([]*endpoint.Endpoint, bool, <-chan struct{}) { return s.o.Registry.View(c.Namespace) }
}

// ended turns the end of a talk into what the call answers.
func ended(err error) error {
	switch {
	case errors.Is(err, errHungUp):
		return nil
	case errors.Is(err, context.Canceled):
		return status.Error(codes.Unavailable, "the stream has ended")
	}
	return err
}

type endpointsTalk struct {
	server   *Server
	stream   endpointsStream
	session  *session
	view     view
	requests chan *controlpb.EndpointsRequest
	sequence uint64
}

func (t *endpointsTalk) receive(ctx context.Context) {
	defer close(t.requests)
	for {
		m, err := t.stream.Recv()
		if err != nil {
			return
		}
		select {
		case t.requests <- m:
		case <-ctx.Done():
			return
		}
	}
}

func (t *endpointsTalk) hello(ctx context.Context) (*controlpb.Hello, error) {
	ctx, cancel := context.WithTimeout(ctx, firstMessageLimit)
	defer cancel()
	select {
	case m, open := <-t.requests:
		if !open {
			return nil, errHungUp
		}
		if m.GetHello() == nil || !validID(m.GetHello().GetQueueId()) {
			return nil, status.Error(codes.InvalidArgument, "the first request must be a hello with a queue id")
		}
		return m.GetHello(), nil
	case <-ctx.Done():
		return nil, status.Error(codes.DeadlineExceeded, "no hello")
	}
}

func (t *endpointsTalk) run(ctx context.Context, known map[string]string) error {
	var taken []*endpoint.Endpoint
	haveList := false
	for {
		list, complete, changed := t.view()
		if complete {
			d := between(taken, list)
			if !haveList {
				d, known = fromKnown(known, list), nil
			}
			if err := t.sendAndWait(ctx, d, haveList); err != nil {
				return err
			}
			taken, haveList = list, true
			t.server.sessions.took(t.session, list)
		}
		if err := t.untilChanged(ctx, changed); err != nil {
			return err
		}
	}
}

// sendAndWait returns when the dispatcher has taken the difference. The first list is sent even when nothing differs,
// since the dispatcher waits for it to be complete.
func (t *endpointsTalk) sendAndWait(ctx context.Context, d difference, haveList bool) error {
	if haveList && d.empty() {
		return nil
	}
	for _, response := range d.chunks(t.server.o.MaxChunkBytes, haveList) {
		t.sequence++
		response.Sequence, response.Gateway = t.sequence, t.server.o.GatewayAddress
		if err := t.stream.Send(response); err != nil {
			return err
		}
		t.server.metrics.endpointsSent.Add(float64(len(response.GetEndpoints())))
	}
	for {
		taken, err := t.next(ctx, nil)
		if err != nil {
			return err
		}
		if taken >= t.sequence {
			return nil
		}
	}
}

func (t *endpointsTalk) untilChanged(ctx context.Context, changed <-chan struct{}) error {
	for {
		if _, err := t.next(ctx, changed); err != nil {
			return err
		}
		select {
		case <-changed:
		default:
			continue // it was a request
		}
		select {
		case <-time.After(changeDelay):
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// next waits for a request, and returns what it says was taken, or for changed.
func (t *endpointsTalk) next(ctx context.Context, changed <-chan struct{}) (uint64, error) {
	select {
	case <-ctx.Done():
		return 0, ctx.Err()
	case <-changed:
		return 0, nil
	case m, open := <-t.requests:
		if !open {
			return 0, errHungUp
		}
		taken, ok := m.GetMessage().(*controlpb.EndpointsRequest_Taken)
		if !ok || taken.Taken > t.sequence {
			return 0, status.Error(codes.InvalidArgument, "only what was sent can be taken")
		}
		return taken.Taken, nil
	}
}
