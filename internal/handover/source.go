// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package handover

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	grpcbackoff "google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"

	"github.com/garyclub/webhook-operator/internal/backoff"
	"github.com/garyclub/webhook-operator/internal/handover/handoverpb"
)

const (
	// answerTimeout is what a gateway may take to answer, the opening of a connection included. A grace period is short.
	answerTimeout = 3 * time.Second
	// lastSelves is how many streams in a row may end at this dispatcher itself before Rest takes it for the only gateway.
	lastSelves = 4
	// unused is how long a connection without a stream is kept: a gateway has few.
	unused = 2 * time.Second
	// gather is how long what comes to wait is collected before it is handed over.
	gather = 100 * time.Millisecond
	// passedOver is how long what a gateway does not take is left out; passedOverAtEnd, an endpoint that it may take soon,
	// when there is little time left.
	passedOver      = time.Minute
	passedOverAtEnd = 2 * time.Second

	// maxPauseAtEnd bounds the pauses of Rest.
	firstPause    = 100 * time.Millisecond
	maxPause      = 15 * time.Second
	maxPauseAtEnd = 2 * time.Second

	// roundRobin makes the next stream go to another gateway.
	roundRobin = `{"loadBalancingConfig":[{"round_robin":{}}]}`
)

// Errors of a hand-over.
var (
	// ErrNoGateway: nobody is known that could take anything.
	ErrNoGateway = errors.New("there is no gateway")
	// ErrSelf: the gateway that answered is this one.
	ErrSelf = errors.New("the gateway that answered is this dispatcher itself")
	// ErrNoDeadLetters: the gateway is of a version that would deliver dead letters.
	ErrNoDeadLetters = errors.New("the gateway takes no dead letters")
)

// SourceOptions are the settings of a Source. Queue, QueueID, Transport and Token are required.
type SourceOptions struct {
	Queue   SourceQueue
	QueueID string
	// Transport and Token are how a gateway is trusted and who calls it.
	Transport credentials.TransportCredentials
	Token     credentials.PerRPCCredentials
	// Persistent says that the queue outlives this dispatcher: what is not handed over is not lost.
	Persistent bool
	// Now is the steady clock of due times; nil means time.Now.
	Now        func() time.Time
	Log        logr.Logger
	Registerer prometheus.Registerer
}

// Source hands over what waits in a queue.
type Source struct {
	o       SourceOptions
	metrics *sourceMetrics
	total   atomic.Int64
	begun   chan struct{}
	begin   func()
	// turn is held by the pass under way.
	turn  chan struct{}
	skips *skips

	mu      sync.Mutex
	address string
	conn    *grpc.ClientConn // to the address; nil while there is none
	moved   chan struct{}    // closed at the next change of the address
}

// NewSource makes a source that knows no gateway yet.
func NewSource(o SourceOptions) (*Source, error) {
	if o.Queue == nil || o.QueueID == "" || o.Transport == nil || o.Token == nil {
		return nil, errors.New("handover: Queue, QueueID, Transport and Token are required")
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	s := &Source{o: o, metrics: newSourceMetrics(o.Registerer), begun: make(chan struct{}), turn: make(chan struct{}, 1),
		skips: newSkips(o.Now), moved: make(chan struct{})}
	s.begin = sync.OnceFunc(func() { close(s.begun) })
	return s, nil
}

// SetGateway says where the gateway's hand-over service is, host:port; empty means that there is none.
func (s *Source) SetGateway(address string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if address == s.address {
		return nil
	}
	conn, err := s.connect(address)
	if err != nil {
		return fmt.Errorf("hand-over: %w", err)
	}
	if s.conn != nil {
		_ = s.conn.Close() // a stream on it ends, and what it had leased is given back
	}
	s.address, s.conn = address, conn
	close(s.moved)
	s.moved = make(chan struct{})
	return nil
}

func (s *Source) connect(address string) (*grpc.ClientConn, error) {
	if address == "" {
		return nil, nil
	}
	return grpc.NewClient("dns:///"+address,
		grpc.WithTransportCredentials(s.o.Transport.Clone()), grpc.WithPerRPCCredentials(s.o.Token),
		grpc.WithIdleTimeout(unused), grpc.WithDefaultServiceConfig(roundRobin), grpc.WithDisableServiceConfig(), // none out of DNS
		grpc.WithConnectParams(grpc.ConnectParams{MinConnectTimeout: answerTimeout,
			Backoff: grpcbackoff.Config{BaseDelay: firstPause, Multiplier: 1.6, Jitter: 0.2, MaxDelay: answerTimeout}}),
		grpc.WithDefaultCallOptions(grpc.WaitForReady(true), grpc.MaxCallRecvMsgSize(maxResponseBytes),
			grpc.MaxCallSendMsgSize(maxMessageBytes)),
	)
}

// gateway is where to hand over to, and a channel that is closed when that changes.
func (s *Source) gateway() (*grpc.ClientConn, <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.conn, s.moved
}

// Gateway is the address that was set last.
func (s *Source) Gateway() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.address
}

// Known says whether there is a gateway, as far as anybody has said.
func (s *Source) Known() bool {
	conn, _ := s.gateway()
	return conn != nil
}

// Total is how many deliveries were handed over, without dead letters.
func (s *Source) Total() int64 { return s.total.Load() }

// Begin has Start hand over what waits and is not due, now and whatever comes to wait later.
func (s *Source) Begin() { s.begin() }

// Begun says whether Begin was called.
func (s *Source) Begun() bool {
	select {
	case <-s.begun:
		return true
	default:
		return false
	}
}

// Start hands over from Begin on, until ctx ends.
func (s *Source) Start(ctx context.Context) {
	select {
	case <-s.begun:
	case <-ctx.Done():
		return
	}
	last := ""
	for failures := 0; ctx.Err() == nil; {
		deferred := s.o.Queue.Deferred() // before the look, so that nothing is missed
		_, changed := s.gateway()
		_, err := s.pass(ctx, passBeforeEnd)
		wait := gather
		switch {
		case err == nil:
			failures, last = 0, ""
			waitFor(ctx, maxPause, deferred, changed)
		case errors.Is(err, ErrNoGateway):
			waitFor(ctx, 0, changed)
		default:
			failures++
			last = s.tell(ctx, last, err)
			wait = backoff.Next(firstPause, maxPause, failures, rand.Float64())
		}
		waitFor(ctx, wait)
	}
}

// passKind says what a pass hands over, and what is at stake.
type passKind uint8

const (
	passBeforeEnd passKind = iota // what is not due: the rest is being delivered
	passRest                      // all
	passLast                      // all, and what stays is lost with the pod
	passDead                      // the dead letters
)

// Rest hands over all that waits, due or not, until nothing is left that a gateway would take, or ctx ends: a gateway
// that refuses, or does not answer, may be another one in a moment. It gives up at once where it can come to nothing. It
// returns how many deliveries were handed over; the error says why there may be more.
func (s *Source) Rest(ctx context.Context) (moved int, err error) { return s.rest(ctx, passRest) }

// Last is Rest for the last time.
func (s *Source) Last(ctx context.Context) (moved int, err error) { return s.rest(ctx, s.lastKind()) }

// DeadLetters is Last for the dead letters. What a gateway does not take is not offered again.
func (s *Source) DeadLetters(ctx context.Context) (moved int, err error) {
	return s.rest(ctx, passDead)
}

// over says whether another pass over the dead letters can come to nothing, or need not come to anything: where the queue
// stays they stay as well.
func (s *Source) over(err error) bool {
	return err == nil || s.o.Persistent || errors.Is(err, ErrNoDeadLetters)
}

func (s *Source) lastKind() passKind {
	if s.o.Persistent {
		return passRest // what stays is there again for the next start
	}
	return passLast
}

func (s *Source) rest(ctx context.Context, kind passKind) (moved int, cause error) {
	s.skips.forgive()
	for p := (pauses{}); ; {
		_, changed := s.gateway()
		n, err := s.pass(ctx, kind)
		moved += n
		if ctx.Err() == nil || cause == nil {
			cause = err // not the end of ctx, when there was another
		}
		wait, again := p.after(n, err, s.skips)
		if kind == passDead && s.over(err) {
			again = false
		}
		if again {
			waitFor(ctx, wait, changed)
		}
		if !again || ctx.Err() != nil {
			return moved, cause
		}
	}
}

// pauses are those of Rest.
type pauses struct{ failures, selves int }

// after says how long to wait after a pass, and whether another one can come to anything.
func (p *pauses) after(moved int, err error, left *skips) (wait time.Duration, again bool) {
	if moved > 0 || err == nil {
		*p = pauses{}
	}
	if err == nil {
		return left.next() // what was passed over may be taken then
	}
	p.failures++
	if p.selves++; !errors.Is(err, ErrSelf) {
		p.selves = 0
	}
	wait = backoff.Next(firstPause, maxPauseAtEnd, p.failures, rand.Float64())
	return wait, !errors.Is(err, ErrNoGateway) && p.selves < lastSelves
}

// Close ends the connection.
func (s *Source) Close() error { return s.SetGateway("") }

// tell logs why a hand-over was broken off: a cause that is new for all to see, its repetitions for those who look.
func (s *Source) tell(ctx context.Context, last string, err error) (cause string) {
	if ctx.Err() != nil {
		return last
	}
	level := 0
	if cause = err.Error(); cause == last {
		level = 1
	}
	s.o.Log.V(level).Info("hand-over was broken off", "cause", cause)
	return cause
}

// waitFor waits for the first of the channels, for a time when that is not 0, or for the end of ctx.
func waitFor(ctx context.Context, limit time.Duration, channels ...<-chan struct{}) {
	var over <-chan time.Time
	if limit > 0 {
		timer := time.NewTimer(limit)
		defer timer.Stop()
		over = timer.C
	}
	first, second := (<-chan struct{})(nil), (<-chan struct{})(nil)
	switch len(channels) {
	case 2:
		first, second = channels[0], channels[1]
	case 1:
		first = channels[0]
	}
	select {
	case <-ctx.Done():
	case <-over:
	case <-first:
	case <-second:
	}
}

// pass hands over what is there now, on one stream. A stream that was broken has given back what it had leased.
func (s *Source) pass(ctx context.Context, kind passKind) (moved int, err error) {
	select {
	case s.turn <- struct{}{}:
		defer func() { <-s.turn }()
	case <-ctx.Done():
		return 0, context.Cause(ctx)
	}
	conn, _ := s.gateway()
	if conn == nil {
		return 0, ErrNoGateway
	}
	t := &talk{source: s, kind: kind, client: handoverpb.NewHandOverClient(conn)}
	defer t.end()
	if moved, err = t.run(ctx); err != nil {
		s.metrics.faults.Inc()
	}
	return moved, err
}
