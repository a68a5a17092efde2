// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package pebble

import (
	"math/rand/v2"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/garyclub/webhook-operator/internal/queue"
	"github.com/garyclub/webhook-operator/internal/queue/queuetest"
)

type disk struct {
	opt Options
	fs  *vfs.MemFS
}

func newDisk(_ testing.TB, l queuetest.Limits) queuetest.Disk {
	return &disk{fs: vfs.NewCrashableMem(), opt: Options{
		Dir: "queue", Now: l.Clock.Now, Alarm: l.Clock.Alarm, BallastBytes: 4 << 10,
		FreeBytes: func() (uint64, error) { return 1 << 40, nil },
		MaxBytes:  l.MaxBytes, EndpointShare: l.EndpointShare, DeadLetterBytes: l.DeadLetterBytes,
		DeadLetterRetention: l.DeadLetterRetention, IdempotencyWindow: l.IdempotencyWindow,
		IdempotencyKeys: l.IdempotencyKeys, OutboxRecords: l.OutboxRecords,
		Receives: l.Receives, Ended: l.Ended,
	}}
}

func (d *disk) Open(t testing.TB) queue.Queue {
	t.Helper()
	d.opt.FS = d.fs
	q, err := Open(d.opt)
	if err != nil {
		t.Fatal(err)
	}
	return q
}

// Crash is a killed process: what it had written is there, synced or not.
func (d *disk) Crash(testing.TB) queuetest.Disk { return d.clone(100) }

func (d *disk) clone(unsyncedPercent int) *disk {
	return &disk{opt: d.opt, fs: d.fs.CrashClone(vfs.CrashCloneCfg{
		UnsyncedDataPercent: unsyncedPercent, RNG: rand.New(rand.NewPCG(1, uint64(unsyncedPercent))),
	})}
}

func TestConformance(t *testing.T) { queuetest.Run(t, newDisk) }
