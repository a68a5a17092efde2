// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package pebble

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/go-cmp/cmp"

	"github.com/garyclub/webhook-operator/internal/delivery"
	"github.com/garyclub/webhook-operator/internal/endpoint"
	"github.com/garyclub/webhook-operator/internal/event"
	"github.com/garyclub/webhook-operator/internal/queue"
	"github.com/garyclub/webhook-operator/internal/queue/queuetest"
)

// history is a life of a queue with every kind of operation, on a disk that loses its power at each change.
type history struct {
	*testing.T
	*Queue
	r     *recorder
	clock *queuetest.Clock
	now   *world
}

const historyRetention = 2 * time.Hour

func newHistory(t *testing.T, change ...func(*Options)) *history {
	clock := queuetest.NewClock()
	d := newDisk(t, queuetest.Limits{Clock: clock, Receives: true, DeadLetterRetention: historyRetention,
		IdempotencyWindow: 10 * time.Hour}).(*disk)
	d.opt.seams.orderChunk = 2
	for _, c := range change {
		c(&d.opt)
	}
	h := &history{T: t, clock: clock, r: newRecorder(d.opt, clock, d.fs), now: newWorld()}
	h.do("open", h.open)
	t.Cleanup(func() { _ = h.Close() })
	return h
}

func (h *history) open() error {
	opt := h.r.opt
	opt.FS = h.r.disk(h.r.mem)
	q, err := Open(opt)
	if err == nil {
		h.Queue = q
	}
	return err
}

// do does something that changes what the queue holds, in one batch for each change.
func (h *history) do(step string, act func() error, changes ...func(w *world)) {
	h.Helper()
	var states []*world
	for next := h.now; len(changes) > 0; changes = changes[1:] {
		next = next.clone()
		changes[0](next)
		states = append(states, next)
	}
	h.r.begin(step, states...)
	if err := act(); err != nil {
		h.Fatalf("%s: %v", step, err)
	}
	h.now = h.r.answer()
	h.r.cut(h.r.mem, "answer")
	found, err := auditOf(h.Queue)
	if diff := cmp.Diff(h.now, found, worlds); err != nil || diff != "" {
		h.Fatalf("%s: error %v; the queue differs from what was asked for (-want +got):\n%s", step, err, diff)
	}
}

// end closes the queue and returns what the checks found.
func (h *history) end() []error {
	h.Helper()
	h.r.begin("close")
	if err := h.Close(); err != nil {
		h.Fatal(err)
	}
	return h.r.end()
}

func (w *world) waits(items ...queue.Item) {
	for _, item := range items {
		for _, p := range item.Endpoints {
			name := nameOf(p.Ref, item.Event.ID, "")
			w.Waiting[name], w.Outbox[name] = 0, delivery.Pending
		}
	}
}

// dies ends what waits.
func (w *world) dies(name, reason string) {
	delete(w.Waiting, name)
	w.Dead[name], w.Outbox[name] = reason, delivery.Failed
	ref, _, _ := strings.Cut(name, " ")
	w.Failed[ref]++
}

// again moves a dead letter.
func (w *world) again(name, order string) {
	delete(w.Dead, name)
	name += order
	w.Waiting[name], w.Outbox[name] = 0, delivery.Pending
}

func (h *history) append(step string, items ...queue.Item) {
	h.Helper()
	h.do(step, func() error {
		_, err := h.Append(h.Context(), items)
		return err
	}, func(w *world) { w.waits(items...) })
}

func (h *history) item(payload string, names ...string) queue.Item {
	var endpoints []*endpoint.Endpoint
	for _, name := range names {
		endpoints = append(endpoints, queuetest.Endpoint(name))
	}
	return queuetest.Item(h.clock.Now(), payload, endpoints...)
}

// lease leases one of the endpoint's deliveries, for a request.
func (h *history) lease(step, name string) (l queue.Lease) {
	h.Helper()
	h.do(step+", lease", func() (err error) {
		l, err = h.Lease(h.Context(), gateOf(name))
		return err
	})
	h.UnparkAll()
	d := l.Delivery()
	h.r.request(nameOf(d.Ref, d.EventID, d.Order))
	return l
}

type gateOf string

func (g gateOf) Admit(ref endpoint.Ref) bool { return ref.Name == string(g) }

// attempt makes a request that comes to the outcome.
func (h *history) attempt(step, endpointName string, o delivery.Outcome) {
	h.Helper()
	l := h.lease(step, endpointName)
	d := l.Delivery()
	a := delivery.Attempt{Number: d.AttemptCount + 1, Start: h.clock.Now(), Outcome: o}
	d = delivery.After(d, queuetest.Endpoint(endpointName), a, h.clock.Now(), 0.5)
	h.do(step, func() error { return l.Settle(h.Context(), d) }, func(w *world) {
		name := nameOf(d.Ref, d.EventID, d.Order)
		switch d.State {
		case delivery.Failed:
			w.dies(name, d.Reason)
		case delivery.Delivered:
			delete(w.Waiting, name)
			w.Outbox[name] = delivery.Delivered
			w.Succeeded[endpointName]++
		default:
			w.Waiting[name], w.Outbox[name] = d.AttemptCount, delivery.Retrying
		}
	})
}

// comeIn are the ways in.
func (h *history) comeIn() {
	keyed, unmatched := h.item("keyed", "a"), h.item("unmatched")
	keyed.Key, unmatched.Matched = [32]byte{7}, false
	batch := []queue.Item{h.item("both", "a", "b"), keyed, unmatched, h.item("nobody")}
	h.do("append a batch", func() error {
		_, err := h.Append(h.Context(), batch)
		return err
	}, func(w *world) {
		w.waits(batch...)
		w.Keys[keyed.Event.ID], w.Unmatched[unmatched.Event.ID] = true, true
	})
	h.do("append with a key again", func() error {
		_, err := h.Append(h.Context(), []queue.Item{keyed})
		return err
	})
	b := queuetest.Endpoint("b")
	h.do("match", func() error {
		ctx, cancel := context.WithCancel(h.Context())
		err := h.MatchWaiting(ctx, func(*event.Event) ([]*endpoint.Endpoint, bool) {
			cancel()
			return []*endpoint.Endpoint{b}, true
		})
		if errors.Is(err, context.Canceled) {
			err = nil // by the match
		}
		return err
	}, func(w *world) {
		delete(w.Unmatched, unmatched.Event.ID)
		matched := unmatched
		matched.Endpoints = []*endpoint.Endpoint{b}
		w.waits(matched)
	})
}

// goOut are the ways in which deliveries end.
func (h *history) goOut() {
	h.attempt("delivered", "a", delivery.OutcomeDelivered)
	h.attempt("rejected", "a", delivery.OutcomeRejected)
	h.attempt("gone", "a", delivery.OutcomeGone)
	h.clock.Advance(time.Minute)
	for range 3 {
		h.attempt("rejected to the end", "a", delivery.OutcomeTimedOut)
		h.clock.Advance(time.Minute)
	}
	ref := queuetest.Endpoint("a").Ref
	h.do("hold gone", func() error { return h.HoldGone(h.Context(), ref, "first") }, func(w *world) { w.Gone["a"] = "first" })
	h.do("hold gone no more", func() error { return h.HoldGone(h.Context(), ref, "") }, func(w *world) { delete(w.Gone, "a") })
	h.expire("expire", "b")
}

func (h *history) expire(step, endpointName string) {
	h.do(step, func() error {
		_, _, err := h.Expire(h.Context(), queuetest.Endpoint(endpointName).Ref, true, delivery.ReasonEndpointDeleted)
		return err
	}, func(w *world) {
		for name := range maps.Clone(w.Waiting) {
			if strings.HasPrefix(name, endpointName+" ") {
				w.dies(name, delivery.ReasonEndpointDeleted)
			}
		}
	})
}

// acknowledge has the manager take all that is told of, and leave every second one out.
func (h *history) acknowledge() {
	records, err := h.Outbox(h.Context(), 0, 100)
	if err != nil {
		h.Fatal(err)
	}
	var taken []queue.Taken
	for i, o := range records {
		taken = append(taken, queue.Taken{Seq: o.Seq, Recorded: i%2 == 0})
	}
	h.do("acknowledge", func() error { return h.Acknowledge(h.Context(), taken) }, func(w *world) {
		clear(w.Outbox)
		for i, o := range records {
			if i%2 != 0 && o.Record.State.Done() {
				w.Unrecorded[o.Record.Ref.Name]++
			}
		}
	})
}

// handOver takes deliveries and dead letters over, and hands some on.
func (h *history) handOver() {
	now := h.clock.Now()
	shared, dead := h.item("taken over", "a", "b"), h.item("taken over dead", "c")
	d := delivery.Delivery{UID: "uid-a", Ref: queuetest.Endpoint("a").Ref, Trigger: delivery.TriggerEvent, State: delivery.Retrying,
		Accepted: now, Deadline: now.Add(20 * time.Hour), Due: now, AttemptCount: 2, MaxAttempts: 4}
	other, failed := d, d
	other.Ref, other.UID = queuetest.Endpoint("b").Ref, "uid-b"
	failed.Ref, failed.UID = queuetest.Endpoint("c").Ref, "uid-c"
	failed = delivery.Fail(failed, "TimedOut", now)
	failed.RedeliverableUntil = now.Add(time.Hour)
	parcels := []queue.Parcel{{Event: shared.Event, Delivery: d}, {Event: shared.Event, Delivery: other}, {Event: dead.Event, Delivery: failed}}
	take := func() error {
		_, err := h.TakeOver(h.Context(), parcels)
		return err
	}
	h.do("take over", take, func(w *world) {
		w.waits(shared)
		for _, p := range shared.Endpoints {
			name := nameOf(p.Ref, shared.Event.ID, "")
			w.Waiting[name], w.Outbox[name] = 2, delivery.Retrying
		}
		w.Dead[nameOf(failed.Ref, dead.Event.ID, "")] = "TimedOut"
	})
	h.do("take over again", take)
	leases, err := h.LeaseWaiting(h.Context(), 1, queue.Passage{Due: true})
	letters, deadErr := h.LeaseDead(h.Context(), 1, nil)
	if err != nil || deadErr != nil || len(leases)+len(letters) != 2 {
		h.Fatal(err, deadErr)
	}
	h.do("handed over", func() error { return h.HandedOver(h.Context(), leases) }, func(w *world) {
		name := nameOf(leases[0].Delivery().Ref, leases[0].Delivery().EventID, "")
		delete(w.Waiting, name)
		delete(w.Outbox, name)
	})
	h.do("dead letter handed over", func() error { return h.HandedOver(h.Context(), letters) }, func(w *world) {
		delete(w.Dead, nameOf(letters[0].Delivery().Ref, letters[0].Delivery().EventID, ""))
	})
}

// redeliver carries an order out in three parts.
func (h *history) redeliver() {
	const n = 5
	var items []queue.Item
	var names []string
	for i := range n {
		items = append(items, h.item(fmt.Sprint("again ", i), "r", "s"))
		names = append(names, nameOf(queuetest.Endpoint("r").Ref, items[i].Event.ID, ""))
	}
	h.append("append for an order", items...)
	h.expire("expire for an order", "r")
	p, id := queuetest.Endpoint("r"), orderOf("1")
	order := delivery.Order{ID: "1", Name: "again", Ref: p.Ref, Limit: n}
	want := delivery.Redelivered{Matched: n, Moved: n}
	h.r.mu.Lock()
	h.r.order, h.r.ordered = &order, want
	h.r.mu.Unlock()
	run := func() error {
		got, err := h.Redeliver(h.Context(), order, p)
		if got != want {
			return fmt.Errorf("%+v, error %w, want %+v", got, err, want)
		}
		return err
	}
	part := func(from, to int, done bool) func(w *world) {
		return func(w *world) {
			for _, name := range names[from:to] {
				w.again(name, order.ID)
			}
			w.Orders[id] = orderInfo{matched: to, moved: to, done: done}
		}
	}
	h.do("redeliver", run, part(0, 2, false), part(2, 4, false), part(4, 5, false), part(5, 5, true))
	h.do("redeliver again", run)
	h.r.mu.Lock()
	h.r.order = nil
	h.r.mu.Unlock()
	h.attempt("redelivered", "r", delivery.OutcomeDelivered)
	h.attempt("failed again", "r", delivery.OutcomeGone)
	h.do("an order once more", run)
}

// die kills the process with a request under way, and starts another one.
func (h *history) die() {
	h.append("append before a crash", h.item("in flight", "f"))
	h.lease("before a crash", "f")
	h.r.mu.Lock()
	h.r.mem = h.r.mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 100, RNG: rand.New(rand.NewPCG(crashSeed, 0))})
	h.r.mu.Unlock()
	if err := h.Close(); err != nil { // of the disk that is no more
		h.Fatal(err)
	}
	h.do("open after a crash", h.open)
	l, err := h.Lease(h.Context(), gateOf("f"))
	if err != nil || l.Delivery().Interruptions != 1 {
		h.Fatalf("error %v, want one interruption", err)
	}
	l.Release(h.clock.Now())
	h.UnparkAll()
}

// tidy has files rewritten, and what is old dropped.
func (h *history) tidy() {
	h.do("flush", h.db.Flush)
	h.do("scrub", func() error {
		h.scrub(h.Context())
		return nil
	})
	h.do("sweep dead letters", func() error {
		h.clock.Advance(historyRetention + time.Minute)
		return h.wait(func() bool { return h.Stats().DeadLetters == 0 })
	}, func(w *world) { clear(w.Dead) })
	h.do("sweep keys and orders", func() error {
		h.clock.Advance(10 * time.Hour)
		return h.wait(func() bool { return h.Stats().IdempotencyKeys == 0 })
	}, func(w *world) {
		clear(w.Keys)
		clear(w.Orders)
	})
}

func (h *history) wait(done func() bool) error {
	for limit := time.Now().Add(30 * time.Second); !done(); <-time.After(time.Millisecond) {
		if time.Now().After(limit) {
			return context.DeadlineExceeded
		}
	}
	return nil
}

// restart closes and opens the queue.
func (h *history) restart() {
	h.do("close and open", func() error {
		if err := h.Close(); err != nil {
			return err
		}
		return h.open()
	})
	h.append("append after a start", h.item("after a start", "a", "b"))
}

// TestPowerLossAtEachChangeOfTheDisk runs the history, and checks the disk after each of its changes, with none, some, and
// all of the unsynced data kept: all that was answered is there, and nothing that was not asked for.
func TestPowerLossAtEachChangeOfTheDisk(t *testing.T) {
	begun := time.Now()
	h := newHistory(t)
	h.append("append one", h.item("one", "a"))
	h.comeIn()
	h.goOut()
	h.acknowledge()
	h.handOver()
	h.redeliver()
	h.die()
	h.tidy()
	h.restart()
	for i, err := range h.end() {
		if i == 5 {
			break
		}
		t.Error(err)
	}
	h.r.report(t, time.Since(begun))
}

// TestAnAnswerBeforeTheSyncIsCaught has the queue answer early, on purpose: the same checks see it.
func TestAnAnswerBeforeTheSyncIsCaught(t *testing.T) {
	h := newHistory(t, func(o *Options) { o.seams.answerEarly = true })
	synced := make(chan struct{})
	h.r.mu.Lock()
	h.r.hold = synced
	h.r.mu.Unlock()
	h.append("append one", h.item("one", "a"))
	close(synced)
	faults := h.end()
	if len(faults) == 0 {
		t.Fatal("an append that was answered before its sync passes all checks")
	}
	t.Logf("%d of %d disks show it, as in %v", len(faults), h.r.disks, faults[0])
}
