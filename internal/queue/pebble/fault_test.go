// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package pebble

import (
	"context"
	"errors"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/garyclub/webhook-operator/internal/delivery"
	"github.com/garyclub/webhook-operator/internal/endpoint"
	"github.com/garyclub/webhook-operator/internal/event"
	"github.com/garyclub/webhook-operator/internal/queue"
	"github.com/garyclub/webhook-operator/internal/queue/queuetest"
)

// ill is a disk on which operations of one kind fail for as long as it is set.
type ill struct{ atomic.Bool }

// open opens the disk's queue on a file system that fails when i is set.
func (i *ill) open(t *testing.T, d *disk, kinds ...errorfs.OpKind) *Queue {
	t.Helper()
	opt := d.opt
	opt.FS = errorfs.Wrap(d.fs, errorfs.InjectorFunc(func(op errorfs.Op) error {
		for _, kind := range kinds {
			if op.Kind == kind && i.Load() {
				return syscall.EIO
			}
		}
		return nil
	}))
	q, err := Open(opt)
	if err != nil {
		t.Fatal(err)
	}
	return q
}

func TestBrokenQueueSaysSo(t *testing.T) {
	clock := queuetest.NewClock()
	d := newDisk(t, queuetest.Limits{Clock: clock}).(*disk)
	var disk ill
	q := disk.open(t, d, errorfs.OpFileSync, errorfs.OpFileSyncData)
	a := queuetest.Endpoint("a")
	mustAppend(t, q, queuetest.Item(clock.Now(), "one", a))
	if q.Err() != nil {
		t.Fatalf("error of a queue that is well: %v", q.Err())
	}
	disk.Store(true)
	if _, err := q.Append(t.Context(), []queue.Item{queuetest.Item(clock.Now(), "two", a)}); err == nil {
		t.Fatal("an append that was not synced was answered")
	}
	<-q.Broken()
	if q.Err() == nil {
		t.Error("a broken queue has no error")
	}
	if s := q.Stats(); s.Waiting != 1 || s.MaxBytes == 0 {
		t.Errorf("a broken queue has %d waiting of at most %d bytes, want what was synced", s.Waiting, s.MaxBytes)
	}
	if _, err := q.Lease(t.Context(), admitAll{}); err == nil {
		t.Error("a broken queue leases")
	}
	if err := q.Close(); err == nil {
		t.Error("the close of a broken queue says nothing")
	}
}

// flush brings all that is in memory to files, so that it has to be read from them.
func flush(t *testing.T, q *Queue) {
	t.Helper()
	if err := q.db.Flush(); err != nil {
		t.Fatal(err)
	}
}

func TestReadFaultLosesNothing(t *testing.T) {
	clock := queuetest.NewClock()
	d := newDisk(t, queuetest.Limits{Clock: clock}).(*disk)
	var disk ill
	q := disk.open(t, d, errorfs.OpFileReadAt)
	defer func() { _ = q.Close() }()
	mustAppend(t, q, queuetest.Item(clock.Now(), "one", queuetest.Endpoint("a")))
	flush(t, q)
	disk.Store(true)
	if _, err := q.Lease(t.Context(), admitAll{}); err == nil {
		t.Fatal("the read did not fail")
	}
	disk.Store(false)
	leaseAll(t, q, 0) // it is not asked for again at once
	clock.Advance(readPause)
	mustSettle(t, q, clock.Now(), delivery.OutcomeDelivered)
}

func TestRefillFaultKeepsTheRest(t *testing.T) {
	clock := queuetest.NewClock()
	d := newDisk(t, queuetest.Limits{Clock: clock}).(*disk)
	q := d.Open(t)
	const n = 1000 // so many that what the start reads leaves the first of them out of the cache
	for range n {
		mustAppend(t, q, queuetest.Item(clock.Now(), "one", queuetest.Endpoint("a")))
	}
	if err := q.Close(); err != nil {
		t.Fatal(err)
	}
	// After a start the window is empty, and the first lease fills it.
	var disk ill
	again := disk.open(t, d, errorfs.OpFileReadAt)
	defer func() { _ = again.Close() }()
	flush(t, again)
	disk.Store(true)
	if _, err := again.Lease(t.Context(), admitAll{}); err == nil {
		t.Fatal("the refill did not fail")
	}
	disk.Store(false)
	clock.Advance(readPause)
	leaseAll(t, again, n)
}

func TestMatchingCanBeginAgainAfterAReadFault(t *testing.T) {
	clock := queuetest.NewClock()
	d := newDisk(t, queuetest.Limits{Clock: clock}).(*disk)
	var disk ill
	q := disk.open(t, d, errorfs.OpFileReadAt)
	defer func() { _ = q.Close() }()
	item := queuetest.Item(clock.Now(), "one")
	item.Matched = false
	mustAppend(t, q, item)
	flush(t, q)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	match := func(*event.Event) ([]*endpoint.Endpoint, bool) {
		cancel()
		return []*endpoint.Endpoint{queuetest.Endpoint("a")}, true
	}
	disk.Store(true)
	if err := q.MatchWaiting(ctx, match); err == nil || ctx.Err() != nil {
		t.Fatalf("matching ended with %v, context %v; want the read's error", err, ctx.Err())
	}
	disk.Store(false)
	if err := q.MatchWaiting(ctx, match); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	leaseAll(t, q, 1)
}

func TestReserveOfNone(t *testing.T) {
	clock := queuetest.NewClock()
	for reserve, wantFull := range map[int64]bool{0: true, -1: false, 1 << 10: false} {
		d := newDisk(t, queuetest.Limits{Clock: clock}).(*disk)
		d.opt.ReserveBytes = reserve
		d.opt.FreeBytes = func() (uint64, error) { return 1 << 20, nil }
		q := d.Open(t)
		_, err := q.Append(t.Context(), []queue.Item{queuetest.Item(time.Now(), "one", queuetest.Endpoint("a"))})
		if errors.Is(err, queue.ErrFull) != wantFull {
			t.Errorf("a reserve of %d with 1 MiB free: %v", reserve, err)
		}
		if err := q.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
