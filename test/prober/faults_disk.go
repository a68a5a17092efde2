// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package prober

import (
	"context"
	"time"

	"github.com/garyclub/webhook-operator/internal/fixture/system"
)

// spare is what a full disk has left: something to fail on in the middle of a write.
const spare = 128 << 10

// fillDisk takes the free space of a queue's disk away and gives it back.
func (s *stand) fillDisk(ctx context.Context, f Fault) error {
	d := s.disp[f.Target.Number].disk
	err := system.Eventually(ctx, 10*time.Second, func() error { // what is written in between makes it too small
		used, err := d.used()
		if err != nil {
			return err
		}
		return d.resize(used + spare)
	})
	if err != nil {
		return err
	}
	await(ctx, f.For)
	return d.resize(diskBytes)
}
