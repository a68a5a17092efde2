// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"time"

	"github.com/garyclub/webhook-operator/internal/fixture/system"
)

// meter measures what a dispatcher and the API server do from its making on.
type meter struct {
	stand       *stand
	pid         int
	start       time.Time
	cpu         time.Duration
	writes      int
	connections int64
	syncs       *syncCounter // nil when they cannot be counted
}

func (s *stand) meter(ctx context.Context, d *system.Dispatcher) (*meter, error) {
	m := &meter{stand: s, pid: d.PID(), start: time.Now()}
	so, err := s.recv.arrived(ctx, 0, 0)
	if err != nil {
		return nil, err
	}
	m.connections = so.Connections
	if m.writes, err = s.sys.Writes(ctx); err != nil {
		return nil, err
	}
	if m.syncs, err = countSyncs(m.pid); err != nil {
		s.sayOnce("fsyncs are not counted: %v", err)
	}
	m.cpu, err = cpuOf(m.pid)
	return m, err
}

// read adds what was used for so many deliveries.
func (m *meter) read(ctx context.Context, f Figures, so Arrived) error {
	cpu, err := cpuOf(m.pid)
	if err != nil {
		return err
	}
	if m.syncs != nil {
		n, err := m.syncs.count()
		if err != nil {
			return err
		}
		f[Fsyncs] = float64(n)
		if err := m.syncs.close(); err != nil {
			return err
		}
	}
	writes, err := m.stand.sys.Writes(ctx)
	if err != nil {
		return err
	}
	taken := time.Since(m.start)
	f[Seconds] = taken.Seconds()
	f[APIWrites], f[APIWritesAllowed] = float64(writes-m.writes), writesPerSecond*taken.Seconds()+writesBurst
	if so.Unique > 0 {
		f[CPUPer1000] = (cpu - m.cpu).Seconds() / float64(so.Unique) * 1000
		opened := so.Connections - m.connections
		f[Connections], f[ConnectionsWarm] = float64(opened), float64(m.connections)
		f[DeliveriesByConnection] = float64(so.Unique) / float64(max(opened, 1))
	}
	return m.memory(f)
}

func (m *meter) memory(f Figures) error {
	used, err := memoryOf(m.pid)
	f[PeakMiB], f[ResidentMiB] = mebibytes(used.peak), mebibytes(used.resident)
	return err
}
