// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package deliver

import (
	"testing"

	"github.com/garyclub/webhook-operator/internal/delivery"
)

func TestLimit(t *testing.T) {
	repeat := func(o delivery.Outcome, n int) []delivery.Outcome {
		all := make([]delivery.Outcome, n)
		for i := range all {
			all[i] = o
		}
		return all
	}
	const good, slow = delivery.OutcomeDelivered, delivery.OutcomeTimedOut
	for name, tc := range map[string]struct {
		max       int
		outcomes  []delivery.Outcome
		want      int
		wantClass class
	}{
		"begins small":                       {max: 16, want: startLimit, wantClass: unproven},
		"begins no larger than allowed":      {max: 2, want: 2, wantClass: unproven},
		"is one at least":                    {max: 0, want: 1, wantClass: unproven},
		"grows after a round of answers":     {max: 16, outcomes: repeat(good, 4), want: 5},
		"grows slower as it grows":           {max: 16, outcomes: repeat(good, 4+5), want: 6},
		"does not grow at once":              {max: 16, outcomes: repeat(good, 3), want: 4},
		"grows up to the maximum":            {max: 16, outcomes: repeat(good, 1000), want: 16},
		"a refusal is an answer":             {max: 16, outcomes: repeat(delivery.OutcomeRejected, 4), want: 5},
		"halves when it hangs":               {max: 16, outcomes: append(repeat(good, 1000), slow), want: 8, wantClass: hanging},
		"shrinks to one":                     {max: 16, outcomes: append(repeat(good, 1000), repeat(slow, 9)...), want: 1, wantClass: hanging},
		"halves when out of reach":           {max: 16, outcomes: []delivery.Outcome{delivery.OutcomeUnreachable}, want: 2, wantClass: hanging},
		"halves when throttled, but answers": {max: 16, outcomes: []delivery.Outcome{delivery.OutcomeThrottled}, want: 2},
		"learns nothing from our own end":    {max: 16, outcomes: []delivery.Outcome{delivery.OutcomeInterrupted}, want: 4, wantClass: unproven},
		"is trusted again by one answer":     {max: 16, outcomes: append(repeat(slow, 9), good), want: 2},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLimit(tc.max)
			for _, o := range tc.outcomes {
				l.learn(o)
			}
			if l.current != tc.want || l.class != tc.wantClass {
				t.Errorf("limit is %d of class %d, want %d of class %d", l.current, l.class, tc.want, tc.wantClass)
			}
		})
	}
}

func TestLimitFollowsMaxInFlight(t *testing.T) {
	l := newLimit(16)
	for range 1000 {
		l.learn(delivery.OutcomeDelivered)
	}
	if l.resize(3); l.current != 3 {
		t.Errorf("limit is %d after the maximum became 3", l.current)
	}
	l.resize(8)
	for range 100 {
		l.learn(delivery.OutcomeDelivered)
	}
	if l.current != 8 {
		t.Errorf("limit is %d after the maximum became 8", l.current)
	}
}
