// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package handover

import (
	"context"
	"errors"
	"slices"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/garyclub/webhook-operator/internal/handover/handoverpb"
)

type takeOverStream = grpc.BidiStreamingServer[handoverpb.TakeOverRequest, handoverpb.TakeOverResponse]

// TakeOver serves one source.
func (s *Sink) TakeOver(stream takeOverStream) error {
	// A gateway that ends says whose queue it is, too: its own source may have found nobody else.
	if err := stream.Send(&handoverpb.TakeOverResponse{QueueId: s.o.QueueID, DeadLetters: true}); err != nil {
		return err
	}
	select {
	case <-s.closing:
		return s.refused(refusedNotReady, errEnding)
	default:
	}
	ctx, cancel := context.WithCancel(stream.Context())
	defer cancel()
	identity, _ := ctx.Value(identityKey{}).(Identity)
	requests := make(chan *handoverpb.TakeOverRequest)
	go receive(ctx, stream, requests) // ends with this stream, which returning from here ends
	over := time.NewTimer(streamAge)
	defer over.Stop()
	for stale := 0; stale < maxStale; stale++ {
		m, err := s.next(ctx, requests, over.C)
		if m == nil {
			return err
		}
		verdicts, err := s.take(ctx, identity, m)
		if err != nil {
			return err
		}
		if slices.Contains(verdicts, Added) || slices.Contains(verdicts, Failed) {
			stale = -1
		}
		if err := stream.Send(&handoverpb.TakeOverResponse{Verdicts: s.answer(verdicts)}); err != nil {
			return err
		}
	}
	return errOver
}

func receive(ctx context.Context, stream takeOverStream, requests chan<- *handoverpb.TakeOverRequest) {
	defer close(requests)
	for {
		m, err := stream.Recv()
		if err != nil {
			return
		}
		select {
		case requests <- m:
		case <-ctx.Done():
			return
		}
	}
}

// next waits for a request. It returns none at the end of the stream.
func (s *Sink) next(ctx context.Context, requests <-chan *handoverpb.TakeOverRequest, over <-chan time.Time) (*handoverpb.TakeOverRequest, error) {
	timer := time.NewTimer(idleTimeout)
	defer timer.Stop()
	select {
	case m := <-requests: // nil when closed
		return m, nil
	case <-s.closing:
		return nil, s.refused(refusedNotReady, errEnding)
	case <-over:
		return nil, errOver
	case <-timer.C:
		return nil, status.Error(codes.Unavailable, "nothing was sent for a while")
	case <-ctx.Done():
		return nil, status.FromContextError(ctx.Err()).Err()
	}
}

// take answers one request.
func (s *Sink) take(ctx context.Context, identity Identity, m *handoverpb.TakeOverRequest) ([]Verdict, error) {
	all := s.o.Gateway(identity)
	may := func(namespace string) bool { return all || namespace == identity.Namespace }
	parcels, err := decode(m, may, s.o.Now())
	switch {
	case errors.Is(err, errForeign):
		return nil, s.refused(refusedForeign, status.Error(codes.PermissionDenied, err.Error()))
	case err != nil:
		return nil, s.refused(refusedInvalid, status.Error(codes.InvalidArgument, err.Error()))
	}
	verdicts, err := s.takeValid(ctx, parcels)
	switch {
	case errors.Is(err, ErrFull):
		return nil, s.refused(refusedFull, status.Error(codes.ResourceExhausted, "the gateway's queue is full"))
	case errors.Is(err, ErrNotReady):
		return nil, s.refused(refusedNotReady, status.Error(codes.Unavailable, "the gateway is not ready"))
	}
	if err != nil {
		if ctx.Err() == nil { // a source that has left is no fault of the queue
			s.report.Do(func() { s.o.Log.Error(err, "cannot take deliveries over", "deliveries", len(parcels)) })
		}
		return nil, s.refused(refusedUnavailable, status.Error(codes.Unavailable, "the queue could not store the deliveries"))
	}
	s.o.Log.V(1).Info("deliveries taken over", "namespace", identity.Namespace, "pod", identity.Pod, "deliveries", len(parcels))
	return verdicts, nil
}

// takeValid has the queue take all parcels but those that are not valid.
func (s *Sink) takeValid(ctx context.Context, parcels []Parcel) ([]Verdict, error) {
	valid := make([]Parcel, 0, len(parcels))
	for _, p := range parcels {
		if p.Event != nil {
			valid = append(valid, p)
		}
	}
	var took []Verdict
	if len(valid) > 0 {
		var err error
		if took, err = s.o.Queue.TakeOver(ctx, valid); err != nil {
			return nil, err
		}
	}
	if len(took) != len(valid) {
		return nil, errors.New("the queue did not answer for every delivery")
	}
	verdicts := make([]Verdict, len(parcels))
	for i, p := range parcels {
		verdicts[i] = Invalid
		if p.Event != nil {
			verdicts[i], took = took[0], took[1:]
		}
	}
	return verdicts, nil
}

func (s *Sink) answer(verdicts []Verdict) []handoverpb.Verdict {
	answer := make([]handoverpb.Verdict, len(verdicts))
	for i, v := range verdicts {
		s.metrics.parcels[v].Inc()
		switch v {
		case Unknown:
			answer[i] = handoverpb.Verdict_VERDICT_UNKNOWN_ENDPOINT
		case ShareFull:
			answer[i] = handoverpb.Verdict_VERDICT_SHARE_FULL
		case Invalid:
			answer[i] = handoverpb.Verdict_VERDICT_INVALID
		default:
			answer[i] = handoverpb.Verdict_VERDICT_TAKEN
		}
	}
	return answer
}
