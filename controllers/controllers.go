// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package controllers judges WebhookEndpoints and says so in their status: the URL with everything that it refers to,
// the address and certificate behind it, a test event, and what the dispatchers report.
//
// Commit point: one status patch at the end of a reconciliation. What dispatchers act on is published to the registry
// before it, from memory, so neither a slow receiver nor a slow API server holds up a changed endpoint. The network is
// looked at by the Prober, never by a reconciliation. A crash repeats an inspection, or a test event whose answer was
// not written yet: under the same webhook-id, since the id is derived from what was written before.
package controllers

import (
	"context"
	"time"

	"github.com/garyclub/webhook-operator/internal/deliver"
	"github.com/garyclub/webhook-operator/internal/delivery"
	"github.com/garyclub/webhook-operator/internal/egress"
	"github.com/garyclub/webhook-operator/internal/endpoint"
)

// Registry takes resolved endpoints for the dispatchers; endpoint.Registry is one.
type Registry interface {
	Set(p *endpoint.Endpoint)
	Remove(ref endpoint.Ref)
}

// Network is the way out; egress.Client is one. Inspect looks at an endpoint's address and certificate without sending
// a request.
type Network interface {
	deliver.Poster
	Inspect(ctx context.Context, p *endpoint.Endpoint) (egress.Certificate, error)
}

// Recorder writes the DeliveryAttempts of test events.
type Recorder interface {
	Offer(ctx context.Context, namespace string, r delivery.Record, done func(recorded bool)) error
}

// Dispatchers knows which dispatchers of a namespace deliver by which revision.
type Dispatchers interface {
	Taken(namespace, uid, revision string) (connected, upToDate int)
}

// Counters knows the sums of all dispatchers' counters about an endpoint. known is false when nothing was reported yet.
type Counters interface {
	// Loaded is false while Totals does not know yet what was reported to the leader before.
	Loaded() bool
	Totals(namespace, uid string) (t Totals, known bool)
}

// Totals are the sums about one endpoint.
type Totals struct {
	Succeeded, Failed, Pending, Lost, Unrecorded int64
	LastSuccess, LastFailure                     time.Time
	// Gone are the incarnations of the endpoint that answered 410.
	Gone []string
}
