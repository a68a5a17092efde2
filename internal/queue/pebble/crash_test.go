// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package pebble

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/garyclub/webhook-operator/internal/delivery"
	"github.com/garyclub/webhook-operator/internal/endpoint"
	"github.com/garyclub/webhook-operator/internal/queue"
	"github.com/garyclub/webhook-operator/internal/queue/queuetest"
)

type admitAll struct{}

func (admitAll) Admit(endpoint.Ref) bool { return true }

func mustAppend(t testing.TB, q queue.Queue, items ...queue.Item) {
	t.Helper()
	if _, err := q.Append(t.Context(), items); err != nil {
		t.Fatal(err)
	}
}

func mustSettle(t testing.TB, q queue.Queue, now time.Time, o delivery.Outcome) delivery.Delivery {
	t.Helper()
	l, err := q.Lease(t.Context(), admitAll{})
	if err != nil {
		t.Fatal(err)
	}
	d := l.Delivery()
	a := delivery.Attempt{Number: d.AttemptCount + 1, Start: now, Outcome: o}
	d = delivery.After(d, queuetest.Endpoint(d.Ref.Name), a, now, 0.5)
	if err := l.Settle(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	return d
}

// facts are what was acknowledged so far.
type facts struct{ succeeded, failed, pending int64 }

func factsOf(q queue.Queue) (f facts) {
	all, _ := q.Counters(0)
	for _, c := range all {
		f.succeeded, f.failed, f.pending = f.succeeded+c.Succeeded, f.failed+c.Failed, f.pending+c.Pending
	}
	return f
}

// TestPowerLossAfterEachAnswer loses power after each answered call, with none, some, or all of the unsynced data kept.
func TestPowerLossAfterEachAnswer(t *testing.T) {
	clock := queuetest.NewClock()
	d := newDisk(t, queuetest.Limits{Clock: clock}).(*disk)
	q := d.Open(t)
	defer func() { _ = q.Close() }()
	a, b := queuetest.Endpoint("a"), queuetest.Endpoint("b")
	var want facts
	waiting := int64(0) // for a retry
	check := func(step string) {
		t.Helper()
		if got := factsOf(q); got != want {
			t.Fatalf("%s: %+v, want %+v", step, got, want)
		}
		for _, percent := range []int{0, 50, 100} {
			lost := d.clone(percent).Open(t)
			if got := factsOf(lost); got != want {
				t.Fatalf("%s, %d %% unsynced data kept: %+v, want %+v", step, percent, got, want)
			}
			leaseAll(t, lost, want.pending-waiting)
			if err := lost.Close(); err != nil {
				t.Fatal(err)
			}
		}
	}
	for range 3 {
		mustAppend(t, q, queuetest.Item(clock.Now(), "one", a, b), queuetest.Item(clock.Now(), "two", a))
		want.pending += 3
		check("append")
		mustSettle(t, q, clock.Now(), delivery.OutcomeDelivered)
		want.pending--
		want.succeeded++
		check("delivered")
		retry := mustSettle(t, q, clock.Now(), delivery.OutcomeRejected)
		waiting = 1
		check("rejected")
		mustSettle(t, q, clock.Now(), delivery.OutcomeGone)
		want.pending--
		want.failed++
		check("gone")
		clock.Advance(retry.Wait + time.Millisecond)
		waiting = 0
		mustSettle(t, q, clock.Now(), delivery.OutcomeDelivered)
		want.pending--
		want.succeeded++
		check("delivered by retry")
		records, err := q.Outbox(t.Context(), 0, 100)
		if err != nil {
			t.Fatal(err)
		}
		taken := []queue.Taken{{Seq: records[0].Seq, Recorded: true}}
		if err := q.Acknowledge(t.Context(), taken); err != nil {
			t.Fatal(err)
		}
		check("acknowledge")
	}
}

// leaseAll sees that so many deliveries, and no more, can be leased with their events.
func leaseAll(t *testing.T, q queue.Queue, n int64) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for {
		l, err := q.Lease(ctx, admitAll{})
		if err != nil {
			break
		}
		if _, err := l.Event(); err != nil {
			t.Fatal(err)
		}
		n--
	}
	if n != 0 {
		t.Fatalf("%d deliveries more could not be leased", n)
	}
}

// tightFS is a disk that may be full: every write but those that delete then fails.
type tightFS struct {
	vfs.FS
	full *atomic.Bool
	// given is set when the ballast was removed, which makes room for some writes.
	given *atomic.Bool
}

func (fs tightFS) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := fs.FS.Create(name, c)
	return tightFile{f, fs}, err
}

func (fs tightFS) ReuseForWrite(from, to string, c vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := fs.FS.ReuseForWrite(from, to, c)
	return tightFile{f, fs}, err
}

func (fs tightFS) Remove(name string) error {
	if fs.PathBase(name) == fileBallast {
		fs.given.Store(true)
	}
	return fs.FS.Remove(name)
}

type tightFile struct {
	vfs.File
	fs tightFS
}

func (f tightFile) Write(p []byte) (int, error) {
	if f.fs.full.Load() && !f.fs.given.Load() {
		return 0, syscall.ENOSPC
	}
	return f.File.Write(p)
}

func TestFullDiskGoesOnWhenThereIsSpaceAgain(t *testing.T) {
	clock := queuetest.NewClock()
	d := newDisk(t, queuetest.Limits{Clock: clock}).(*disk)
	var full, given atomic.Bool
	var free atomic.Uint64
	free.Store(1 << 30)
	opt := d.opt
	opt.FS = tightFS{d.fs, &full, &given}
	opt.FreeBytes = func() (uint64, error) { return free.Load(), nil }
	q, err := Open(opt)
	if err != nil {
		t.Fatal(err)
	}
	a := queuetest.Endpoint("a")
	for range 4 {
		mustAppend(t, q, queuetest.Item(clock.Now(), "one", a))
	}
	appendNow := func() error {
		clock.Advance(time.Second)
		_, err := q.Append(t.Context(), []queue.Item{queuetest.Item(clock.Now(), "one", a)})
		return err
	}
	// Nearly full: nothing is taken in, deliveries go on.
	free.Store(1 << 20)
	if err := appendNow(); !errors.Is(err, queue.ErrFull) || !q.Stats().Full {
		t.Fatalf("error is %v, want ErrFull", err)
	}
	mustSettle(t, q, clock.Now(), delivery.OutcomeDelivered)
	// Full for others' sake before that was seen: the ballast makes room for what is under way.
	free.Store(0)
	full.Store(true)
	mustSettle(t, q, clock.Now(), delivery.OutcomeDelivered)
	if !given.Load() {
		t.Fatal("the ballast was not given up")
	}
	// Its bytes are used up: what is left is for what is in flight.
	clock.Advance(time.Second)
	leaseAll(t, q, 0)
	free.Store(4 << 10)
	clock.Advance(time.Second)
	if err := appendNow(); !errors.Is(err, queue.ErrFull) {
		t.Fatalf("error is %v, want ErrFull", err)
	}
	mustSettle(t, q, clock.Now(), delivery.OutcomeDelivered)
	// Space again: no restart is needed, and the ballast is back.
	full.Store(false)
	free.Store(1 << 30)
	if err := appendNow(); err != nil {
		t.Fatal(err)
	}
	if info, err := d.fs.Stat(d.fs.PathJoin("queue", fileBallast)); err != nil || info.Size() != 4<<10 {
		t.Fatalf("the ballast is not back: %v", err)
	}
	if err := q.Close(); err != nil {
		t.Fatal(err)
	}
	if got, want := factsOf(d.Open(t)), (facts{succeeded: 3, pending: 2}); got != want {
		t.Fatalf("%+v, want %+v", got, want)
	}
}

// TestDueTimeIsClampedAfterTheClockWasSetBack starts again with a clock an hour behind.
func TestDueTimeIsClampedAfterTheClockWasSetBack(t *testing.T) {
	clock := queuetest.NewClock()
	d := newDisk(t, queuetest.Limits{Clock: clock}).(*disk)
	q := d.Open(t)
	mustAppend(t, q, queuetest.Item(clock.Now(), "one", queuetest.Endpoint("a")))
	wait := mustSettle(t, q, clock.Now(), delivery.OutcomeRejected).Wait
	if err := q.Close(); err != nil {
		t.Fatal(err)
	}
	clock.Advance(-time.Hour)
	q = d.Open(t)
	defer func() { _ = q.Close() }()
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := q.Lease(ended, admitAll{}); err == nil {
		t.Fatal("the retry did not wait at all")
	}
	clock.Advance(wait + time.Millisecond)
	if _, err := q.Lease(ended, admitAll{}); err != nil {
		t.Fatalf("the retry waits for the old clock: %v", err)
	}
}

func TestFilesThatFillTheDiskShrinkAgain(t *testing.T) {
	clock := queuetest.NewClock()
	d := newDisk(t, queuetest.Limits{Clock: clock}).(*disk)
	d.opt.DiskBytes = 32 << 20
	q := d.Open(t)
	defer func() { _ = q.Close() }()
	payload := make([]byte, 256<<10)
	_, _ = rand.NewChaCha8([32]byte{}).Read(payload) // not to be compressed
	n := 0
	for ; ; n++ {
		clock.Advance(time.Second)
		_, err := q.Append(t.Context(), []queue.Item{queuetest.Item(clock.Now(), string(payload), queuetest.Endpoint("a"))})
		if errors.Is(err, queue.ErrFull) {
			break
		}
		if err != nil || n == 1000 {
			t.Fatalf("after %d events: %v, want ErrFull", n, err)
		}
	}
	for range n {
		mustSettle(t, q, clock.Now(), delivery.OutcomeDelivered)
	}
	for limit := time.Now().Add(20 * time.Second); ; <-time.After(time.Millisecond) {
		clock.Advance(time.Second)
		_, err := q.Append(t.Context(), []queue.Item{queuetest.Item(clock.Now(), "one", queuetest.Endpoint("a"))})
		if err == nil {
			return
		}
		if time.Now().After(limit) {
			t.Fatalf("still full: %v, %d bytes on disk", err, q.Stats().DiskBytes)
		}
	}
}

func TestOptionsValidate(t *testing.T) {
	for name, o := range map[string]Options{
		"no directory":      {},
		"share above one":   {Dir: "d", EndpointShare: 2},
		"negative bytes":    {Dir: "d", MaxBytes: -1},
		"clock, no alarm":   {Dir: "d", Now: time.Now},
		"negative interval": {Dir: "d", IdempotencyWindow: -1},
	} {
		if o.Validate() == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if err := (Options{Dir: "d"}).Validate(); err != nil {
		t.Error(err)
	}
}
