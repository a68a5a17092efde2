// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package control

import (
	"context"
	"errors"
	"slices"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/garyclub/webhook-operator/internal/control/controlpb"
	"github.com/garyclub/webhook-operator/internal/delivery"
)

// Errors of Redeliver. The order may be given again.
var (
	// ErrNotConnected: no dispatcher with that queue is connected, or it has gone meanwhile.
	ErrNotConnected = errors.New("the queue is not connected")
	// ErrNotCarriedOut: the dispatcher could not carry the order out now.
	ErrNotCarriedOut = errors.New("the dispatcher could not carry the order out")
)

type redeliveriesStream = grpc.BidiStreamingServer[controlpb.RedeliveriesRequest, controlpb.RedeliveryOrder]

// Redeliveries serves one dispatcher: it gives the orders that Redeliver brings, one after the other.
func (s *Server) Redeliveries(stream redeliveriesStream) error {
	ctx := stream.Context()
	from := callerOf(ctx)
	first, err := stream.Recv()
	if err != nil {
		return ended(errHungUp)
	}
	if !validID(first.GetQueueId()) {
		return status.Error(codes.InvalidArgument, "the first request must have a queue id")
	}
	s.metrics.streams.WithLabelValues(streamRedeliveries).Inc()
	defer s.metrics.streams.WithLabelValues(streamRedeliveries).Dec()
	e := s.executors.open(from.viewed(), first.GetQueueId())
	defer s.executors.close(e)
	results := make(chan *controlpb.RedeliveryResult)
	go receiveResults(ctx, stream, results)
	return ended(e.talk(ctx, stream, results))
}

// receiveResults ends with the stream. Each result is one that is waited for, or the stream ends.
func receiveResults(ctx context.Context, stream redeliveriesStream, results chan<- *controlpb.RedeliveryResult) {
	defer close(results)
	for {
		m, err := stream.Recv()
		if err != nil {
			return
		}
		select {
		case results <- m.GetResult():
		case <-ctx.Done():
			return
		}
	}
}

// executor is one dispatcher that carries orders out.
type executor struct {
	key    executorKey
	orders chan *pendingOrder
	gone   chan struct{}
}

// pendingOrder is an order with where its result goes, which has room for it.
type pendingOrder struct {
	order  *controlpb.RedeliveryOrder
	result chan<- *controlpb.RedeliveryResult
}

func (e *executor) talk(ctx context.Context, stream redeliveriesStream, results <-chan *controlpb.RedeliveryResult) error {
	for {
		var p *pendingOrder
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-results:
			return errHungUp // or it speaks without being asked
		case p = <-e.orders:
		}
		if err := stream.Send(p.order); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case r := <-results:
			if r == nil || r.GetUid() != p.order.GetUid() {
				return errHungUp
			}
			p.result <- r
		}
	}
}

// executorKey has the namespace that the token vouches for: a queue's id is what a dispatcher says.
type executorKey struct{ namespace, queueID string }

// executors are the dispatchers that carry orders out.
type executors struct {
	mu  sync.Mutex
	all map[executorKey]*executor
}

func newExecutors() *executors { return &executors{all: map[executorKey]*executor{}} }

// open adds an executor. One that comes again takes the place of the stream that it had, of which this end may not know
// yet that it is broken.
func (s *executors) open(namespace, queueID string) *executor {
	e := &executor{key: executorKey{namespace, queueID}, orders: make(chan *pendingOrder), gone: make(chan struct{})}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all[e.key] = e
	return e
}

func (s *executors) close(e *executor) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.all[e.key] == e {
		delete(s.all, e.key)
	}
	close(e.gone)
}

// serving lists the queues that may hold deliveries of the namespace, in order.
func (s *executors) serving(namespace string) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var ids []string
	for key := range s.all {
		if key.namespace == namespace || key.namespace == everywhere {
			ids = append(ids, key.queueID)
		}
	}
	slices.Sort(ids)
	return slices.Compact(ids)
}

func (s *executors) find(namespace, queueID string) *executor {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e := s.all[executorKey{namespace, queueID}]; e != nil {
		return e
	}
	return s.all[executorKey{everywhere, queueID}]
}

// Queues lists the queues of the connected dispatchers that deliver in the namespace, gateways included, in order.
func (s *Server) Queues(namespace string) []string { return s.executors.serving(namespace) }

// Redeliver gives an order to the dispatcher with that queue and waits for its result. It may be repeated: the queue moves
// nothing twice for the same order.
func (s *Server) Redeliver(ctx context.Context, queueID string, o *delivery.Order) (delivery.Redelivered, error) {
	e := s.executors.find(o.Ref.Namespace, queueID)
	if e == nil {
		return delivery.Redelivered{}, ErrNotConnected
	}
	result := make(chan *controlpb.RedeliveryResult, 1)
	select {
	case e.orders <- &pendingOrder{orderToProto(o), result}:
	case <-e.gone:
		return delivery.Redelivered{}, ErrNotConnected
	case <-ctx.Done():
		return delivery.Redelivered{}, context.Cause(ctx)
	}
	select {
	case r := <-result:
		if r.GetFailed() {
			return delivery.Redelivered{}, ErrNotCarriedOut
		}
		return redeliveredFromProto(r), nil
	case <-e.gone:
		return delivery.Redelivered{}, ErrNotConnected
	case <-ctx.Done():
		return delivery.Redelivered{}, context.Cause(ctx)
	}
}
