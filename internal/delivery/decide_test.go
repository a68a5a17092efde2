// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package delivery

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/garyclub/webhook-operator/internal/endpoint"
)

var start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func policy(maxRetries int) *endpoint.Endpoint {
	return &endpoint.Endpoint{UID: "uid-1", Retry: endpoint.Retry{MaxRetries: maxRetries, InitialBackoff: 5 * time.Second,
		MaxBackoff: 300 * time.Second, Deadline: 24 * time.Hour}}
}

func fresh() Delivery {
	return Delivery{State: Pending, Accepted: start, Deadline: start.Add(24 * time.Hour), Due: start, Interruptions: 3}
}

func TestAfter(t *testing.T) {
	for name, tc := range map[string]struct {
		attempt    Attempt
		retries    int
		deadline   time.Duration
		wantState  State
		wantReason string
		wantWait   time.Duration
	}{
		"delivered":                  {attempt: Attempt{Number: 1, Outcome: OutcomeDelivered}, retries: 3, wantState: Delivered},
		"delivered at the last":      {attempt: Attempt{Number: 4, Outcome: OutcomeDelivered}, retries: 3, wantState: Delivered},
		"first failure":              {attempt: Attempt{Number: 1, Outcome: OutcomeRejected}, retries: 3, wantState: Retrying, wantWait: 5 * time.Second},
		"third failure":              {attempt: Attempt{Number: 3, Outcome: OutcomeTimedOut}, retries: 3, wantState: Retrying, wantWait: 20 * time.Second},
		"third retry failed":         {attempt: Attempt{Number: 4, Outcome: OutcomeTimedOut}, retries: 3, wantState: Failed, wantReason: "TimedOut"},
		"no retries wanted":          {attempt: Attempt{Number: 1, Outcome: OutcomeRejected}, wantState: Failed, wantReason: "Rejected"},
		"gone at the first":          {attempt: Attempt{Number: 1, Outcome: OutcomeGone}, retries: 3, wantState: Failed, wantReason: "Gone"},
		"unreachable is retried":     {attempt: Attempt{Number: 1, Outcome: OutcomeUnreachable}, retries: 3, wantState: Retrying, wantWait: 5 * time.Second},
		"bad TLS is retried":         {attempt: Attempt{Number: 1, Outcome: OutcomeTLSFailed}, retries: 3, wantState: Retrying, wantWait: 5 * time.Second},
		"a refused address too":      {attempt: Attempt{Number: 1, Outcome: OutcomeAddressRefused}, retries: 3, wantState: Retrying, wantWait: 5 * time.Second},
		"receiver asks for longer":   {attempt: Attempt{Number: 1, Outcome: OutcomeThrottled, RetryAfter: time.Minute}, retries: 3, wantState: Retrying, wantWait: time.Minute},
		"receiver asks for shorter":  {attempt: Attempt{Number: 1, Outcome: OutcomeThrottled, RetryAfter: time.Second}, retries: 3, wantState: Retrying, wantWait: 5 * time.Second},
		"receiver asks for too much": {attempt: Attempt{Number: 1, Outcome: OutcomeThrottled, RetryAfter: 48 * time.Hour}, retries: 3, wantState: Retrying, wantWait: MaxRetryAfter},
		"beyond the deadline": {attempt: Attempt{Number: 1, Outcome: OutcomeRejected}, retries: 3, deadline: 4 * time.Second,
			wantState: Failed, wantReason: ReasonDeadlineExceeded},
		"fewer retries than were made": {attempt: Attempt{Number: 3, Outcome: OutcomeRejected}, retries: 1, wantState: Failed, wantReason: "Rejected"},
	} {
		t.Run(name, func(t *testing.T) {
			d := fresh()
			if tc.deadline > 0 {
				d.Deadline = start.Add(tc.deadline)
			}
			got := After(d, policy(tc.retries), tc.attempt, start, .5)
			if got.State != tc.wantState || got.Reason != tc.wantReason || got.Wait != tc.wantWait {
				t.Errorf("%v %q wait %v, want %v %q wait %v", got.State, got.Reason, got.Wait, tc.wantState, tc.wantReason, tc.wantWait)
			}
			if got.AttemptCount != tc.attempt.Number || got.MaxAttempts != tc.retries+1 || got.UID != "uid-1" || got.Interruptions != 0 {
				t.Errorf("noted as %d of %d for %s with %d interruptions", got.AttemptCount, got.MaxAttempts, got.UID, got.Interruptions)
			}
			checkTimes(t, got)
		})
	}
}

func checkTimes(t *testing.T, d Delivery) {
	t.Helper()
	if d.State.Done() != d.Completed.Equal(start) || d.State.Done() != d.Due.IsZero() {
		t.Errorf("%v is completed at %v and due at %v", d.State, d.Completed, d.Due)
	}
	if !d.State.Done() && !d.Due.Equal(start.Add(d.Wait)) {
		t.Errorf("due at %v after a wait of %v from %v", d.Due, d.Wait, start)
	}
}

// run plays the codes and returns when, from the start, each attempt was made.
func run(outcomes func(number int) Outcome) ([]time.Duration, Delivery) {
	d, now, p := fresh(), start, policy(3)
	var at []time.Duration
	for !d.State.Done() {
		at = append(at, now.Sub(start))
		d = After(d, p, Attempt{Number: d.AttemptCount + 1, Outcome: outcomes(d.AttemptCount + 1)}, now, .5)
		now = d.Due
	}
	return at, d
}

func TestScheduleOfTheProductPage(t *testing.T) {
	at, d := run(func(number int) Outcome {
		if number < 3 {
			return OutcomeRejected // 503, 503
		}
		return OutcomeDelivered
	})
	if diff := cmp.Diff([]time.Duration{0, 5 * time.Second, 15 * time.Second}, at); diff != "" || d.State != Delivered {
		t.Errorf("503, 503, 200 ends %v; times differ (-want +got):\n%s", d.State, diff)
	}
	at, d = run(func(int) Outcome { return OutcomeRejected })
	if diff := cmp.Diff([]time.Duration{0, 5 * time.Second, 15 * time.Second, 35 * time.Second}, at); diff != "" || d.State != Failed {
		t.Errorf("500 for ever ends %v; times differ (-want +got):\n%s", d.State, diff)
	}
}

func TestAfterRemembersFirstAndLatestAttempts(t *testing.T) {
	d, p := fresh(), policy(100)
	for n := 1; n <= 40; n++ {
		before := len(d.Attempts)
		kept := append([]Attempt(nil), d.Attempts...)
		next := After(d, p, Attempt{Number: n, Outcome: OutcomeRejected}, start, .5)
		if diff := cmp.Diff(kept, d.Attempts[:before]); diff != "" {
			t.Fatalf("attempt %d changed the delivery before it:\n%s", n, diff)
		}
		d = next
	}
	if len(d.Attempts) != MaxKeptAttempts || d.AttemptCount != 40 {
		t.Fatalf("%d attempts of %d are kept", len(d.Attempts), d.AttemptCount)
	}
	if first, last := d.Attempts[0].Number, d.Attempts[MaxKeptAttempts-1].Number; first != 1 || last != 40 {
		t.Errorf("kept from %d to %d, want 1 to 40", first, last)
	}
	if second := d.Attempts[1].Number; second != 40-MaxKeptAttempts+2 {
		t.Errorf("the second kept is %d", second)
	}
}

func TestFailEndsWithoutAnAttempt(t *testing.T) {
	got := Fail(fresh(), ReasonEndpointDeleted, start)
	if got.State != Failed || got.Reason != ReasonEndpointDeleted || got.AttemptCount != 0 {
		t.Errorf("%v %q after %d attempts", got.State, got.Reason, got.AttemptCount)
	}
	checkTimes(t, got)
}

func TestOutcomesAndStatesAreNamed(t *testing.T) {
	seen := map[Outcome]bool{}
	for _, o := range Outcomes() {
		seen[o] = true
	}
	if len(seen) != 9 {
		t.Errorf("%d outcomes, want 9 different ones", len(seen))
	}
	for _, s := range []State{Pending, Retrying, Delivered, Failed} {
		if s.String() == "Unknown" {
			t.Errorf("state %d has no name", s)
		}
	}
	if f := (&Failure{Outcome: OutcomeTimedOut, Message: "late"}); f.Error() != "TimedOut: late" {
		t.Errorf("failure reads %q", f.Error())
	}
}
