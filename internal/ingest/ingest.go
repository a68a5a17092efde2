// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package ingest is the stage that takes events in over HTTP: bound, authenticate, validate, match, append, answer.
//
// Commit point: the queue's Append. An answer of 202 is written after it has returned, so every event that was answered
// 202 is on disk. A crash before the append leaves nothing; a crash between the append and the answer leaves an event
// that its producer may post again: with an Idempotency-Key it is still one event, without one it becomes two.
//
// Where callers are authenticated, POST /v1/namespaces/NAMESPACE/events does the same for a namespace that is not the
// caller's own.
//
// POST /v1/events takes one event as application/json, or up to 1,000 as application/x-ndjson, all of them or none. The
// answers:
//
//	202  {"id":"evt_…","deliveries":2}, or {"events":[…]} for a batch; deliveries is null until it is known
//	400  the body is no JSON object, a batch is empty, the Idempotency-Key is malformed, the body broke off
//	401  the caller is not known
//	403  the caller may not post for the namespace, or has none of its own
//	404  405  another path or method
//	408  the body came too slowly
//	413  an event, a batch or its number of lines is too large
//	415  another content type or an encoding
//	422  well-formed JSON that breaks a rule of a field, or an Idempotency-Key that stands for another body
//	429  the caller's namespace posts too many events, or has too many requests under way: with Retry-After
//	503  the queue or the namespace's share of it is full, too much is under way, callers cannot be judged, or the
//	     dispatcher is ending: with Retry-After
//
// Errors are problem documents of RFC 9457. They name the field, the rule and the line of a batch, never a value: no byte
// of a payload reaches an answer, a log line or a metric.
//
// A name that stands twice in an object, invalid UTF-8 and lone surrogates are refused anywhere in a payload, since two
// receivers could read two things out of it. Numbers of any size pass: they are not read. What net/http cannot take for a
// request it answers itself, in plain text: 400, 417, 431, 501 or 505.
//
// A producer that is slow, or says nothing, costs others nothing: a slot is taken when a request has come whole, memory as
// its body comes, and a connection that keeps us waiting is closed when there are too many.
//
// In a batch the key covers each line under its own number. A repeat with a changed line is refused as a whole; lines
// added at its end are new events.
package ingest

import (
	"context"
	"crypto/tls"
	"errors"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/garyclub/webhook-operator/internal/endpoint"
	"github.com/garyclub/webhook-operator/internal/event"
)

// The bounds of a request.
const (
	MaxBatchBytes  = 8 << 20
	MaxBatchEvents = 1000
	MaxKeyBytes    = 255
)

// Path is where events are posted; the other two enclose a namespace.
const (
	Path            = "/v1/events"
	namespacePrefix = "/v1/namespaces/"
	namespaceSuffix = "/events"
)

// Errors that a Queue returns, or wraps, for Append. Every other error is answered as unavailable.
var (
	ErrFull      = errors.New("queue is full")
	ErrKeyReused = errors.New("idempotency key was used with another body")
	ErrClosed    = errors.New("queue is closed")
)

// Item is one event to append, with the endpoints that it matched. It has the fields of the queue's item, so that the
// assembly converts one into the other.
type Item struct {
	Event *event.Event
	// Key is the idempotency key, hashed with its namespace; zero when there is none.
	Key [32]byte
	// Matched is false before the first complete list of endpoints has come.
	Matched   bool
	Endpoints []*endpoint.Endpoint
}

// Accepted is the queue's answer for one item.
type Accepted struct {
	EventID string
	// Deliveries is the number of endpoints matched, -1 while it is not known.
	Deliveries int
	// Repeated says that the key had been seen with the same body: nothing was added.
	Repeated bool
}

// Queue keeps events on disk.
type Queue interface {
	// Append stores all items or none, and returns after they are synced.
	Append(ctx context.Context, items []Item) ([]Accepted, error)
}

// Endpoints knows where events go.
type Endpoints interface {
	// Load returns the snapshot in force, nil before the first complete list.
	Load() *endpoint.Snapshot
}

// Errors that an Authenticator returns, or wraps. Every other one means that the caller is not known.
var (
	// ErrForbidden: the caller may not post for the namespace.
	ErrForbidden = errors.New("caller may not post for the namespace")
	// ErrNoNamespace: the caller named none and has none of its own.
	ErrNoNamespace = errors.New("caller has no namespace of its own")
	// ErrUndecided: it cannot be told now.
	ErrUndecided = errors.New("caller cannot be judged now")
)

// Authenticator says which namespace a request posts for: the one that its path names, or, when that is empty, the
// caller's own. An error means that the caller may not; it is not shown, but the namespace may be.
type Authenticator func(r *http.Request, named string) (namespace string, err error)

// Options are the settings of a Server.
type Options struct {
	// Addr is host:port to listen on. The assembly sees to it that a sidecar's is a loopback address.
	Addr string
	// Namespace is what events are posted for; Authenticate, when set, decides instead.
	Namespace    string
	Authenticate Authenticator
	// TLS, when set, is how the address is served; else it is plain HTTP.
	TLS       *tls.Config
	Queue     Queue
	Endpoints Endpoints

	// MaxConcurrent bounds the requests under way that have come whole, 256 by default; more are answered 503.
	MaxConcurrent int
	// MaxConnections bounds the connections, 1,024 by default; for more, those are closed that we wait for the longest.
	MaxConnections int
	// MaxBufferedBytes bounds the bodies in memory, 32 MiB by default; more are answered 503. A body counts as far as it
	// has come, and 4 KiB at the least. Where callers are authenticated a namespace has a quarter of it, and one batch at
	// the least; more are answered 429.
	MaxBufferedBytes int64

	Registerer prometheus.Registerer
	// Now is the clock, time.Now by default.
	Now func() time.Time

	// named says that a path may name a namespace: somebody judges whether the caller may.
	named bool
}

// Validate names what is missing or cannot work.
func (o *Options) Validate() error {
	switch {
	case o.Queue == nil:
		return errors.New("ingest: Queue is required")
	case o.Endpoints == nil:
		return errors.New("ingest: Endpoints is required")
	case o.Namespace == "" && o.Authenticate == nil:
		return errors.New("ingest: Namespace or Authenticate is required")
	case o.MaxConcurrent < 0, o.MaxConnections < 0:
		return errors.New("ingest: MaxConcurrent and MaxConnections must not be negative")
	case o.MaxBufferedBytes != 0 && o.MaxBufferedBytes < MaxBatchBytes:
		return errors.New("ingest: MaxBufferedBytes must be at least the size of a batch, 8 MiB")
	}
	return nil
}

func (o *Options) setDefaults() {
	o.named = o.Authenticate != nil
	if o.MaxConcurrent == 0 {
		o.MaxConcurrent = 256
	}
	if o.MaxConnections == 0 {
		o.MaxConnections = 1024
	}
	if o.MaxBufferedBytes == 0 {
		o.MaxBufferedBytes = 32 << 20
	}
	if o.Registerer == nil {
		o.Registerer = prometheus.NewRegistry()
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Authenticate == nil {
		namespace := o.Namespace
		o.Authenticate = func(*http.Request, string) (string, error) { return namespace, nil }
	}
}
