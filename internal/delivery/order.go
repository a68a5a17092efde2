// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package delivery

import (
	"time"

	"github.com/garyclub/webhook-operator/internal/endpoint"
)

// Order asks for dead letters of one endpoint to be delivered again: those that match all that it names.
type Order struct {
	// ID names the order. One that was carried out already moves nothing, and has the result that it had.
	ID string
	// Name is that of the object that orders it, for the records of its deliveries.
	Name string
	Ref  endpoint.Ref
	// Since and Until bound when a delivery failed: not before Since, and before Until. Zero is no bound.
	Since, Until time.Time
	// CallIDs and EventIDs name calls and events; empty means all.
	CallIDs, EventIDs []string
	// Limit bounds the deliveries that are moved, the ones that failed first before the others.
	Limit int
	// DryRun counts and moves nothing.
	DryRun bool
}

// Redelivered is the result of an order.
type Redelivered struct {
	// Matched counts the dead letters that the order names, Moved those that wait for a new delivery since.
	Matched, Moved int
	// ShareFull says that the endpoint's share of the queue had no room for more.
	ShareFull bool
}
