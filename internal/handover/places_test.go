// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package handover

import (
	"context"
	"errors"
	"io"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/status"

	"github.com/garyclub/webhook-operator/internal/handover/handoverpb"
)

func pod(namespace string, n int) Identity {
	return Identity{Namespace: namespace, PodUID: namespace + strconv.Itoa(n)}
}

func TestPlacesAreShared(t *testing.T) {
	p := newPlaces()
	enter := func(i Identity) bool { _, ok := p.take(i); return ok }
	for range maxPodStreams {
		if !enter(pod("a", 0)) {
			t.Fatal("a pod has no place")
		}
	}
	if enter(pod("a", 0)) {
		t.Error("a pod has more places than it may have")
	}
	for n := maxPodStreams; n < maxNamespaceStreams; n++ {
		if !enter(pod("a", n)) {
			t.Fatal("a namespace has no place")
		}
	}
	if enter(pod("a", 100)) || !enter(pod("b", 0)) {
		t.Error("a namespace has more than its share, or another has nothing")
	}
	for n := range maxNamespaceStreams {
		enter(pod("c", n))
		enter(pod("d", n))
		enter(pod("b", n+1))
	}
	if enter(pod("e", 0)) {
		t.Error("there are more streams than there may be")
	}
	p.leave(pod("b", 0))
	if !enter(pod("e", 0)) {
		t.Error("a place that was left is not free")
	}
}

func TestAPlaceIsWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, i := newPlaces(), pod("a", 0)
		for range maxPodStreams {
			p.enter(t.Context(), i)
		}
		begin := time.Now()
		if p.enter(t.Context(), i) || time.Since(begin) != placeWait {
			t.Errorf("refused after %s", time.Since(begin))
		}
		time.AfterFunc(placeWait/2, func() { p.leave(i) })
		begin = time.Now()
		if !p.enter(t.Context(), i) || time.Since(begin) != placeWait/2 {
			t.Errorf("a place that was left was taken after %s", time.Since(begin))
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if p.enter(ctx, i) {
			t.Error("a stream that is over has a place")
		}
	})
}

// fakeStream sends the same message, at an interval, until it is closed.
type fakeStream struct {
	grpc.ServerStream
	ctx      context.Context
	interval time.Duration
	answers  int
}

func (s *fakeStream) Context() context.Context { return s.ctx }

func (s *fakeStream) Send(*handoverpb.TakeOverResponse) error {
	s.answers++
	return nil
}

func (s *fakeStream) Recv() (*handoverpb.TakeOverRequest, error) {
	select {
	case <-time.After(s.interval):
		return message(), nil
	case <-s.ctx.Done():
		return nil, io.EOF
	}
}

func TestAStreamHasItsTime(t *testing.T) {
	for name, tc := range map[string]struct {
		verdict  Verdict
		interval time.Duration
		answers  int
		took     time.Duration
	}{
		"busy for long":   {Added, 3 * time.Second, 10, streamAge},
		"nothing new":     {Present, time.Millisecond, maxStale, maxStale * time.Millisecond},
		"nothing is sent": {Added, time.Hour, 0, idleTimeout},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(context.WithValue(t.Context(), identityKey{}, pod("team", 0)))
				defer cancel()
				s := &Sink{o: SinkOptions{Queue: &fakeSink{take: func(Parcel) Verdict { return tc.verdict }}, QueueID: "q", Now: time.Now,
					Gateway: func(Identity) bool { return false }}, metrics: newSinkMetrics(nil), closing: make(chan struct{})}
				stream := &fakeStream{ctx: ctx, interval: tc.interval}
				begin := time.Now()
				err := s.TakeOver(stream)
				if status.Code(err) != codes.Unavailable || time.Since(begin) != tc.took {
					t.Errorf("ended after %s with %v, want after %s", time.Since(begin), err, tc.took)
				}
				if got := stream.answers - 1; got < tc.answers-1 || got > tc.answers {
					t.Errorf("%d answers, want %d", got, tc.answers)
				}
				cancel()
				synctest.Wait()
			})
		})
	}
}

func TestASourceClosesAConnectionThatItDoesNotUse(t *testing.T) {
	q, sink := newFakeQueue(), &fakeSink{}
	_, address := serve(t, "queue-of-gateway", sink)
	s := newSource(t, q, "team", address)
	q.add(1, true)
	if n, err := s.Rest(t.Context()); n != 1 || err != nil {
		t.Fatalf("%d were handed over, error %v", n, err)
	}
	conn, _ := s.gateway()
	eventually(t, "the end of the connection", func() bool { return conn.GetState() == connectivity.Idle })
	q.add(1, true)
	if n, err := s.Rest(t.Context()); n != 1 || err != nil {
		t.Errorf("%d were handed over after it, error %v", n, err)
	}
}

// A sink ends in time although somebody has a connection open and says nothing on it.
func TestTheSinkEndsBesideAHandshakeThatHangs(t *testing.T) {
	served, address := serve(t, "queue-of-gateway", &fakeSink{})
	conn := dial(t, address)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	begin := time.Now()
	var stopping sync.WaitGroup
	stopping.Go(func() { served.Stop(ctx) })
	stopping.Wait()
	if took := time.Since(begin); took > handshakeTimeout+time.Second || handshakeTimeout > 3*time.Second {
		t.Errorf("the end took %s", took)
	}
	if _, err := conn.Read(make([]byte, 1)); err == nil || errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("the connection is open: %v", err)
	}
}
