// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"sync/atomic"
	"time"
)

// Orders are what a receiver expects of one run.
type Orders struct {
	Load
	// Key is the signing key of all endpoints, as whsec_.
	Key string
}

// Arrivals is the receiver's account of one run: the truth about what was delivered. Each delivery has one bit, its
// event's number times the fan-out plus its endpoint's place in the group.
type Arrivals struct {
	load Load
	bits []atomic.Uint64

	unique, duplicates, aside, warm, wrong atomic.Int64
	first, last                            atomic.Int64 // nanoseconds since the epoch
	latency                                Histogram
}

func newArrivals(l Load) *Arrivals {
	return &Arrivals{load: l, bits: make([]atomic.Uint64, (l.Events*l.Fanout+63)/64)}
}

// Note books a request. hang says that it is to have no answer.
func (a *Arrivals) Note(endpoint int, body []byte, now time.Time) (hang bool) {
	number, at, ok := readStamp(body)
	group := endpoint / a.load.Fanout
	if !ok || group >= a.load.Groups || len(body) != a.load.BodyBytes {
		a.wrong.Add(1)
		return false
	}
	measured := group < a.load.measured()
	hang = a.load.Hanging && !measured
	switch {
	case number >= firstWarm:
		a.warm.Add(1)
	case number >= int64(a.load.Events) || int(number)%a.load.Groups != group:
		a.wrong.Add(1)
	case !measured:
		a.aside.Add(1)
	default:
		a.mark(number*int64(a.load.Fanout)+int64(endpoint%a.load.Fanout), at, now)
	}
	return hang
}

func (a *Arrivals) mark(place int64, at, now time.Time) {
	bit := uint64(1) << (place % 64)
	if a.bits[place/64].Or(bit)&bit != 0 {
		a.duplicates.Add(1)
		return
	}
	a.latency.Add(now.Sub(at))
	a.first.CompareAndSwap(0, now.UnixNano())
	a.last.Store(now.UnixNano()) // of arrivals at the same time any one will do
	a.unique.Add(1)
}

// Arrived is an account as it stands.
type Arrived struct {
	// Unique are the deliveries that are measured, each once; Duplicates came again.
	Unique, Duplicates int64
	// Aside are requests at endpoints that are not measured, Warm those of the warm-up.
	Aside, Warm int64
	// Wrong are requests that nobody should have made, or with another body or signature.
	Wrong       int64
	First, Last time.Time
	Latency     Percentiles
	// Connections are those that were opened since the account began.
	Connections int64
}

// Arrived is the account so far.
func (a *Arrivals) Arrived() Arrived {
	return Arrived{
		Unique: a.unique.Load(), Duplicates: a.duplicates.Load(), Aside: a.aside.Load(), Warm: a.warm.Load(), Wrong: a.wrong.Load(),
		First: time.Unix(0, a.first.Load()), Last: time.Unix(0, a.last.Load()), Latency: a.latency.Percentiles(),
	}
}
