// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"time"

	"github.com/garyclub/webhook-operator/internal/fixture/system"
)

// settleTime is how long a dispatcher has to come to rest after the warm-up.
const settleTime = 5 * time.Second

// idle measures a dispatcher that has its endpoints and nothing to do.
func (s *stand) idle(ctx context.Context, d *system.Dispatcher, l Load) (Figures, error) {
	if err := s.reported(ctx, d); err != nil {
		return nil, err
	}
	if err := pass(ctx, settleTime); err != nil {
		return nil, err
	}
	m, err := s.meter(ctx, d)
	if err != nil {
		return nil, err
	}
	before, err := cpuOf(d.PID())
	if err != nil {
		return nil, err
	}
	if err := pass(ctx, l.Pause); err != nil {
		return nil, err
	}
	after, err := cpuOf(d.PID())
	if err != nil {
		return nil, err
	}
	f := Figures{IdleCPUPercent: 100 * (after - before).Seconds() / l.Pause.Seconds()}
	return f, m.read(ctx, f, Arrived{})
}

// reported waits until the manager has taken every record.
func (s *stand) reported(ctx context.Context, d *system.Dispatcher) error {
	return system.Eventually(ctx, reportTimeout, func() error {
		left, err := drained(ctx, d)
		if err == nil && left > 0 {
			err = fmt.Errorf("the manager has not taken %v records", left)
		}
		return err
	})
}

// reportTimeout is beyond what the budget of writes makes the records of earlier cases wait.
const reportTimeout = 5 * time.Minute

func pass(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
