// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package reconcile

import (
	"errors"
	"fmt"
	"testing"
	"time"
)

func TestVerdict(t *testing.T) {
	broken := errors.New("broken")
	for name, tc := range map[string]struct {
		steps       []error
		wantRun     int
		wantAfter   time.Duration
		wantStalled string
		wantErr     error
	}{
		"all well":                        {steps: []error{nil, nil}, wantRun: 2},
		"the earliest wait counts":        {steps: []error{Waiting(time.Minute), Waiting(time.Second), Waiting(time.Hour)}, wantRun: 3, wantAfter: time.Second},
		"a wait of nothing is still one":  {steps: []error{Waiting(0)}, wantRun: 1, wantAfter: time.Millisecond},
		"the first stall counts":          {steps: []error{Stalled("A", "a"), Stalled("B", "b")}, wantRun: 2, wantStalled: "A"},
		"wrapped ones count too":          {steps: []error{fmt.Errorf("step: %w", Stalled("A", "a"))}, wantRun: 1, wantStalled: "A"},
		"an error ends the steps":         {steps: []error{nil, broken, Waiting(1)}, wantRun: 2, wantErr: broken},
		"stalled and waiting may be both": {steps: []error{Stalled("A", "a"), Waiting(time.Second)}, wantRun: 2, wantStalled: "A", wantAfter: time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			var v Verdict
			run := 0
			for _, step := range tc.steps {
				run++
				if !v.Add(step) {
					break
				}
			}
			stalled := ""
			if v.Stalled != nil {
				stalled = v.Stalled.Reason
			}
			result, err := v.Result()
			if run != tc.wantRun || stalled != tc.wantStalled || !errors.Is(err, tc.wantErr) || result.RequeueAfter != tc.wantAfter {
				t.Errorf("ran %d, stalled %q, after %s, error %v", run, stalled, result.RequeueAfter, err)
			}
		})
	}
}
