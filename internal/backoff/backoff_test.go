// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package backoff

import (
	"math"
	"testing"
	"time"
)

func TestNext(t *testing.T) {
	for name, tc := range map[string]struct {
		initial, limit time.Duration
		failures       int
		jitter         float64
		want           time.Duration
	}{
		"after the first failure":     {5 * time.Second, 300 * time.Second, 1, .5, 5 * time.Second},
		"doubles after the second":    {5 * time.Second, 300 * time.Second, 2, .5, 10 * time.Second},
		"doubles after the third":     {5 * time.Second, 300 * time.Second, 3, .5, 20 * time.Second},
		"is capped":                   {5 * time.Second, 300 * time.Second, 8, .5, 300 * time.Second},
		"does not overflow":           {5 * time.Second, 300 * time.Second, math.MaxInt, .5, 300 * time.Second},
		"begins above the cap":        {600 * time.Second, 300 * time.Second, 1, .5, 300 * time.Second},
		"jitter at its lower end":     {5 * time.Second, 300 * time.Second, 1, 0, 4 * time.Second},
		"jitter near its upper end":   {5 * time.Second, 300 * time.Second, 1, 1, 6 * time.Second},
		"jitter spreads the cap too":  {5 * time.Second, 10 * time.Second, 9, 0, 8 * time.Second},
		"a cap that is no power of 2": {5 * time.Second, 12 * time.Second, 3, .5, 12 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			if got := Next(tc.initial, tc.limit, tc.failures, tc.jitter); (got - tc.want).Abs() > time.Microsecond {
				t.Errorf("wait is %v, want %v", got, tc.want)
			}
		})
	}
}
