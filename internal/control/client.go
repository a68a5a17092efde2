// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package control

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/keepalive"

	"github.com/garyclub/webhook-operator/internal/control/controlpb"
	"github.com/garyclub/webhook-operator/internal/endpoint"
)

const (
	firstWait = 100 * time.Millisecond
	maxWait   = 15 * time.Second
	// roundRobin makes the next call after an UNAVAILABLE of the standby go to another manager.
	roundRobin = `{"loadBalancingConfig":[{"round_robin":{}}]}`
)

// ClientOptions are the settings of the dispatcher's end.
type ClientOptions struct {
	// Address is host:port of the managers; all addresses of the host are used.
	Address string
	// CAFile and TokenFile are read again when they are needed: both are rotated.
	CAFile    string
	TokenFile string
	// ServerName is what the manager's certificate must be for; empty means the host of Address.
	ServerName string
	QueueID    string
	Version    string
	// Persistent says that the queue outlives the pod.
	Persistent bool
	// Known returns the endpoints in force, whatever they came from.
	Known func() []*endpoint.Endpoint
	// Apply is called with the whole list, from one goroutine. It returns after the list is on disk and in force. After an
	// error the list is not acknowledged, whether it is in force or not: the client begins again, and applies it again.
	Apply func(list []*endpoint.Endpoint) error
	// OnGateway is told the host:port of the gateway's hand-over service: once the first list was applied, and whenever it
	// changes, from one goroutine; it must not block. It is empty when there is no gateway. It may be nil.
	OnGateway func(address string)
	Log       logr.Logger
	// Registerer takes the metrics; nil leaves them out.
	Registerer prometheus.Registerer
	// Now is the clock of the token's cache; nil means time.Now.
	Now func() time.Time
}

// Validate names what is missing.
func (o *ClientOptions) Validate() error {
	if _, _, err := net.SplitHostPort(o.Address); err != nil {
		return fmt.Errorf("control client: address must be host:port: %w", err)
	}
	if o.CAFile == "" || o.TokenFile == "" || o.Known == nil || o.Apply == nil {
		return errors.New("control client: CAFile, TokenFile, Known and Apply are required")
	}
	if !validID(o.QueueID) {
		return errors.New("control client: the queue id must be 1 to 128 letters, digits, dots, dashes or underscores")
	}
	return nil
}

// Client is the dispatcher's end. Start streams endpoints, Report opens a stream for outcomes; both use one connection
// for each manager.
type Client struct {
	o         ClientOptions
	conn      *grpc.ClientConn
	service   controlpb.ControlClient
	metrics   *clientMetrics
	connected atomic.Bool
	// applied says that what Known returns was applied without an error since this process began.
	applied bool
	// gateway is what OnGateway was told last; nil before.
	gateway *string
}

// NewClient makes a client, which does not connect yet.
func NewClient(o ClientOptions) (*Client, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	conn, err := grpc.NewClient("dns:///"+o.Address,
		grpc.WithTransportCredentials(NewFileCA(o.CAFile, o.ServerName)),
		grpc.WithPerRPCCredentials(NewFileToken(o.TokenFile, o.Now)),
		grpc.WithDefaultServiceConfig(roundRobin),
		grpc.WithDisableServiceConfig(), // none out of DNS
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: firstWait, Multiplier: 1.6, Jitter: 0.2, MaxDelay: maxWait},
			MinConnectTimeout: handshakeTimeout,
		}),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: keepaliveTime, Timeout: keepaliveTimeout}),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxResponseBytes), grpc.MaxCallSendMsgSize(maxRequestBytes)),
	)
	if err != nil {
		return nil, fmt.Errorf("control client: %w", err)
	}
	return &Client{o: o, conn: conn, service: controlpb.NewControlClient(conn), metrics: newClientMetrics(o.Registerer)}, nil
}

// Close ends all streams. It comes after the outbox has stopped, whose last report needs the connection.
func (c *Client) Close() error { return c.conn.Close() }

// Start streams endpoints until ctx ends, and connects for ever. It is called once.
func (c *Client) Start(ctx context.Context) error {
	limit, last := firstWait, ""
	for {
		took, err := c.stream(ctx)
		c.setConnected(false)
		if ctx.Err() != nil {
			return nil //nolint:nilerr // being stopped is no failure
		}
		if took {
			limit, last = firstWait, ""
		}
		last = c.tell(took, last, err)
		// Anywhere up to the limit: when the leader changes, all dispatchers come at once.
		if !sleep(ctx, time.Duration(rand.Int64N(int64(limit)))+limit/10) {
			return nil
		}
		limit = min(2*limit, maxWait)
		c.metrics.reconnects.Inc()
	}
}

// tell logs why a stream ended: a cause that is new for all to see, and its repetitions for those who look for them.
func (c *Client) tell(took bool, last string, err error) (cause string) {
	level := 0
	if cause = err.Error(); cause == last {
		level = 1
	}
	if took {
		c.o.Log.V(level).Info("manager disconnected", "cause", cause)
	} else {
		c.o.Log.V(level).Info("manager not reached", "cause", cause)
	}
	return cause
}

func (c *Client) setConnected(on bool) {
	if c.connected.Swap(on) == on {
		return
	}
	if on {
		c.metrics.connected.Set(1)
		c.o.Log.Info("manager connected")
		return
	}
	c.metrics.connected.Set(0)
}

func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
