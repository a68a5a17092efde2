// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package handover is the stage that moves deliveries from the queue of a dispatcher that ends to the queue of a gateway,
// both ends.
//
// Commit points: the sink answers after its queue has synced what it took; the source removes a delivery after that
// answer. A crash between the two hands the delivery over again, and the sink's queue knows it. So a delivery is in one
// queue or in both for a moment, never in none.
//
// A delivery that is handed over is leased, so it is not attempted meanwhile. Its due time goes along as a wait, since
// clocks may differ; its hops are raised by the queue that takes it.
//
// Dead letters go last, to a gateway that says that it takes them, so that they can be redelivered when the pod is gone.
// They are kept there for as long as they were to be here. What the gateway does not take stays, and ends with the queue.
//
// # Bounds
//
// There is one message under way per stream, of at most maxParcels deliveries and about maxBatchBytes. A sink serves
// maxStreams streams, maxNamespaceStreams of one namespace and maxPodStreams of one pod; more wait for placeWait and are
// answered RESOURCE_EXHAUSTED then. A stream ends after streamAge. Whatever a source sends is checked, field by field,
// before any of it is used.
package handover

import (
	"context"
	"errors"
	"time"

	"github.com/garyclub/webhook-operator/internal/delivery"
	"github.com/garyclub/webhook-operator/internal/endpoint"
	"github.com/garyclub/webhook-operator/internal/event"
)

const (
	// maxParcels bounds the deliveries of one message, and what a source leases at a time.
	maxParcels = 256
	// maxBatchBytes is the size at which a source ends a message; maxMessageBytes what a sink takes. One delivery with its
	// event always fits.
	maxBatchBytes   = 640 << 10
	maxMessageBytes = 1 << 20
	// maxResponseBytes is more than maxParcels verdicts.
	maxResponseBytes = 16 << 10
	maxHeaderBytes   = 32 << 10
)

// Errors of a SinkQueue. None leaves anything behind.
var (
	// ErrFull: there is no room now.
	ErrFull = errors.New("queue is full")
	// ErrNotReady: the endpoints are not known yet, or the gateway is ending.
	ErrNotReady = errors.New("not ready")
)

// Lease is one waiting delivery, held until it is handed over or released.
type Lease interface {
	Delivery() delivery.Delivery
	Event() (*event.Event, error)
	Release(at time.Time)
}

// SourceQueue is the queue that is emptied.
type SourceQueue interface {
	// LeaseWaiting leases up to n deliveries that wait, those that are due only when due is set; none when none is there.
	LeaseWaiting(ctx context.Context, n int, due bool, want func(endpoint.Ref) bool) ([]Lease, error)
	// Deferred returns a channel that is closed when a delivery comes to wait for a later time.
	Deferred() <-chan struct{}
	// LeaseDead leases up to n dead letters that have not expired.
	LeaseDead(ctx context.Context, n int, want func(endpoint.Ref) bool) ([]Lease, error)
	// HandedOver removes what another queue answers for. It returns after the sync.
	HandedOver(ctx context.Context, leases []Lease) error
}

// Parcel is a delivery, or a dead letter, with its event.
type Parcel struct {
	Event    *event.Event
	Delivery delivery.Delivery
	// Last says that the delivery is lost if it is not taken.
	Last bool
}

// Verdict is what became of a parcel.
type Verdict uint8

// The verdicts. With the first three the sink answers for the delivery from now on.
const (
	Added     Verdict = iota + 1
	Present           // it was there already
	Failed            // its endpoint's share is full, and it was the last try: it has ended, visibly
	ShareFull         // its endpoint's share is full
	Unknown           // there is no endpoint of that name here
	Invalid           // what was sent breaks a rule
)

// SinkQueue is the queue that takes parcels.
type SinkQueue interface {
	// TakeOver stores all parcels but those of endpoints that are not known or have no room, or none. It returns after the sync.
	TakeOver(ctx context.Context, parcels []Parcel) ([]Verdict, error)
}

// Identity is who calls a sink, as the API server vouches for it.
type Identity struct {
	Namespace, ServiceAccount, Pod, PodUID string
}

// Authenticator says whose token it is, or answers with a gRPC status that says nothing of the token.
type Authenticator func(ctx context.Context, token string) (Identity, error)
