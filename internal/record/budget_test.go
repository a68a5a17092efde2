// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package record

import (
	"context"
	"errors"
	"net/http"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func newBudget(t *testing.T, rate float64) *Budget {
	t.Helper()
	b, err := NewBudget(BudgetOptions{Rate: rate})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// demand keeps n writers of each share busy and returns how many writes each share made.
func demand(ctx context.Context, b *Budget, all ...Share) *[shareCount]atomic.Int64 {
	var made [shareCount]atomic.Int64
	for _, s := range all {
		for range 4 {
			go func() {
				for b.Wait(ctx, s) == nil {
					made[s].Add(1)
				}
			}()
		}
	}
	return &made
}

func TestAMinuteWithTheBurstStaysWithinTheBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBudget(t, 50)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		made := demand(ctx, b, ShareRecords)
		<-ctx.Done()
		synctest.Wait()
		if n := made[ShareRecords].Load(); n > 2_880 || n < 2_800 {
			t.Errorf("%d writes in the first minute, want 2,800 to 2,880: 4 percent are for Events", n)
		}
	})
}

func TestSharesGetTheirFractionsWhenAllWantMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBudget(t, 50)
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Second)
		defer cancel()
		made := demand(ctx, b, ShareOther, ShareRecords, ShareStatus, ShareDeletes, ShareEvents)
		advance(10 * time.Second) // past the burst
		var before [shareCount]int64
		for s := range before {
			before[s] = made[s].Load()
		}
		<-ctx.Done()
		synctest.Wait()
		for s := range before {
			got, want := float64(made[s].Load()-before[s]), shares[s].fraction*45*90
			if got < 0.95*want || got > 1.05*want {
				t.Errorf("share %s made %v writes, want about %v", shares[s].name, got, want)
			}
		}
	})
}

func TestAShareBorrowsWhatOthersLeave(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBudget(t, 50)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		made := demand(ctx, b, ShareDeletes)
		<-ctx.Done()
		synctest.Wait()
		if n := made[ShareDeletes].Load(); n < 2_800 {
			t.Errorf("%d deletes alone, want all of the budget but that of Events", n)
		}
		// And it owes nothing for that.
		if err := b.Wait(t.Context(), ShareDeletes); err != nil {
			t.Error(err)
		}
	})
}

func TestEventsHaveABudgetOfTheirOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBudget(t, 50)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		made := demand(ctx, b, ShareEvents)
		advance(30 * time.Second)
		if h := b.Headroom(); h != 1 {
			t.Errorf("headroom is %v while Events wait", h)
		}
		begun := time.Now()
		if err := b.Wait(ctx, ShareOther); err != nil || time.Since(begun) > 0 {
			t.Errorf("another write waited %v behind Events, error %v", time.Since(begun), err)
		}
		<-ctx.Done()
		synctest.Wait()
		if n := made[ShareEvents].Load(); n < 110 || n > 120 { // with all of the others', 3,000 at most
			t.Errorf("%d Events in a minute", n)
		}
	})
}

func TestALateShareWaitsItsTurnOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBudget(t, 50)
		ctx, cancel := context.WithCancel(t.Context())
		demand(ctx, b, ShareRecords)
		advance(time.Minute)
		begun := time.Now()
		if err := b.Wait(ctx, ShareOther); err != nil {
			t.Error(err)
		}
		if waited := time.Since(begun); waited > 100*time.Millisecond {
			t.Errorf("waited %v behind another share", waited)
		}
		cancel()
		synctest.Wait()
	})
}

func TestAWaitThatEndsGivesItsPlaceBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBudget(t, 1)
		for range 5 {
			b.Charge(ShareOther)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		if err := b.Wait(ctx, ShareRecords); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("got %v", err)
		}
		if b.anyWaiting() {
			t.Error("somebody still waits")
		}
		if h := b.Headroom(); h > 0.1 {
			t.Errorf("headroom is %v after the burst", h)
		}
		advance(10 * time.Second)
		if h := b.Headroom(); h != 1 {
			t.Errorf("headroom is %v after a rest", h)
		}
	})
}

type countingTransport struct{ sent atomic.Int64 }

func (c *countingTransport) RoundTrip(*http.Request) (*http.Response, error) {
	c.sent.Add(1)
	return &http.Response{StatusCode: http.StatusOK, Body: http.NoBody}, nil
}

func TestTheTransportPacesWhatMutates(t *testing.T) {
	cases := map[string]struct {
		method, path string
		wantWait     bool
	}{
		"a read is free":            {http.MethodGet, "/api/v1/namespaces/a/configmaps", false},
		"a create waits":            {http.MethodPost, "/api/v1/namespaces/a/configmaps", true},
		"an update waits":           {http.MethodPut, "/api/v1/namespaces/a/configmaps/b", true},
		"a patch waits":             {http.MethodPatch, "/api/v1/namespaces/a/configmaps/b", true},
		"a deletion waits":          {http.MethodDelete, "/api/v1/namespaces/a/configmaps/b", true},
		"a lease is never late":     {http.MethodPut, "/apis/coordination.k8s.io/v1/namespaces/a/leases/b", false},
		"an Event does not wait":    {http.MethodPost, "/apis/events.k8s.io/v1/namespaces/a/events", false},
		"nor a core Event":          {http.MethodPatch, "/api/v1/namespaces/a/events/b", false},
		"what is called events":     {http.MethodPut, "/api/v1/namespaces/events/configmaps/events", true},
		"a token review is neither": {http.MethodPost, "/apis/authentication.k8s.io/v1/tokenreviews", false},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b, next := newBudget(t, 1), &countingTransport{}
				for range 5 {
					b.Charge(ShareOther)
				}
				begun := time.Now()
				request, err := http.NewRequestWithContext(t.Context(), tc.method, "https://api"+tc.path, nil)
				if err != nil {
					t.Fatal(err)
				}
				response, err := b.Wrap(next).RoundTrip(request)
				if err != nil {
					t.Fatal(err)
				}
				_ = response.Body.Close()
				if waited := time.Since(begun) > 0; waited != tc.wantWait || next.sent.Load() != 1 {
					t.Errorf("waited %v, sent %d; want %v, 1", waited, next.sent.Load(), tc.wantWait)
				}
			})
		})
	}
}

func TestBudgetOptionsThatExceedAMinuteAreRefused(t *testing.T) {
	for _, o := range []BudgetOptions{{Rate: 50, Burst: 301}, {Rate: 0.5}, {Rate: 10, Burst: -1}} {
		if _, err := NewBudget(o); err == nil {
			t.Errorf("%+v was accepted", o)
		}
	}
}
