// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package prober

import "time"

// Behaviour is how a receiver treats the requests of one endpoint. The rates are probabilities and exclude each other.
type Behaviour struct {
	// Status is what is answered when nothing else happens; 200 when it is 0.
	Status int
	// Refuse answers 500; Throttle answers 429 with a Retry-After of a second; Hang does not answer.
	Refuse, Throttle, Hang float64
	// Reset breaks the connection off before the request is noted; Forget notes it and breaks off before the answer.
	Reset, Forget float64
	// Shortest and Longest bound the time that an answer takes.
	Shortest, Longest time.Duration
}

// Action is what a receiver does with one request.
type Action int

// The actions.
const (
	Answer Action = iota
	Hang
	Reset
	Forget
)

// Decision is an action with what belongs to it.
type Decision struct {
	Action Action
	Status int
	// RetryAfter is the header's value, in seconds; 0 is none.
	RetryAfter int
	Delay      time.Duration
}

// Success says that the sender is to take it as one.
func (d Decision) Success() bool { return d.Action == Answer && d.Status == 200 }

// Decide is the pure decision: kind and delay are in [0,1).
func (b Behaviour) Decide(kind, delay float64) Decision {
	d := Decision{Status: b.Status, Delay: b.Shortest + scale(b.Longest-b.Shortest, delay)}
	if d.Status == 0 {
		d.Status = 200
	}
	for _, part := range []struct {
		rate float64
		then Decision
	}{
		{b.Refuse, Decision{Status: 500, Delay: d.Delay}},
		{b.Throttle, Decision{Status: 429, RetryAfter: 1, Delay: d.Delay}},
		{b.Hang, Decision{Action: Hang}},
		{b.Reset, Decision{Action: Reset}},
		{b.Forget, Decision{Action: Forget}},
	} {
		if kind < part.rate {
			return part.then
		}
		kind -= part.rate
	}
	return d
}
