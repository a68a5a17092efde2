// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package control

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
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/garyclub/webhook-operator/internal/control/controlpb"
)

// The defaults of ServerOptions.
const (
	DefaultMaxChunkBytes    = 1 << 20
	DefaultMaxConnectionAge = 10 * time.Minute
	DefaultMaxStreams       = 20_000
)

const (
	keepaliveTime     = 30 * time.Second
	keepaliveTimeout  = 10 * time.Second
	connectionGrace   = 10 * time.Second // what a stream gets at most when its connection is of age
	stopTimeout       = 5 * time.Second
	handshakeTimeout  = 10 * time.Second
	firstMessageLimit = 10 * time.Second
	// streamsPerConnection is more than one dispatcher needs.
	streamsPerConnection = 16
)

// ServerOptions are the settings of the manager's end.
type ServerOptions struct {
	// Registry, Sink, Authenticator and GetCertificate are required.
	Registry       Endpoints
	Sink           Sink
	Authenticator  Authenticator
	GetCertificate func(*tls.ClientHelloInfo) (*tls.Certificate, error)
	// Serves says whether a namespace is served; nil means all are. A dispatcher of another one is refused, so that it
	// goes on with what it knows instead of taking an empty list for the truth.
	Serves func(namespace string) bool
	// Gateway says whether a caller is a gateway: it is served whatever Serves says of its own namespace. nil means that
	// nobody is.
	Gateway func(Identity) bool
	// GatewayAddress is host:port of the gateway's hand-over service, which every dispatcher is told; empty when there is
	// none.
	GatewayAddress string
	// OnChange hears of a namespace whose dispatchers, or what they have taken, changed: coalesced, from one goroutine.
	// The empty namespace means all of them: a gateway came or went.
	OnChange func(namespace string)
	Log      logr.Logger
	// Registerer takes the metrics; nil leaves them out.
	Registerer prometheus.Registerer
	// MaxChunkBytes bounds a response that carries more than one endpoint.
	MaxChunkBytes int
	// MaxConnectionAge ends connections, so that tokens are checked again.
	MaxConnectionAge time.Duration
	// MaxStreams bounds the open streams of all dispatchers.
	MaxStreams int
}

func (o *ServerOptions) complete() error {
	if o.Registry == nil || o.Sink == nil || o.Authenticator == nil || o.GetCertificate == nil {
		return errors.New("control server: Registry, Sink, Authenticator and GetCertificate are required")
	}
	if o.Serves == nil {
		o.Serves = func(string) bool { return true }
	}
	if o.Gateway == nil {
		o.Gateway = func(Identity) bool { return false }
	}
	if o.OnChange == nil {
		o.OnChange = func(string) {}
	}
	if o.MaxChunkBytes == 0 {
		o.MaxChunkBytes = DefaultMaxChunkBytes
	}
	if o.MaxConnectionAge == 0 {
		o.MaxConnectionAge = DefaultMaxConnectionAge
	}
	if o.MaxStreams == 0 {
		o.MaxStreams = DefaultMaxStreams
	}
	if o.MaxChunkBytes < 0 || o.MaxChunkBytes > maxEndpointBytes || o.MaxConnectionAge < 0 || o.MaxStreams < 0 {
		return fmt.Errorf("control server: MaxChunkBytes must be 1 to %d, MaxConnectionAge and MaxStreams positive", maxEndpointBytes)
	}
	return nil
}

// Server is the manager's end. It serves nothing until Serving(true).
type Server struct {
	controlpb.UnimplementedControlServer
	o         ServerOptions
	sessions  *sessions
	executors *executors
	metrics   *serverMetrics
	grpc      *grpc.Server

	mu sync.Mutex
	// term lasts while this manager serves; its end ends all streams.
	term context.Context
	end  context.CancelFunc
}

// NewServer makes a server from its options.
func NewServer(o ServerOptions) (*Server, error) {
	if err := o.complete(); err != nil {
		return nil, err
	}
	s := &Server{o: o, sessions: newSessions(o.MaxStreams), executors: newExecutors(), metrics: newServerMetrics(o.Registerer)}
	s.grpc = grpc.NewServer(
		grpc.Creds(credentials.NewTLS(&tls.Config{MinVersion: tls.VersionTLS13, GetCertificate: o.GetCertificate})),
		grpc.KeepaliveParams(keepalive.ServerParameters{
			MaxConnectionAge: o.MaxConnectionAge, MaxConnectionAgeGrace: min(connectionGrace, o.MaxConnectionAge/10),
			Time: keepaliveTime, Timeout: keepaliveTimeout,
		}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: keepaliveTime / 2}),
		grpc.MaxRecvMsgSize(maxRequestBytes), grpc.MaxSendMsgSize(maxResponseBytes),
		grpc.MaxHeaderListSize(maxHeaderBytes), grpc.MaxConcurrentStreams(streamsPerConnection),
		grpc.ConnectionTimeout(handshakeTimeout),
		grpc.StreamInterceptor(s.authenticate),
	)
	controlpb.RegisterControlServer(s.grpc, s)
	return s, nil
}

// Serve answers on the listener until ctx ends, and then stops within a bound. It closes the listener. It is called once.
func (s *Server) Serve(ctx context.Context, listener net.Listener) error {
	var wait sync.WaitGroup
	defer wait.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	wait.Go(func() { s.sessions.tell(ctx, s.o.OnChange) })
	wait.Go(func() {
		<-ctx.Done()
		s.stop()
	})
	if err := s.grpc.Serve(listener); err != nil && !errors.Is(err, grpc.ErrServerStopped) {
		return fmt.Errorf("serve control: %w", err)
	}
	return nil
}

func (s *Server) stop() {
	s.Serving(false)
	graceful := make(chan struct{})
	go func() {
		defer close(graceful)
		s.grpc.GracefulStop()
	}()
	select {
	case <-graceful:
	case <-time.After(stopTimeout):
	}
	s.grpc.Stop() // also ends GracefulStop
	<-graceful
}

// Serving says whether this manager is the leader. While it is not, every call is answered UNAVAILABLE, so that
// dispatchers go on to the one that is; open streams end.
func (s *Server) Serving(on bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case on && s.term == nil:
		s.term, s.end = context.WithCancel(context.Background())
	case !on && s.term != nil:
		s.end()
		s.term, s.end = nil, nil
	}
}

// Taken says how many dispatchers of a namespace are connected, and how many of them act on that revision. A gateway
// counts in every namespace: it delivers there too, so a change has arrived everywhere only when it has arrived there,
// and while it is connected no namespace is without a dispatcher.
func (s *Server) Taken(namespace, uid, revision string) (connected, upToDate int) {
	return s.sessions.count(namespace, uid, revision)
}

// Connected says whether the dispatcher in the pod has an open stream of endpoints or of reports.
func (s *Server) Connected(podUID string) bool { return s.sessions.connected(podUID) }

func (s *Server) currentTerm() context.Context {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.term
}

// errNotServed names no namespace: the caller knows its own.
var errNotServed = status.Error(codes.PermissionDenied, "this manager does not serve the namespace: see its flag --namespaces")

var errNotServing = status.Error(codes.Unavailable, "this manager is not the leader")

// authenticate puts the caller's identity into the context of a stream, which ends with the manager's term.
func (s *Server) authenticate(srv any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	term := s.currentTerm()
	if term == nil {
		return errNotServing
	}
	ctx, cancel := context.WithCancel(stream.Context())
	defer cancel()
	defer context.AfterFunc(term, cancel)()

	identity, err := s.identify(ctx)
	if err != nil {
		return err
	}
	gateway := s.o.Gateway(identity)
	if !gateway && !s.o.Serves(identity.Namespace) {
		return errNotServed
	}
	release, err := s.sessions.admit(identity.PodUID)
	if err != nil {
		return status.Error(codes.ResourceExhausted, err.Error())
	}
	defer release()
	ctx = context.WithValue(logr.NewContext(ctx, s.o.Log.WithValues("namespace", identity.Namespace, "pod", identity.Pod)),
		callerKey{}, caller{identity, gateway})
	err = handler(srv, &authenticatedStream{ServerStream: stream, ctx: ctx})
	if term.Err() != nil {
		return errNotServing
	}
	return err
}

func (s *Server) identify(ctx context.Context) (Identity, error) {
	token := bearer(ctx)
	if token == "" {
		s.metrics.authentications.WithLabelValues(resultUnauthenticated).Inc()
		return Identity{}, errUnauthenticated
	}
	identity, err := s.o.Authenticator.Authenticate(ctx, token)
	switch status.Code(err) {
	case codes.OK:
		s.metrics.authentications.WithLabelValues(resultOK).Inc()
		return identity, nil
	case codes.Unauthenticated:
		s.metrics.authentications.WithLabelValues(resultUnauthenticated).Inc()
		return Identity{}, err
	}
	s.metrics.authentications.WithLabelValues(resultUnavailable).Inc()
	return Identity{}, err
}

var errUnauthenticated = status.Error(codes.Unauthenticated, "the token is not a dispatcher's")

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

type callerKey struct{}

// caller is who opened a stream.
type caller struct {
	Identity
	gateway bool
}

func callerOf(ctx context.Context) caller {
	c, _ := ctx.Value(callerKey{}).(caller)
	return c
}

type authenticatedStream struct {
	grpc.ServerStream
	ctx context.Context
}

func (s *authenticatedStream) Context() context.Context { return s.ctx }
