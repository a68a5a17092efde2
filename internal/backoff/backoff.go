// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package backoff is the delay rule between the attempts of a delivery.
package backoff

import (
	"math"
	"time"
)

// Jitter is how far a wait strays from the schedule, to either side, as a fraction.
const Jitter = 0.2

// Next is the wait after the given number of failed attempts (1 or more): initial, doubled for each failure after the
// first, capped at limit, and then spread by ±20 % with jitter in [0,1).
func Next(initial, limit time.Duration, failures int, jitter float64) time.Duration {
	limit = min(limit, math.MaxInt64/2) // room for the jitter
	wait := min(initial, limit)
	for range failures - 1 {
		if wait == 0 || wait >= limit {
			break
		}
		wait = min(2*wait, limit) // the limit leaves room for that too
	}
	return time.Duration(float64(wait) * (1 - Jitter + 2*Jitter*jitter))
}
