// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package ingest

import (
	"context"
	"errors"
	"fmt"
	stdlog "log"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"
	"golang.org/x/time/rate"
)

// The timeouts of a connection. An append that hangs is given up before the answer can no longer be written.
const (
	readHeaderTimeout = 5 * time.Second
	readTimeout       = 15 * time.Second
	appendTimeout     = 10 * time.Second
	writeTimeout      = readTimeout + appendTimeout + 5*time.Second
	idleTimeout       = 120 * time.Second
	// openIdleTimeout is that of a gateway, whose connections are open to everybody in the cluster.
	openIdleTimeout = 15 * time.Second
	maxHeaderBytes  = 16 << 10
)

// Server takes events. It is an http.Handler, which works without Start.
type Server struct {
	opt     Options
	metrics *metrics
	slots   chan struct{}
	buffer  budget
	shares  *shares // of the buffer; nil where there is one namespace
	closing atomic.Bool
	// report keeps a broken disk from filling the log.
	report rate.Sometimes

	mu       sync.Mutex
	server   *http.Server
	listener net.Listener
	served   chan struct{}
}

// New returns a server that is not listening yet. Its metrics are registered once: a second server needs another
// Registerer. Options that Validate refuses make it panic.
func New(o Options) *Server {
	if err := o.Validate(); err != nil {
		panic(err)
	}
	o.setDefaults()
	s := &Server{opt: o, slots: make(chan struct{}, o.MaxConcurrent), report: rate.Sometimes{Interval: 10 * time.Second}}
	s.buffer.left.Store(o.MaxBufferedBytes)
	if o.named {
		s.shares = newShares(o.MaxBufferedBytes)
	}
	s.metrics = newMetrics(o.Registerer, func() float64 { return float64(len(s.slots)) })
	return s
}

// Start listens and serves until Stop. The end of ctx does not end it, so that what is under way is answered.
func (s *Server) Start(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.server != nil {
		return errors.New("ingest was started before")
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", s.opt.Addr)
	if err != nil {
		return fmt.Errorf("listen for events: %w", err)
	}
	log := logr.FromContextOrDiscard(ctx).WithName("ingest")
	s.listener = newConnections(listener, s.opt.MaxConnections)
	s.server = s.httpServer(logr.NewContext(context.WithoutCancel(ctx), log), log)
	s.served = make(chan struct{})
	go s.serve(log, s.server, s.listener)
	log.Info("taking events", "address", listener.Addr().String())
	return nil
}

// httpServer is what bounds a connection before a request is there to be handled.
func (s *Server) httpServer(base context.Context, log logr.Logger) *http.Server {
	server := &http.Server{
		Handler:           s,
		BaseContext:       func(net.Listener) context.Context { return base },
		ConnContext:       withConnection,
		ConnState:         answered,
		ErrorLog:          stdlog.New(serverLog{log}, "", 0),
		ReadHeaderTimeout: readHeaderTimeout,
		ReadTimeout:       readTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       s.idleTimeout(),
		MaxHeaderBytes:    maxHeaderBytes,
		TLSConfig:         s.opt.TLS,
		Protocols:         new(http.Protocols),
	}
	server.Protocols.SetHTTP1(true)
	return server
}

func (s *Server) idleTimeout() time.Duration {
	if s.opt.TLS != nil {
		return openIdleTimeout
	}
	return idleTimeout
}

func (s *Server) serve(log logr.Logger, server *http.Server, listener net.Listener) {
	defer close(s.served)
	serve := server.Serve
	if server.TLSConfig != nil {
		serve = func(l net.Listener) error { return server.ServeTLS(l, "", "") }
	}
	if err := serve(listener); !errors.Is(err, http.ErrServerClosed) {
		log.Error(err, "ingest ended by itself")
	}
}

// Done is closed when serving has ended, by Stop or by itself. Before Start it is nil.
func (s *Server) Done() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.served
}

// Stop refuses what comes from now on, waits until what is under way is answered, and gives up at the end of ctx. It can
// be called again, and before Start.
func (s *Server) Stop(ctx context.Context) error {
	s.closing.Store(true)
	s.mu.Lock()
	server, served := s.server, s.served
	s.mu.Unlock()
	if server == nil {
		return nil
	}
	err := server.Shutdown(ctx)
	if err != nil {
		_ = server.Close() // the error of Shutdown says why
		err = fmt.Errorf("stop ingest: %w", err)
	}
	<-served
	return err
}

// serverLog takes the lines that net/http writes itself.
type serverLog struct{ log logr.Logger }

func (l serverLog) Write(line []byte) (int, error) {
	l.log.Info("http server reported", "detail", strings.TrimSpace(string(line)))
	return len(line), nil
}
