// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package handover

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/net/netutil"
	"golang.org/x/time/rate"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/garyclub/webhook-operator/internal/handover/handoverpb"
)

const (
	maxConnections = 512
	// streamsPerConnection is more than one source needs.
	streamsPerConnection = 4
	// idleTimeout ends a stream whose source sends nothing: its place may be wanted.
	idleTimeout = 10 * time.Second
	// streamAge and maxStale end a stream whose place others may want: its source opens another. maxStale is how many
	// messages in a row may bring nothing new.
	streamAge = 30 * time.Second
	maxStale  = 10
	// Connections are few, too. handshakeTimeout is also what Stop may take beyond its context.
	handshakeTimeout = 3 * time.Second
	connectionIdle   = 15 * time.Second
	connectionAge    = 10 * time.Minute
	// streamWindow bounds what is on its way to a stream that does not read.
	streamWindow = 256 << 10
)

// SinkOptions are the settings of a Sink. Queue, QueueID, Authenticate and GetCertificate are required.
type SinkOptions struct {
	Queue          SinkQueue
	QueueID        string
	Authenticate   Authenticator
	GetCertificate func(*tls.ClientHelloInfo) (*tls.Certificate, error)
	// Gateway says whether a caller is a gateway, which hands over for all namespaces; nil means that nobody is.
	Gateway func(Identity) bool
	// Now is the steady clock of due times; nil means time.Now.
	Now        func() time.Time
	Log        logr.Logger
	Registerer prometheus.Registerer
}

// Sink takes what sources hand over.
type Sink struct {
	handoverpb.UnimplementedHandOverServer
	o       SinkOptions
	metrics *sinkMetrics
	grpc    *grpc.Server
	// closing is closed by Refuse.
	closing chan struct{}
	refuse  func()
	report  rate.Sometimes
	places  *places
}

// NewSink makes a sink that serves nothing yet.
func NewSink(o SinkOptions) (*Sink, error) {
	if o.Queue == nil || o.QueueID == "" || o.Authenticate == nil || o.GetCertificate == nil {
		return nil, errors.New("handover: Queue, QueueID, Authenticate and GetCertificate are required")
	}
	if o.Gateway == nil {
		o.Gateway = func(Identity) bool { return false }
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	s := &Sink{o: o, metrics: newSinkMetrics(o.Registerer), closing: make(chan struct{}), places: newPlaces(),
		report: rate.Sometimes{Interval: 10 * time.Second}}
	s.refuse = sync.OnceFunc(func() { close(s.closing) })
	s.grpc = grpc.NewServer(
		grpc.Creds(credentials.NewTLS(&tls.Config{MinVersion: tls.VersionTLS13, GetCertificate: o.GetCertificate})),
		grpc.KeepaliveParams(keepalive.ServerParameters{MaxConnectionIdle: connectionIdle,
			MaxConnectionAge: connectionAge, MaxConnectionAgeGrace: idleTimeout}),
		grpc.MaxRecvMsgSize(maxMessageBytes), grpc.MaxSendMsgSize(maxResponseBytes), grpc.MaxHeaderListSize(maxHeaderBytes),
		grpc.MaxConcurrentStreams(streamsPerConnection), grpc.ConnectionTimeout(handshakeTimeout),
		grpc.InitialWindowSize(streamWindow), grpc.InitialConnWindowSize(streamsPerConnection*streamWindow),
		grpc.StreamInterceptor(s.admit),
	)
	handoverpb.RegisterHandOverServer(s.grpc, s)
	return s, nil
}

// Serve answers on the listener until Stop, and closes it.
func (s *Sink) Serve(listener net.Listener) error {
	if err := s.grpc.Serve(netutil.LimitListener(listener, maxConnections)); err != nil && !errors.Is(err, grpc.ErrServerStopped) {
		return fmt.Errorf("serve hand-over: %w", err)
	}
	return nil
}

// Refuse takes nothing from now on: a gateway that ends hands over itself.
func (s *Sink) Refuse() { s.refuse() }

// Stop answers what is under way, within ctx, and ends. A handshake under way may outlast ctx by its own timeout.
func (s *Sink) Stop(ctx context.Context) {
	s.Refuse()
	graceful := make(chan struct{})
	go func() {
		defer close(graceful)
		s.grpc.GracefulStop()
	}()
	select {
	case <-graceful:
	case <-ctx.Done():
	}
	s.grpc.Stop() // also ends GracefulStop
	<-graceful
}

var (
	errUnauthenticated = status.Error(codes.Unauthenticated, "the token is not a dispatcher's")
	errEnding          = status.Error(codes.Unavailable, "the gateway is ending")
	errOver            = status.Error(codes.Unavailable, "others may want the place of this stream")
	errBusy            = status.Error(codes.ResourceExhausted, "too many hand-overs are under way")
)

type identityKey struct{}

type admittedStream struct {
	grpc.ServerStream
	ctx context.Context
}

func (s *admittedStream) Context() context.Context { return s.ctx }

// admit lets a stream in before anything of it is read.
func (s *Sink) admit(srv any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	identity, err := s.identify(stream.Context())
	if err != nil {
		return err
	}
	if !s.places.enter(stream.Context(), identity) {
		return s.refused(refusedBusy, errBusy)
	}
	defer s.places.leave(identity)
	ctx := context.WithValue(stream.Context(), identityKey{}, identity)
	return handler(srv, &admittedStream{stream, ctx})
}

func (s *Sink) refused(reason string, err error) error {
	s.metrics.refused.WithLabelValues(reason).Inc()
	return err
}

func (s *Sink) identify(ctx context.Context) (Identity, error) {
	token := bearer(ctx)
	if token == "" {
		return Identity{}, s.refused(refusedUnauthenticated, errUnauthenticated)
	}
	identity, err := s.o.Authenticate(ctx, token)
	switch status.Code(err) {
	case codes.OK:
		return identity, nil
	case codes.Unauthenticated:
		return Identity{}, s.refused(refusedUnauthenticated, errUnauthenticated)
	}
	return Identity{}, s.refused(refusedUnavailable, status.Error(codes.Unavailable, "the token cannot be reviewed now"))
}

func bearer(ctx context.Context) string {
	values := metadata.ValueFromIncomingContext(ctx, "authorization")
	if len(values) != 1 {
		return ""
	}
	scheme, token, _ := strings.Cut(values[0], " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return ""
	}
	return token
}
