// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package handover

import (
	"context"
	"errors"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"

	"github.com/garyclub/webhook-operator/internal/handover/handoverpb"
)

// buried adds n dead letters.
func buried(q *fakeQueue, n int, change ...func(*fakeLease)) (all []*fakeLease) {
	for range n {
		q.add(1, true, change...)
		all = append(all, q.bury())
	}
	return all
}

func TestAllOfADeadLetterGoesAlong(t *testing.T) {
	q, sink := newFakeQueue(), &fakeSink{}
	_, address := serve(t, "queue-of-gateway", sink)
	s := newSource(t, q, "team", address)
	l := buried(q, 1)[0]
	if n, err := s.Last(t.Context()); n != 0 || err != nil || q.buried() != 1 {
		t.Fatalf("%d went with what waits, error %v", n, err)
	}
	if n, err := s.DeadLetters(t.Context()); n != 1 || err != nil || q.buried() != 0 || s.Total() != 0 {
		t.Fatalf("%d were handed over, error %v, %d are left, %d count as deliveries", n, err, q.buried(), s.Total())
	}
	got := sink.taken()[0]
	if diff := cmp.Diff(l.event, got.Event); diff != "" {
		t.Errorf("event differs (-want +got):\n%s", diff)
	}
	want := l.d
	want.UID = "" // that is the gateway's to know
	if diff := cmp.Diff(want, got.Delivery); diff != "" {
		t.Errorf("dead letter differs (-want +got):\n%s", diff)
	}
}

func TestManyDeadLettersGoInBoundedMessages(t *testing.T) {
	const n = 2*maxParcels + 1
	q, sink := newFakeQueue(), &fakeSink{}
	_, address := serve(t, "queue-of-gateway", sink)
	s := newSource(t, q, "team", address)
	buried(q, n)
	if moved, err := s.DeadLetters(t.Context()); moved != n || err != nil || len(sink.taken()) != n || q.buried() != 0 {
		t.Errorf("%d of %d were handed over, error %v", moved, n, err)
	}
}

// TestDeadLettersThatAreNotTakenStay: the endpoint of many a dead letter is gone.
func TestDeadLettersThatAreNotTakenStay(t *testing.T) {
	q := newFakeQueue()
	sink := &fakeSink{take: func(p Parcel) Verdict {
		switch p.Delivery.Ref.Name {
		case "e1":
			return Unknown
		case "e2":
			return Present
		}
		return Added
	}}
	_, address := serve(t, "queue-of-gateway", sink)
	s := newSource(t, q, "team", address)
	for i := range 4 {
		buried(q, 2, named(i))
	}
	buried(q, 1, named(4), func(l *fakeLease) { l.event.SHA256[0]++ })
	if n, err := s.DeadLetters(t.Context()); n != 6 || err != nil || q.buried() != 3 || q.lent() != 0 {
		t.Errorf("%d were handed over, error %v, %d are left, %d leased", n, err, q.buried(), q.lent())
	}
}

func TestDeadLettersAreOfferedUntilTheEnd(t *testing.T) {
	q, sink := newFakeQueue(), &fakeSink{err: ErrFull}
	_, address := serve(t, "queue-of-gateway", sink)
	s := newSource(t, q, "team", address)
	buried(q, 3)
	var ending sync.WaitGroup
	ending.Go(func() {
		if n, err := s.DeadLetters(t.Context()); n != 3 || err != nil {
			t.Errorf("%d were handed over, error %v", n, err)
		}
	})
	eventually(t, "several refusals", func() bool { return sink.refusals() >= 3 })
	sink.fail(nil)
	ending.Wait()
	// Where the queue stays, its dead letters need not be taken.
	sink.fail(ErrFull)
	s.o.Persistent = true
	buried(q, 1)
	if n, err := s.DeadLetters(t.Context()); n != 0 || err == nil || q.buried() != 1 || q.lent() != 0 {
		t.Errorf("%d were handed over, error %v, %d are left", n, err, q.buried())
	}
}

// olderGateway does not say that it takes dead letters.
type olderGateway struct {
	grpc.ServerStream
	took bool
}

func (g *olderGateway) client() handoverpb.HandOverClient { return olderClient{g} }

type olderClient struct{ gateway *olderGateway }

func (c olderClient) TakeOver(ctx context.Context, _ ...grpc.CallOption) (grpc.BidiStreamingClient[handoverpb.TakeOverRequest, handoverpb.TakeOverResponse], error) {
	return &olderStream{ctx: ctx, gateway: c.gateway}, nil
}

type olderStream struct {
	grpc.ClientStream
	ctx     context.Context
	gateway *olderGateway
}

func (s *olderStream) Context() context.Context { return s.ctx }

func (s *olderStream) Send(*handoverpb.TakeOverRequest) error {
	s.gateway.took = true
	return nil
}

func (*olderStream) Recv() (*handoverpb.TakeOverResponse, error) {
	return &handoverpb.TakeOverResponse{QueueId: "queue-of-gateway"}, nil
}

func TestAnOlderGatewayGetsNoDeadLetters(t *testing.T) {
	q, older := newFakeQueue(), &olderGateway{}
	s := newSource(t, q, "team", "")
	buried(q, 1)
	talk := &talk{source: s, kind: passDead, client: older.client()}
	n, err := talk.run(t.Context())
	talk.end()
	if n != 0 || !errors.Is(err, ErrNoDeadLetters) || older.took || q.buried() != 1 || q.lent() != 0 {
		t.Errorf("%d were handed over, error %v, sent: %v, %d are left", n, err, older.took, q.buried())
	}
	if !s.over(err) || s.over(errLate) || !s.over(nil) {
		t.Error("it is not known when to give up")
	}
}
