// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package control is the gRPC stream between the manager and its dispatchers, both ends: resolved endpoints go out,
// outcomes and counters come in, and orders of redelivery are carried out. The caller's namespace is taken from its token
// alone; only a gateway, which the server knows by its service account, gets the endpoints of all namespaces and may name
// the one that it reports about.
//
// Commit points: a dispatcher acknowledges endpoints ("taken") after they are on its disk and in force; the manager
// acknowledges a record after it is durable or left out, and counters after the ledger is written. What was not
// acknowledged is sent again on the next stream, so each step may happen twice and none is lost.
//
// No list of endpoints is sent before the registry is complete, and a dispatcher drops none before it has seen the
// whole of a list: neither a restart of the manager nor a broken stream takes an endpoint away.
package control

import (
	"context"

	"github.com/garyclub/webhook-operator/api/v1alpha1"
	"github.com/garyclub/webhook-operator/internal/delivery"
	"github.com/garyclub/webhook-operator/internal/endpoint"
)

// Audience is what a dispatcher's token must have been issued for. The API server itself refuses such a token.
const Audience = v1alpha1.TokenAudience

const (
	// maxRequestBytes bounds what a dispatcher sends in one message: what it knows of some 40,000 endpoints.
	maxRequestBytes = 8 << 20
	// maxResponseBytes bounds what it takes: a chunk, or one endpoint of maxEndpointBytes.
	maxResponseBytes = 8 << 20
	// maxEndpointBytes bounds one endpoint with its certificates and headers.
	maxEndpointBytes = 4 << 20
	// maxHeaderBytes bounds the metadata of a call, the token among it.
	maxHeaderBytes = 32 << 10
)

// Identity is who calls, as the API server vouches for it.
type Identity struct {
	Namespace      string
	ServiceAccount string
	Pod            string
	PodUID         string
}

// Authenticator says whose token it is. It answers with a gRPC status: UNAUTHENTICATED when the token is not good,
// UNAVAILABLE when that cannot be told now. Neither says anything of the token.
type Authenticator interface {
	Authenticate(ctx context.Context, token string) (Identity, error)
}

// Endpoints is what the server streams; endpoint.Registry fulfils it.
type Endpoints interface {
	View(namespace string) (list []*endpoint.Endpoint, complete bool, changed <-chan struct{})
	// ViewAll is View of all namespaces, ordered by namespace and name.
	ViewAll() (list []*endpoint.Endpoint, complete bool, changed <-chan struct{})
}

// Sink takes what dispatchers report. from is vouched for by the token, but for its queue id and whether that is
// persistent. The namespace in each record and counter has been checked: it is from's, or from is a gateway. done may be
// called from any goroutine, before or after the method returns, and is called exactly once when the method returned nil.
type Sink interface {
	// Offer hands a record over. It blocks while the recorder is full. done is called when the record is durable, or
	// with false when it was left out.
	Offer(ctx context.Context, from delivery.Source, r delivery.Record, done func(recorded bool)) error
	// Count hands cumulative counters of a queue over. done is called after the ledger is written.
	Count(ctx context.Context, from delivery.Source, counters []delivery.Counters, done func()) error
}
