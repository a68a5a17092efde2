// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package prober

import (
	"testing"
	"time"
)

func TestDecide(t *testing.T) {
	mixed := Behaviour{Refuse: 0.1, Throttle: 0.1, Hang: 0.1, Reset: 0.1, Forget: 0.1, Shortest: time.Second, Longest: 3 * time.Second}
	for name, tc := range map[string]struct {
		behaviour Behaviour
		kind      float64
		want      Decision
		success   bool
	}{
		"well":           {kind: 0, want: Decision{Status: 200}, success: true},
		"broken":         {behaviour: Behaviour{Status: 503}, kind: 0.9, want: Decision{Status: 503}},
		"of many, the 1": {behaviour: mixed, kind: 0.05, want: Decision{Status: 500, Delay: 2 * time.Second}},
		"of many, the 2": {behaviour: mixed, kind: 0.15, want: Decision{Status: 429, RetryAfter: 1, Delay: 2 * time.Second}},
		"of many, the 3": {behaviour: mixed, kind: 0.25, want: Decision{Action: Hang}},
		"of many, the 4": {behaviour: mixed, kind: 0.35, want: Decision{Action: Reset}},
		"of many, the 5": {behaviour: mixed, kind: 0.45, want: Decision{Action: Forget}},
		"of many, none":  {behaviour: mixed, kind: 0.55, want: Decision{Status: 200, Delay: 2 * time.Second}, success: true},
	} {
		got := tc.behaviour.Decide(tc.kind, 0.5)
		if got != tc.want || got.Success() != tc.success {
			t.Errorf("%s: %+v, success %t; want %+v, %t", name, got, got.Success(), tc.want, tc.success)
		}
	}
}

func TestTheMixIsWhole(t *testing.T) {
	sum, seen := 0, map[string]bool{}
	for _, m := range mix {
		sum += m.parts
	}
	for part := range 1000 {
		seen[string(draw(part))] = true
	}
	if sum != 1000 || len(seen) != len(mix) {
		t.Errorf("%d parts of a thousand, %d of %d types are drawn", sum, len(seen), len(mix))
	}
}

func TestStableEndpointsAreRequired(t *testing.T) {
	for event, want := range map[string][2]int{ // required, possible
		"call.completed": {3, 3}, "booking.created": {2, 3}, "contact.created": {2, 2},
		string(eventMoving): {0, 1}, string(eventDoomed): {0, 1}, string(eventGone): {1, 1}, string(eventBroken): {1, 1},
	} {
		required, possible := len(requiredOf("probe-a", event)), len(possibleOf("probe-a", event))
		if required != want[0] || possible != want[1] {
			t.Errorf("%s: %d endpoints required and %d possible, want %v", event, required, possible, want)
		}
	}
}
