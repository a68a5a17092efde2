// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package delivery holds the life of one event for one endpoint, and the pure decisions about it.
package delivery

import (
	"strings"
	"time"
	"unicode/utf8"

	"github.com/garyclub/webhook-operator/internal/endpoint"
	"github.com/garyclub/webhook-operator/internal/event"
)

// State is where a delivery stands.
type State uint8

// A delivery begins Pending and ends Delivered or Failed. The numbers stand on disk.
const (
	Pending   State = 1
	Retrying  State = 2
	Delivered State = 3
	Failed    State = 4
)

// String is the word that status.outcome shows.
func (s State) String() string {
	switch s {
	case Pending:
		return "Pending"
	case Retrying:
		return "Retrying"
	case Delivered:
		return "Delivered"
	case Failed:
		return "Failed"
	}
	return "Unknown"
}

// Done says whether no further attempt follows.
func (s State) Done() bool { return s == Delivered || s == Failed }

// Outcome is what one attempt came to: one enum for API, metrics and code.
type Outcome string

// The outcomes of an attempt.
const (
	OutcomeDelivered      Outcome = "Delivered"
	OutcomeRejected       Outcome = "Rejected"  // an answer that is no success, redirects included
	OutcomeThrottled      Outcome = "Throttled" // 429, or 503 with Retry-After
	OutcomeGone           Outcome = "Gone"      // 410
	OutcomeTimedOut       Outcome = "TimedOut"
	OutcomeUnreachable    Outcome = "Unreachable"
	OutcomeTLSFailed      Outcome = "TLSFailed"
	OutcomeAddressRefused Outcome = "AddressRefused"
	OutcomeInterrupted    Outcome = "Interrupted"
)

// Outcomes lists them, for metrics that are registered at zero.
func Outcomes() []Outcome {
	return []Outcome{OutcomeDelivered, OutcomeRejected, OutcomeThrottled, OutcomeGone, OutcomeTimedOut,
		OutcomeUnreachable, OutcomeTLSFailed, OutcomeAddressRefused, OutcomeInterrupted}
}

// The reasons of a failed delivery that are no attempt's outcome.
const (
	ReasonDeadlineExceeded = "DeadlineExceeded"
	ReasonQueueFull        = "QueueFull"
	ReasonQueueLost        = "QueueLost"
	ReasonEndpointDeleted  = "EndpointDeleted"
	ReasonInterrupted      = string(OutcomeInterrupted)
)

// Trigger says what asked for a delivery.
type Trigger string

// The triggers.
const (
	TriggerEvent      Trigger = "Event"
	TriggerTest       Trigger = "Test"
	TriggerRedelivery Trigger = "Redelivery"
)

// MaxInterruptions is how often a delivery may be in flight at a crash before it ends as Interrupted: its payload may
// be what kills us.
const MaxInterruptions = 10

// MaxKeptAttempts bounds the attempts that a delivery remembers: the first ones and the latest.
const MaxKeptAttempts = 16

// Attempt is one request of a delivery.
type Attempt struct {
	Number     int
	Start      time.Time
	Duration   time.Duration
	Outcome    Outcome
	StatusCode int // 0 when there was no answer
	// Message is for people; made of constant texts, never of URLs, headers or bodies.
	Message string
	// RetryAfter is what the receiver asked for; 0 when it did not.
	RetryAfter time.Duration
}

// MaxMessageBytes bounds an attempt's message, wherever it comes from.
const MaxMessageBytes = 256

// BoundedMessage cuts a text to MaxMessageBytes, at a character's border: one that comes from another process can be of
// any length.
func BoundedMessage(text string) string {
	if len(text) <= MaxMessageBytes {
		return text
	}
	text = text[:MaxMessageBytes]
	for !utf8.ValidString(text) {
		text = text[:len(text)-1]
	}
	return strings.Clone(text) // lets go of the rest
}

// Reply is the part of an answer that is judged.
type Reply struct {
	StatusCode int
	// RetryAfter is the header's value; empty when there is none.
	RetryAfter string
}

// Failure is why an attempt got no answer. Both fields are of a closed set, fit to be shown to anybody.
type Failure struct {
	Outcome Outcome
	Message string
}

// Error joins outcome and message.
func (f *Failure) Error() string { return string(f.Outcome) + ": " + f.Message }

// Delivery is one event for one endpoint.
type Delivery struct {
	Ref     endpoint.Ref
	UID     string // of the endpoint at the latest attempt, or at acceptance
	EventID string
	Trigger Trigger
	// Order and OrderName are UID and name of the Redelivery that asked for it; empty for the other triggers.
	Order, OrderName string
	State            State
	Reason           string // of a failure: an Outcome of the last attempt, or a Reason constant
	Accepted         time.Time
	// Deadline is when the delivery fails at the latest.
	Deadline time.Time
	// Due is when the next attempt is due; Wait is the delay that led to it, which bounds Due after a clock step.
	Due  time.Time
	Wait time.Duration
	// AttemptCount counts the requests whose outcome is known; Attempts remembers at most MaxKeptAttempts of them.
	AttemptCount  int
	MaxAttempts   int
	Interruptions int
	// Hops counts how often it was handed over from one queue to another: of two reports about a delivery, the one with
	// more of them is of the queue that holds it.
	Hops      int
	Attempts  []Attempt
	Completed time.Time
	// RedeliverableUntil is when a failed delivery's payload is dropped.
	RedeliverableUntil time.Time
}

// Record is what leaves a dispatcher about a delivery: no payload, only its measure.
type Record struct {
	Delivery
	EventType    event.Type
	EventTime    time.Time
	CallID       string
	AgentID      string
	PayloadBytes int
	PayloadSHA   [32]byte
	// QueueID names the queue that reports it; empty within a dispatcher, which has one.
	QueueID string
}

// Source is a queue that reports, and the pod that holds it.
type Source struct {
	// Namespace is the pod's, which is the endpoints' too unless the queue is a gateway's.
	Namespace   string
	Pod, PodUID string
	QueueID     string
	// Persistent says that the queue outlives its pod.
	Persistent bool
}

// Counters are the cumulative figures of one queue about one endpoint. They never go backwards, but for Pending.
type Counters struct {
	UID         string
	Ref         endpoint.Ref
	Succeeded   int64
	Failed      int64
	Unrecorded  int64
	Pending     int64
	LastSuccess time.Time
	LastFailure time.Time
	// Gone is the incarnation of the endpoint that answered 410; empty when none did.
	Gone string
}
