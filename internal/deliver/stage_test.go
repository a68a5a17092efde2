// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package deliver

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/garyclub/webhook-operator/internal/delivery"
	"github.com/garyclub/webhook-operator/internal/endpoint"
)

// after lets the time of the bubble pass.
func after(t *testing.T, wait time.Duration) {
	t.Helper()
	pause(t.Context(), wait)
	synctest.Wait()
}

// checkTimes compares the times of the attempts with the schedule and its jitter.
func checkTimes(t *testing.T, got []time.Duration, wantWaits ...time.Duration) {
	t.Helper()
	if len(got) != len(wantWaits)+1 {
		t.Fatalf("%d attempts at %v, want %d", len(got), got, len(wantWaits)+1)
	}
	for i, want := range wantWaits {
		if wait := got[i+1] - got[i]; (wait - want).Abs() > want/5+time.Millisecond {
			t.Errorf("wait %d is %v, want %v ± 20 %%", i+1, wait, want)
		}
	}
}

func TestRetriesUntilDelivered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := endpointOf("a")
		s := start(t, 10, func(_ context.Context, _ *endpoint.Endpoint, number int) (delivery.Reply, *delivery.Failure) {
			if number < 3 {
				return answer(503)
			}
			return answer(200)
		}, p)
		l := s.queue.add(p, 1)[0]
		after(t, time.Hour)
		checkTimes(t, s.poster.at("a"), 5*time.Second, 10*time.Second)
		if d := l.now(); d.State != delivery.Delivered || d.AttemptCount != 3 || len(d.Attempts) != 3 {
			t.Errorf("ends %v after %d attempts", d.State, d.AttemptCount)
		}
		if n := s.count(t, "retries_total", ""); n != 2 {
			t.Errorf("%v retries are counted", n)
		}
		s.Stop(t.Context())
	})
}

func TestFourRequestsAtMost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := endpointOf("a")
		s := start(t, 10, func(context.Context, *endpoint.Endpoint, int) (delivery.Reply, *delivery.Failure) { return answer(500) }, p)
		l := s.queue.add(p, 1)[0]
		after(t, 24*time.Hour)
		checkTimes(t, s.poster.at("a"), 5*time.Second, 10*time.Second, 20*time.Second)
		if d := l.now(); d.State != delivery.Failed || d.Reason != "Rejected" || d.Attempts[3].StatusCode != 500 {
			t.Errorf("ends %v %q", d.State, d.Reason)
		}
		if n := s.count(t, "attempts_total", "Rejected"); n != 4 {
			t.Errorf("%v attempts are counted", n)
		}
		s.Stop(t.Context())
	})
}

func TestSlowEndpointsDelayNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		good := endpointOf("good")
		all := []*endpoint.Endpoint{good}
		for i := range 30 {
			all = append(all, endpointOf(fmt.Sprintf("hanging-%d", i)))
		}
		s := start(t, 40, func(ctx context.Context, p *endpoint.Endpoint, _ int) (delivery.Reply, *delivery.Failure) {
			if p != good {
				return hang(ctx)
			}
			return answer(200)
		}, all...)
		s.queue.add(good, 1) // it has answered once
		after(t, time.Second)
		for _, p := range all[1:] {
			s.queue.add(p, 50)
		}
		after(t, time.Second)
		for range 10 { // while the others hang, time out and are retried
			before := len(s.poster.at("good"))
			added := time.Since(s.poster.begin)
			s.queue.add(good, 200)
			synctest.Wait()
			times := s.poster.at("good")[before:]
			if len(times) != 200 || times[199] != added {
				t.Fatalf("%d of 200 were delivered at once, while others hang", len(times))
			}
			after(t, 7*time.Second)
		}
		if n := s.poster.most["hanging-0"]; n > startLimit {
			t.Errorf("one that hangs had %d requests at a time", n)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		s.Stop(ctx)
	})
}

func TestGoneHoldsTheEndpoint(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := endpointOf("a")
		var code atomic.Int64
		code.Store(410)
		s := start(t, 10, func(context.Context, *endpoint.Endpoint, int) (delivery.Reply, *delivery.Failure) {
			return answer(int(code.Load()))
		}, p)
		l := s.queue.add(p, 1)[0]
		after(t, time.Minute)
		if d := l.now(); d.State != delivery.Failed || d.Reason != "Gone" || s.queue.Gone(p.Ref) != "1" {
			t.Errorf("ends %v %q, held for incarnation %q", d.State, d.Reason, s.queue.Gone(p.Ref))
		}
		waiting := s.queue.add(p, 3)
		s.EndpointsChanged() // by something else
		after(t, time.Minute)
		if n := len(s.poster.at("a")); n != 1 {
			t.Errorf("%d requests, want none after the 410", n)
		}
		mended := endpointOf("a")
		mended.Incarnation = "2"
		code.Store(200)
		s.current.Store(endpoint.NewSnapshot([]*endpoint.Endpoint{mended}))
		s.EndpointsChanged()
		synctest.Wait()
		for _, l := range waiting {
			if d := l.now(); d.State != delivery.Delivered {
				t.Errorf("after a new incarnation a delivery is %v", d.State)
			}
		}
		s.Stop(t.Context())
	})
}

func TestEndpointIsReadAtEachAttempt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := endpointOf("a")
		var urls []string
		s := start(t, 10, func(_ context.Context, p *endpoint.Endpoint, _ int) (delivery.Reply, *delivery.Failure) {
			urls = append(urls, p.URL)
			return answer(500)
		}, p)
		l := s.queue.add(p, 1)[0]
		synctest.Wait()
		mended := endpointOf("a")
		mended.URL, mended.Retry.MaxRetries = "https://mended.example/", 1
		s.current.Store(endpoint.NewSnapshot([]*endpoint.Endpoint{mended}))
		s.EndpointsChanged()
		after(t, time.Hour)
		if len(urls) != 2 || urls[1] != mended.URL || l.now().State != delivery.Failed {
			t.Errorf("requests went to %v and the delivery is %v", urls, l.now().State)
		}
		// Deleted: nothing more, whatever waits.
		s.current.Store(endpoint.NewSnapshot(nil))
		s.queue.add(p, 1)
		after(t, time.Hour)
		if len(urls) != 2 {
			t.Errorf("a deleted endpoint had %d more requests", len(urls)-2)
		}
		s.Stop(t.Context())
	})
}

func TestStopWaitsThenGivesBackUncounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fast, slow := endpointOf("fast"), endpointOf("slow")
		s := start(t, 10, func(ctx context.Context, p *endpoint.Endpoint, _ int) (delivery.Reply, *delivery.Failure) {
			if p == slow {
				return hang(ctx)
			}
			pause(ctx, time.Second)
			return answer(200)
		}, fast, slow)
		a, b := s.queue.add(fast, 1)[0], s.queue.add(slow, 1)[0]
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		begin := time.Now()
		s.Stop(ctx)
		if took := time.Since(begin); took != 3*time.Second {
			t.Errorf("stop took %v, want 3s", took)
		}
		if d := a.now(); d.State != delivery.Delivered {
			t.Errorf("the attempt that ended in time is %v", d.State)
		}
		if d := b.now(); d.State != delivery.Pending || d.AttemptCount != 0 || b.released != 1 {
			t.Errorf("the attempt that was cut off is %v with %d attempts, released %d times", d.State, d.AttemptCount, b.released)
		}
		s.queue.add(fast, 1)
		after(t, time.Minute)
		if n := len(s.poster.at("fast")); n != 1 {
			t.Errorf("%d requests after the stop", n-1)
		}
		s.Stop(t.Context()) // again
		if n := s.InFlight(); n != 0 {
			t.Errorf("%d in flight", n)
		}
	})
}

func TestStopBeforeStart(t *testing.T) {
	s := New(Options{Queue: newFakeQueue(), Endpoints: &endpoint.Current{}})
	s.Stop(t.Context())
}

func TestFaultsOfTheQueueLoseNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := endpointOf("a")
		s := start(t, 10, func(context.Context, *endpoint.Endpoint, int) (delivery.Reply, *delivery.Failure) { return answer(200) }, p)
		s.queue.mu.Lock()
		s.queue.failLease, s.queue.failSettle = 3, 1
		s.queue.mu.Unlock()
		l := s.queue.add(p, 1)[0]
		after(t, time.Minute)
		if d := l.now(); d.State != delivery.Delivered || d.AttemptCount != 1 {
			t.Errorf("ends %v after %d attempts", d.State, d.AttemptCount)
		}
		if n := len(s.poster.at("a")); n != 2 || s.poster.ids[l.d.EventID] != 2 {
			t.Errorf("%d requests, want 2 with the same id", n)
		}
		if n := s.count(t, "queue_faults_total", ""); n != 4 {
			t.Errorf("%v faults are counted", n)
		}
		s.Stop(t.Context())
	})
}

func TestUnreadableEventEndsAndBlocksNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := endpointOf("a")
		s := start(t, 10, func(context.Context, *endpoint.Endpoint, int) (delivery.Reply, *delivery.Failure) { return answer(200) }, p)
		s.queue.mu.Lock()
		s.queue.failLease = 1 // holds the first lease back until the event is spoilt
		s.queue.mu.Unlock()
		added := s.queue.add(p, 2)
		added[0].spoil()
		after(t, time.Hour)
		if d := added[0].now(); d.State != delivery.Failed || d.Reason != delivery.ReasonInterrupted {
			t.Errorf("the unreadable one ends %v %q", d.State, d.Reason)
		}
		if d := added[1].now(); d.State != delivery.Delivered {
			t.Errorf("the one behind it is %v", d.State)
		}
		s.Stop(t.Context())
	})
}

func TestReadFaultThatPassesUsesNoAttempt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := endpointOf("a")
		s := start(t, 10, func(context.Context, *endpoint.Endpoint, int) (delivery.Reply, *delivery.Failure) { return answer(200) }, p)
		s.queue.mu.Lock()
		s.queue.failRead = maxReadFaults
		s.queue.mu.Unlock()
		l := s.queue.add(p, 1)[0]
		after(t, time.Minute)
		if d := l.now(); d.State != delivery.Delivered || d.AttemptCount != 1 {
			t.Errorf("ends %v after %d attempts", d.State, d.AttemptCount)
		}
		if n := s.count(t, "queue_faults_total", ""); n != maxReadFaults {
			t.Errorf("%v faults are counted", n)
		}
		if len(s.unread) != 0 {
			t.Errorf("%d deliveries are remembered as unread", len(s.unread))
		}
		s.Stop(t.Context())
	})
}

func TestEndpointIsLookedAtAgainAlthoughNothingWaited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := endpointOf("a")
		held := endpointOf("a")
		held.Hold = endpoint.HoldSuspended
		s := start(t, 10, func(context.Context, *endpoint.Endpoint, int) (delivery.Reply, *delivery.Failure) { return answer(200) }, held)
		l := s.queue.add(p, 1)[0]
		synctest.Wait()
		l.end() // its deadline passed while it was held
		s.current.Store(endpoint.NewSnapshot([]*endpoint.Endpoint{p}))
		s.EndpointsChanged()
		next := s.queue.add(p, 1)[0]
		after(t, time.Minute)
		if d := next.now(); d.State != delivery.Delivered {
			t.Errorf("after the hold a new delivery is %v", d.State)
		}
		s.Stop(t.Context())
	})
}

func TestPanicCostsOneAttempt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := endpointOf("a")
		s := start(t, 10, func(_ context.Context, _ *endpoint.Endpoint, number int) (delivery.Reply, *delivery.Failure) {
			if number == 1 {
				panic("of the poster")
			}
			return answer(200)
		}, p)
		l := s.queue.add(p, 1)[0]
		after(t, time.Hour)
		d := l.now()
		if d.State != delivery.Delivered || d.AttemptCount != 2 || d.Attempts[0].Outcome != delivery.OutcomeInterrupted {
			t.Errorf("ends %v after %d attempts, the first %v", d.State, d.AttemptCount, d.Attempts[0].Outcome)
		}
		s.Stop(t.Context())
	})
}

func TestMetricsBeginAtZero(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := start(t, 1, nil)
		families, err := s.metrics.Gather()
		if err != nil {
			t.Fatal(err)
		}
		series := 0
		for _, f := range families {
			series += len(f.GetMetric())
		}
		if want := len(delivery.Outcomes()) + 4; series != want {
			t.Errorf("%d series at the start, want %d", series, want)
		}
		s.Stop(t.Context())
	})
}
