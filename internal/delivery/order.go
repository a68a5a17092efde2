// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package delivery

import (
	"errors"
	"slices"
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

// Bounds of an order, which comes from elsewhere and is kept with its deliveries.
const (
	MaxOrderIDBytes   = 64
	MaxOrderNameBytes = 253
	// MaxOrderNames bounds CallIDs and EventIDs, each; MaxNamedIDBytes one of them.
	MaxOrderNames   = 100
	MaxNamedIDBytes = 128
)

// Validate says which bound the order breaks. It repeats no value.
func (o *Order) Validate() error {
	switch {
	case o.ID == "" || len(o.ID) > MaxOrderIDBytes:
		return errors.New("the order's id is empty or too long")
	case len(o.Name) > MaxOrderNameBytes:
		return errors.New("the order's name is too long")
	case o.Limit < 1:
		return errors.New("the order's limit is below 1")
	case !validNames(o.CallIDs):
		return errors.New("the order's call ids are too many, or one is empty or too long")
	case !validNames(o.EventIDs):
		return errors.New("the order's event ids are too many, or one is empty or too long")
	}
	return nil
}

func validNames(ids []string) bool {
	return len(ids) <= MaxOrderNames &&
		!slices.ContainsFunc(ids, func(id string) bool { return id == "" || len(id) > MaxNamedIDBytes })
}

// Names says whether the order asks for a failed delivery of its endpoint. It does not for one that failed under the
// order itself.
func (o *Order) Names(r *Record) bool {
	return r.Order != o.ID &&
		!r.Completed.Before(o.Since) && (o.Until.IsZero() || r.Completed.Before(o.Until)) &&
		(len(o.CallIDs) == 0 || slices.Contains(o.CallIDs, r.CallID)) &&
		(len(o.EventIDs) == 0 || slices.Contains(o.EventIDs, r.EventID))
}

// Redelivered is the result of an order.
type Redelivered struct {
	// Matched counts the dead letters that the order names, Moved those that wait for a new delivery since.
	Matched, Moved int
	// ShareFull says that the endpoint's share of the queue, or the queue itself, had no room for more.
	ShareFull bool
}
