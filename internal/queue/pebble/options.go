// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package pebble

import (
	"errors"
	"fmt"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/go-logr/logr"

	"github.com/garyclub/webhook-operator/internal/queue"
)

// Options configure a Queue. The zero value of a field means its default.
type Options struct {
	// Dir is the queue's own directory. Required.
	Dir string
	// FS is the file system; default the operating system's.
	FS vfs.FS
	// Now is a clock that does not step; default one that begins at the time of day and goes on by the monotonic clock.
	Now func() time.Time
	// Alarm returns a channel that gets a value at the time, at once when it has passed. It goes with Now.
	Alarm func(at time.Time) <-chan time.Time
	// MaxBytes is the size at which Append answers queue.ErrFull; default 1 GiB.
	MaxBytes int64
	// DiskBytes is the size on disk, log and what is not compacted yet included, at which Append answers
	// queue.ErrFull; default 1.2 times MaxBytes and 32 MiB for the log. The ballast comes on top.
	DiskBytes int64
	// EndpointShare is the part of MaxBytes that the deliveries of one endpoint may hold; default 0.25.
	EndpointShare float64
	// DeadLetterBytes bounds the dead letters, payloads included; default a tenth of MaxBytes.
	DeadLetterBytes int64
	// DeadLetterRetention is how long a failed delivery's payload is kept; default 24 h.
	DeadLetterRetention time.Duration
	// IdempotencyWindow is how long an idempotency key is remembered; default 24 h.
	IdempotencyWindow time.Duration
	// IdempotencyKeys is how many are remembered; default 100,000.
	IdempotencyKeys int64
	// OutboxRecords bounds the outbox; default 100,000.
	OutboxRecords int
	// ReserveBytes is the free space on the disk below which Append answers queue.ErrFull; default 64 MiB, negative for
	// none.
	ReserveBytes int64
	// BallastBytes is the size of a file that is given up when the disk is full all the same, so that what is under way
	// can be written; default 16 MiB, negative for none.
	BallastBytes int64
	// FreeBytes returns the free space of the disk; default asks FS.
	FreeBytes func() (uint64, error)
	// Receives says that deliveries are taken over from other queues: each one of this queue's own can then be found by
	// its event, so that it is not taken a second time. It costs a write for each.
	Receives bool
	// Ended is told which deliveries ended, once they are synced, from one goroutine, which it must not hold up.
	Ended func([]queue.Ended)
	// Log takes what the database has to say; default discards it.
	Log logr.Logger

	seams seams
}

// seams are for tests of this package.
type seams struct {
	// answerEarly answers before the sync, so that a test can prove that it would see that.
	answerEarly bool
	// orderChunk is how many dead letters one batch moves.
	orderChunk int
}

func (o Options) withDefaults() Options {
	if o.FS == nil {
		o.FS = vfs.Default
	}
	if o.Now == nil {
		// The sum keeps to the monotonic clock, so a step of the time of day moves no due time.
		start := time.Now()
		o.Now = func() time.Time { return start.Add(time.Since(start)) }
	}
	if o.Alarm == nil {
		now := o.Now
		o.Alarm = func(at time.Time) <-chan time.Time { return time.After(at.Sub(now())) }
	}
	o.MaxBytes = or(o.MaxBytes, 1<<30)
	o.DiskBytes = or(o.DiskBytes, o.MaxBytes+o.MaxBytes/5+32<<20)
	o.EndpointShare = or(o.EndpointShare, 0.25)
	o.DeadLetterBytes = or(o.DeadLetterBytes, o.MaxBytes/10)
	o.DeadLetterRetention = or(o.DeadLetterRetention, 24*time.Hour)
	o.IdempotencyWindow = or(o.IdempotencyWindow, 24*time.Hour)
	o.IdempotencyKeys = or(o.IdempotencyKeys, 100_000)
	o.OutboxRecords = or(o.OutboxRecords, 100_000)
	o.ReserveBytes = or(o.ReserveBytes, 64<<20)
	o.BallastBytes = or(o.BallastBytes, 16<<20)
	o.seams.orderChunk = or(o.seams.orderChunk, orderChunk)
	if o.FreeBytes == nil {
		fs, dir := o.FS, o.Dir
		o.FreeBytes = func() (uint64, error) {
			usage, err := fs.GetDiskUsage(dir)
			return usage.AvailBytes, err
		}
	}
	return o
}

func or[T comparable](value, otherwise T) T {
	var zero T
	if value == zero {
		return otherwise
	}
	return value
}

// Validate says what is wrong with the options.
func (o Options) Validate() error {
	var errs []error
	if o.Dir == "" {
		errs = append(errs, errors.New("no directory"))
	}
	if o.EndpointShare < 0 || o.EndpointShare > 1 {
		errs = append(errs, fmt.Errorf("endpoint share %v is not between 0 and 1", o.EndpointShare))
	}
	if o.Now != nil && o.Alarm == nil {
		errs = append(errs, errors.New("a clock without its alarm"))
	}
	for name, n := range map[string]int64{
		"max bytes": o.MaxBytes, "disk bytes": o.DiskBytes, "dead letter bytes": o.DeadLetterBytes, "idempotency keys": o.IdempotencyKeys,
		"outbox records": int64(o.OutboxRecords), "dead letter retention": int64(o.DeadLetterRetention),
		"idempotency window": int64(o.IdempotencyWindow),
	} {
		if n < 0 {
			errs = append(errs, fmt.Errorf("%s is negative", name))
		}
	}
	return errors.Join(errs...)
}
