// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package queue is the durable queue of a dispatcher: events and their deliveries from the moment of their acceptance
// until each is delivered or dead-lettered, the outbox of records, and the cumulative counters.
//
// Commit points: Append returns after the event and its deliveries are synced to disk; Settle returns after the
// delivery's new state, its outgoing record and the counters are synced in one atomic batch. A crash between the two
// repeats an attempt; it loses none.
//
// A delivery moves to another queue in two steps, so that it is in both for a moment and never in none: TakeOver there
// returns after its sync, and then HandedOver here removes it. A crash between the two hands it over again, and the
// other queue knows it. A dead letter moves likewise.
//
// A dead letter is delivered again by an order. It becomes a new delivery in the batch that removes it, together with how
// far the order came, so that an order which is repeated after a crash moves nothing twice.
package queue

import (
	"context"
	"errors"
	"time"

	"github.com/garyclub/webhook-operator/internal/delivery"
	"github.com/garyclub/webhook-operator/internal/endpoint"
	"github.com/garyclub/webhook-operator/internal/event"
)

// Errors of Append, TakeOver and Redeliver. None leaves anything behind.
var (
	// ErrFull: the queue's own limit, or the reserve of its disk, is reached. Later it may go on.
	ErrFull = errors.New("queue is full")
	// ErrKeyReused: the idempotency key stands for an event with another body.
	ErrKeyReused = errors.New("idempotency key was used with another body")
	// ErrClosed: the queue is closed or closing.
	ErrClosed = errors.New("queue is closed")
	// ErrOrder: an order breaks a rule. Only Redeliver answers with it.
	ErrOrder = errors.New("order is not valid")
)

// Item is one event to append, with the endpoints that it matched.
type Item struct {
	Event *event.Event
	// Key is the producer's idempotency key, hashed with its namespace; zero when there is none.
	Key [32]byte
	// Matched is false before the first complete list of endpoints has come: the event is then kept unmatched.
	Matched   bool
	Endpoints []*endpoint.Endpoint
}

// Accepted is the answer for one item.
type Accepted struct {
	EventID string
	// Deliveries is the number of endpoints matched, -1 while it is not known.
	Deliveries int
	// Repeated says that the key had been seen with the same body: nothing was added.
	Repeated bool
}

// Lease is one due delivery, held until it is settled. A crash gives it back.
type Lease interface {
	Delivery() delivery.Delivery
	// Event is read from disk when it is asked for.
	Event() (*event.Event, error)
	// Settle stores the new state and gives the lease back. It returns after the sync.
	Settle(ctx context.Context, d delivery.Delivery) error
	// Release gives the lease back unchanged: no attempt was made. The endpoint's deliveries are due again at the time.
	Release(at time.Time)
}

// Passage says what LeaseWaiting is to lease.
type Passage struct {
	// Due has what is due leased too; otherwise it is left to Lease.
	Due bool
	// Want says whether the endpoint's deliveries are asked for; nil means all are.
	Want func(ref endpoint.Ref) bool
}

// Parcel is a delivery of another queue, with its event.
type Parcel struct {
	// Event may be shared with other parcels of the same call; it is then stored once.
	Event *event.Event
	// Delivery is Pending or Retrying, or Failed: then it is a dead letter, with the time to which it is kept. Its Hops
	// are raised by TakeOver, and by nobody else.
	Delivery delivery.Delivery
	// Last says that the delivery is lost if it is not taken.
	Last bool
}

// TookOver is what became of a parcel. In each case but TookOverShareFull this queue answers for the delivery from now on.
type TookOver uint8

// What becomes of a parcel.
const (
	TookOverAdded TookOver = iota + 1
	// TookOverPresent: the event, of the same acceptance, was here for that endpoint already, waiting or failed; nothing
	// was added.
	TookOverPresent
	// TookOverShareFull: the endpoint's share is full, so that the delivery stays where it is.
	TookOverShareFull
	// TookOverFailed: so is it, and the parcel is the last: it has ended as QueueFull, as in Append.
	TookOverFailed
)

// Gate decides whether a delivery to the endpoint may start now. When it refuses, the endpoint's deliveries are passed
// over until Unpark names it.
type Gate interface {
	Admit(ref endpoint.Ref) bool
}

// Outgoing is one record in the outbox.
type Outgoing struct {
	Seq    uint64
	Record delivery.Record
}

// Taken is the manager's answer to one Outgoing.
type Taken struct {
	Seq uint64
	// Recorded is false when the budget left the record out; a delivery that is done is then counted as unrecorded.
	Recorded bool
}

// Ended is a number of deliveries of one endpoint that ended the same way in one commit.
type Ended struct {
	Ref    endpoint.Ref
	State  delivery.State
	Reason string // of a failure
	// Attempted is false when they ended without an attempt: for want of room or of time, with their endpoint, or by
	// crashes.
	Attempted bool
	Count     int
}

// Stats are the figures for metrics and health.
type Stats struct {
	Waiting, InFlight, Unmatched, DeadLetters, Outbox int64
	LiveBytes, DeadBytes, DiskBytes, MaxBytes         int64
	IdempotencyKeys                                   int64
	OldestKeyAge                                      time.Duration
	// OldestDue is how long the delivery that is due the longest has been so, held ones included; 0 when none is due.
	OldestDue time.Duration
	Full      bool
}

// Queue is the interface that both engines fulfil, proved by queuetest.
type Queue interface {
	// ID names this queue for as long as its disk lives; counters are cumulative under it.
	ID() string

	// Append stores all items in one atomic batch, or none.
	Append(ctx context.Context, items []Item) ([]Accepted, error)
	// MatchWaiting matches the events that were kept unmatched, and all that come unmatched later, until ctx ends.
	// match returns false while there is no complete list; Rematch makes it look again.
	MatchWaiting(ctx context.Context, match func(*event.Event) ([]*endpoint.Endpoint, bool)) error
	Rematch()

	// Lease waits for a due delivery that the gate admits. Endpoints take turns.
	Lease(ctx context.Context, gate Gate) (Lease, error)
	// LeaseWaiting leases up to n deliveries that wait, without a gate and without waiting itself: none means that none
	// is there. A lease of it is no attempt, so a crash gives it back without an interruption. Such a lease ends by
	// Release, HandedOver or Settle.
	LeaseWaiting(ctx context.Context, n int, p Passage) ([]Lease, error)
	// Deferred returns a channel that is closed when a delivery comes to wait for a later time.
	Deferred() <-chan struct{}
	// LeaseDead is LeaseWaiting for dead letters that have not expired, the oldest first. Such a lease keeps its dead
	// letter from other calls of LeaseDead only: it may still be redelivered, or expire. It ends by Release or HandedOver.
	LeaseDead(ctx context.Context, n int, want func(ref endpoint.Ref) bool) ([]Lease, error)
	// HandedOver removes the deliveries of these leases, for which another queue answers from now on. They count as no
	// longer pending, and as nothing else; what the outbox says of dead letters stays. It returns after the sync.
	HandedOver(ctx context.Context, leases []Lease) error
	// TakeOver stores the parcels of another queue for which there is room in one atomic batch, or none. Dead letters
	// are kept for as long as they were to be, and neither counted nor told of: that other queue has done both.
	TakeOver(ctx context.Context, parcels []Parcel) ([]TookOver, error)
	// Redeliver carries an order out: each dead letter that it moves leaves the dead letters and waits anew, for the
	// endpoint as it is now. A part of it, together with how far it came, is one atomic batch; it returns after the last
	// sync. An order that was broken off goes on when it is repeated, and one that is done has the result that it had, with
	// what was handed over since on top, for as long as a dead letter is kept; a dry run tells how far it came.
	// ErrFull says that there was no room for the first one.
	Redeliver(ctx context.Context, o delivery.Order, p *endpoint.Endpoint) (delivery.Redelivered, error)
	// Unpark makes an endpoint's deliveries eligible again after its gate refused; UnparkAll does so for all endpoints,
	// those that have nothing waiting now included.
	Unpark(ref endpoint.Ref)
	UnparkAll()
	// Waiting lists the endpoints that have deliveries waiting.
	Waiting() []endpoint.Ref
	// Held says how many bytes the waiting deliveries of each namespace hold, as they count for the share of an endpoint:
	// an event's payload for each of its deliveries. It goes through all endpoints.
	Held() map[string]int64
	// Idle says that nothing is leased and nothing is due but what a gate refused.
	Idle() bool
	// Expire fails what waits for the endpoint beyond its deadline, and all of it when every is set, for the reason.
	// Nothing in flight is touched. It returns the number ended, and the earliest deadline of what it left; zero when
	// nothing is left.
	Expire(ctx context.Context, ref endpoint.Ref, every bool, reason string) (ended int, next time.Time, err error)

	// Outbox returns up to n records beyond the sequence number, oldest first, waiting until there is one.
	Outbox(ctx context.Context, after uint64, n int) ([]Outgoing, error)
	// Acknowledge removes what the manager has taken, and counts what it left out.
	Acknowledge(ctx context.Context, taken []Taken) error
	// Counters returns those that changed since the given version, and the version that they bring up to.
	Counters(since uint64) ([]delivery.Counters, uint64)
	// Counted returns a channel that is closed when counters change next.
	Counted() <-chan struct{}

	// HoldGone and Gone keep the incarnation of an endpoint that answered 410, over restarts.
	HoldGone(ctx context.Context, ref endpoint.Ref, incarnation string) error
	Gone(ref endpoint.Ref) string

	Stats() Stats
	// Broken is closed when the queue cannot go on: every call fails then with what Err returns, until it is opened
	// again. Err is nil before.
	Broken() <-chan struct{}
	Err() error
	// Close waits for commits under way. Leases not settled are given back at the next open, without an interruption.
	Close() error
}
