// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package outbox

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-logr/logr"
	"github.com/go-logr/logr/funcr"
	"github.com/prometheus/client_golang/prometheus"
)

func start(t *testing.T, q *fakeQueue, m *fakeManager) *Outbox {
	t.Helper()
	return startMeasured(t, q, m, nil)
}

func startMeasured(t *testing.T, q *fakeQueue, m *fakeManager, r prometheus.Registerer) *Outbox {
	t.Helper()
	b, err := New(Options{Queue: q, Reporter: m.open, Registerer: r})
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		if err := b.Start(t.Context()); err != nil {
			t.Error(err)
		}
	}()
	synctest.Wait()
	return b
}

// advance lets the bubble's clock run on, and waits for what that leads to.
func advance(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

func stop(t *testing.T, b *Outbox) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := b.Stop(ctx); err != nil {
		t.Errorf("stop: %v", err)
	}
}

func TestRecordsAreRemovedWhenTheyWereTaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, m := newFakeQueue(), &fakeManager{leftOut: map[uint64]bool{2: true}}
		registry := prometheus.NewRegistry()
		b := startMeasured(t, q, m, registry)
		q.add(3)
		synctest.Wait()
		if q.left() != 0 {
			t.Errorf("%d records left, want none", q.left())
		}
		for _, a := range q.acknowledged {
			if a.Recorded != (a.Seq != 2) {
				t.Errorf("record %d: recorded = %v", a.Seq, a.Recorded)
			}
		}
		want := map[string]float64{
			"webhook_dispatcher_outbox_records_sent_total":         3,
			"webhook_dispatcher_outbox_records_acknowledged_total": 3,
			"webhook_dispatcher_outbox_records_left_out_total":     1,
		}
		families, err := registry.Gather()
		if err != nil || len(families) != len(want) {
			t.Fatalf("gathered %d families, error %v", len(families), err)
		}
		for _, f := range families {
			if got := f.GetMetric()[0].GetCounter().GetValue(); got != want[f.GetName()] {
				t.Errorf("%s = %v, want %v", f.GetName(), got, want[f.GetName()])
			}
		}
		stop(t, b)
	})
}

func TestWindowBoundsWhatIsNotAnswered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, m := newFakeQueue(), &fakeManager{silent: true}
		q.add(window + 500)
		start(t, q, m)
		if got := len(m.got(0)); got != window {
			t.Fatalf("%d records sent without an answer, want %d", got, window)
		}
		if q.left() != window+500 {
			t.Error("records were removed without an answer")
		}
		// One answer makes room for one.
		m.streams[0].answers <- answer{taken: map[uint64]bool{7: true}}
		synctest.Wait()
		if got := len(m.got(0)); got != window+1 {
			t.Errorf("%d records sent after one answer, want %d", got, window+1)
		}
	})
}

func TestAfterABreakTheOldestUnansweredComesFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, m := newFakeQueue(), &fakeManager{silent: true}
		q.add(5)
		b := start(t, q, m)
		m.streams[0].answers <- answer{taken: map[uint64]bool{1: true, 4: true}}
		synctest.Wait()
		m.set(func() { m.silent = false })
		m.breakStream()
		advance(time.Second)
		if got, want := m.got(1), []uint64{2, 3, 5}; !slices.Equal(got, want) {
			t.Errorf("second stream carried %v, want %v", got, want)
		}
		if q.left() != 0 {
			t.Errorf("%d records left", q.left())
		}
		stop(t, b)
	})
}

func TestAFailedRemovalSendsAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, m := newFakeQueue(), &fakeManager{}
		q.failAck = errors.New("disk")
		q.add(1)
		b := start(t, q, m)
		q.mu.Lock()
		q.failAck = nil
		q.mu.Unlock()
		advance(time.Second)
		if q.left() != 0 || len(m.got(1)) != 1 {
			t.Errorf("left %d, second stream carried %v", q.left(), m.got(1))
		}
		stop(t, b)
	})
}

func TestCountersInFullThenChangedOnesAtIntervals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, m := newFakeQueue(), &fakeManager{}
		q.count("a", 1)
		q.count("b", 1)
		b := start(t, q, m)
		if len(m.reported()) != 1 || len(m.reported()[0]) != 2 {
			t.Fatalf("first report %v, want both endpoints", m.reported())
		}
		for i := range 10 {
			q.count("a", int64(2+i))
			advance(countersInterval / 20)
		}
		synctest.Wait()
		if len(m.reported()) != 1 {
			t.Errorf("%d reports within an interval, want 1", len(m.reported()))
		}
		advance(countersInterval)
		if len(m.reported()) != 2 || len(m.reported()[1]) != 1 || m.reported()[1][0].Succeeded != 11 {
			t.Fatalf("reports %v, want a second one of the changed endpoint", m.reported())
		}
		advance(10 * countersInterval)
		if len(m.reported()) != 2 {
			t.Error("unchanged counters were reported again")
		}
		m.breakStream()
		advance(time.Second)
		if len(m.reported()) != 3 || len(m.reported()[2]) != 2 {
			t.Errorf("reports after a break %v, want all endpoints again", m.reported())
		}
		stop(t, b)
	})
}

func TestStopReportsTheRest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, m := newFakeQueue(), &fakeManager{}
		b := start(t, q, m)
		q.count("a", 1) // after the first report, before the interval
		q.add(600)
		stop(t, b)
		if q.left() != 0 {
			t.Errorf("%d records left", q.left())
		}
		if len(m.reported()) != 1 || m.reported()[0][0].Succeeded != 1 {
			t.Errorf("reports %v, want the last counters", m.reported())
		}
		stop(t, b) // may be repeated
	})
}

func TestStopSendsTheNewestCountersBeforeTheLastAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, m := newFakeQueue(), &fakeManager{ledger: 5 * time.Second}
		b := start(t, q, m)
		q.count("a", 1)
		advance(time.Second) // the report is with the manager, and not answered
		q.count("a", 2)
		q.count("b", 1)
		begin := time.Now()
		stop(t, b)
		reports := m.reported()
		if len(reports) != 2 || len(reports[1]) != 2 {
			t.Fatalf("reports %v, want a second one of both endpoints", reports)
		}
		for _, c := range reports[1] {
			if want := map[string]int64{"a": 2, "b": 1}[c.UID]; c.Succeeded != want {
				t.Errorf("last report of %s says %d, want %d", c.UID, c.Succeeded, want)
			}
		}
		if took := time.Since(begin); took != m.ledger+drainWait && took != m.ledger {
			t.Errorf("stop took %v, want the ledger's %v", took, m.ledger)
		}
	})
}

func TestStopReportsAgainWhatTheLastRecordsChanged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, m := newFakeQueue(), &fakeManager{silent: true}
		b := start(t, q, m)
		q.count("a", 1)
		q.add(1)
		synctest.Wait()
		m.set(func() { m.silent = false })
		done := make(chan error)
		go func() { done <- b.Stop(t.Context()) }()
		synctest.Wait()
		q.count("a", 2) // as an answer that left the record out does
		m.streams[0].answers <- answer{taken: map[uint64]bool{1: false}}
		if err := <-done; err != nil {
			t.Errorf("stop: %v", err)
		}
		if reports := m.reported(); reports[len(reports)-1][0].Succeeded != 2 {
			t.Errorf("reports %v, want the last counters at the end", reports)
		}
	})
}

func TestIdleOutboxSleeps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, m := newFakeQueue(), &fakeManager{}
		q.count("a", 1)
		b := start(t, q, m)
		advance(time.Minute)
		before := q.reads()
		advance(24 * time.Hour)
		if got := q.reads() - before; got != 0 {
			t.Errorf("counters were read %d times while nothing changed", got)
		}
		q.count("a", 2)
		synctest.Wait()
		if reports := m.reported(); len(reports) != 2 || reports[1][0].Succeeded != 2 {
			t.Errorf("reports %v, want the change at once", reports)
		}
		stop(t, b)
	})
}

func TestStopDoesNotWaitForAManagerThatIsAway(t *testing.T) {
	for name, tc := range map[string]struct {
		manager *fakeManager
		atMost  time.Duration
	}{
		"refuses":                {&fakeManager{away: true}, firstWait},
		"answers nothing at all": {&fakeManager{blackHole: true}, openWait},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				q := newFakeQueue()
				q.add(3)
				b := start(t, q, tc.manager)
				advance(time.Minute)
				begin := time.Now()
				if err := b.Stop(t.Context()); !errors.Is(err, ErrNotReached) {
					t.Errorf("stop = %v, want %v", err, ErrNotReached)
				}
				if took := time.Since(begin); took > tc.atMost {
					t.Errorf("stop took %v, want at most %v", took, tc.atMost)
				}
				if q.left() != 3 {
					t.Error("records were removed without an answer")
				}
			})
		})
	}
}

func TestTheLastReportWaitsForAManager(t *testing.T) {
	for name, tc := range map[string]struct {
		add  func(q *fakeQueue)
		back time.Duration // when a manager is there; 0 for never
		want error
		took time.Duration // at most
	}{
		"a record":          {func(q *fakeQueue) { q.add(1) }, 6 * time.Second, nil, 8 * time.Second},
		"counters":          {func(q *fakeQueue) { q.count("a", 2) }, 6 * time.Second, nil, 8 * time.Second},
		"nobody comes":      {func(q *fakeQueue) { q.count("a", 2) }, 0, context.DeadlineExceeded, 20 * time.Second},
		"nothing to report": {func(*fakeQueue) {}, 0, ErrNotReached, time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				q, m := newFakeQueue(), &fakeManager{}
				q.count("a", 1)
				b, err := New(Options{Queue: q, Reporter: m.open, Last: true})
				if err != nil {
					t.Fatal(err)
				}
				go func() { _ = b.Start(t.Context()) }()
				advance(time.Minute) // what was counted is in the ledger
				m.set(func() { m.away = true })
				m.breakStream()
				advance(time.Second)
				tc.add(q)
				if tc.back > 0 {
					time.AfterFunc(tc.back, func() { m.set(func() { m.away = false }) })
				}
				ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
				defer cancel()
				begin := time.Now()
				if err := b.Stop(ctx); !errors.Is(err, tc.want) {
					t.Errorf("stop = %v, want %v", err, tc.want)
				}
				if took := time.Since(begin); took > tc.took || took < tc.back {
					t.Errorf("stop took %v", took)
				}
				if tc.want == nil && (q.left() != 0 || b.unreported(t.Context())) {
					t.Error("something was not reported")
				}
			})
		})
	}
}

func TestFailuresAreLoggedOnceForEachCause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var lines []string
		log := funcr.New(func(_, args string) { lines = append(lines, args) }, funcr.Options{})
		q, m := newFakeQueue(), &fakeManager{away: true}
		b, err := New(Options{Queue: q, Reporter: m.open})
		if err != nil {
			t.Fatal(err)
		}
		go func() { _ = b.Start(logr.NewContext(t.Context(), log)) }()
		advance(10 * time.Minute)
		if len(lines) != 1 {
			t.Errorf("one cause for ten minutes is logged as %q, want one line", lines)
		}
		_ = b.Stop(t.Context())
	})
}

func TestStopIsBounded(t *testing.T) {
	for name, m := range map[string]*fakeManager{"manager silent": {silent: true}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				q := newFakeQueue()
				q.add(3)
				b := start(t, q, m)
				ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
				defer cancel()
				begin := time.Now()
				if err := b.Stop(ctx); !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("stop = %v, want the deadline", err)
				}
				if took := time.Since(begin); took != 3*time.Second {
					t.Errorf("stop took %v", took)
				}
				if q.left() != 3 {
					t.Error("records were removed without an answer")
				}
			})
		})
	}
}

func TestAManagerThatComesBackIsFound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, m := newFakeQueue(), &fakeManager{away: true}
		q.add(1)
		b := start(t, q, m)
		advance(10 * time.Minute)
		m.mu.Lock()
		if m.opened < 20 || m.opened > 200 {
			t.Errorf("%d streams opened in 10 minutes: want a backoff with a limit", m.opened)
		}
		m.away = false
		m.mu.Unlock()
		advance(2 * maxWait)
		if q.left() != 0 {
			t.Error("the record was not sent")
		}
		stop(t, b)
	})
}

func TestStopWithoutStart(t *testing.T) {
	b, err := New(Options{Queue: newFakeQueue(), Reporter: (&fakeManager{}).open})
	if err != nil {
		t.Fatal(err)
	}
	stop(t, b)
	if err := b.Start(t.Context()); err != nil {
		t.Error(err)
	}
}
