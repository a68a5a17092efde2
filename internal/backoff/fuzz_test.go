// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package backoff

import (
	"math"
	"testing"
	"time"
)

// FuzzNext: whatever is asked for, a wait is neither negative nor beyond its limit and the jitter.
func FuzzNext(f *testing.F) {
	f.Add(int64(5*time.Second), int64(5*time.Minute), 3, 0.5)
	f.Add(int64(0), int64(time.Hour), math.MaxInt, 0.0)
	f.Add(int64(1), int64(math.MaxInt64), 70, 0.999)
	f.Add(int64(time.Hour), int64(time.Second), 1, 0.0)
	f.Fuzz(func(t *testing.T, initial, limit int64, failures int, jitter float64) {
		if initial < 0 || limit < 0 || !(jitter >= 0 && jitter < 1) {
			return // the API's rules and the source of jitter have neither
		}
		wait := Next(time.Duration(initial), time.Duration(limit), failures, jitter)
		if wait < 0 {
			t.Fatalf("the wait is %d", wait)
		}
		if most := float64(limit) * (1 + Jitter); float64(wait) > most+1 {
			t.Errorf("the wait is %d, beyond the limit %d and its jitter", wait, limit)
		}
		if least := float64(min(initial, limit, math.MaxInt64/2)) * (1 - Jitter); float64(wait) < least*(1-1e-9)-1 {
			t.Errorf("the wait is %d, below the first one %d and its jitter", wait, initial)
		}
	})
}
