// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package prober

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// carryOut does what the schedule says, each fault at its time or as soon as the one before it at the same target is
// over, and returns when the last one is mended. It ends with the first that could not be.
func (s *stand) carryOut(ctx context.Context, faults []Fault) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	start := time.Now()
	var running sync.WaitGroup
	for _, f := range faults {
		if !await(ctx, time.Until(start.Add(f.At))) {
			break
		}
		running.Go(func() {
			if err := s.inflict(ctx, f); err != nil {
				cancel(fmt.Errorf("%s: %w", f, err))
			}
		})
	}
	running.Wait()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return nil
}

// await lets time pass; false means that ctx ended before.
func await(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(max(d, 0))
	defer timer.Stop()
	select {
	case <-timer.C:
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	}
}

// inflict carries out one fault and mends it.
func (s *stand) inflict(ctx context.Context, f Fault) (err error) {
	for _, family := range []struct {
		name  string
		kinds map[Kind]func(context.Context, Fault) error
	}{
		{"process", map[Kind]func(context.Context, Fault) error{Kill: s.kill, Reboot: s.reboot, Stop: s.suspendProcess}},
		{"disk", map[Kind]func(context.Context, Fault) error{DiskFull: s.fillDisk}},
		{"network", map[Kind]func(context.Context, Fault) error{
			NetworkCut: s.disturb(LineCut), NetworkSlow: s.disturb(LineSlow), NetworkReset: s.disturb(LineReset), NetworkHalfOpen: s.disturb(LineHalfOpen)}},
		{"names", map[Kind]func(context.Context, Fault) error{DNSSilent: s.mislead(LookupsSilent), DNSFailing: s.mislead(LookupsFailing)}},
		{"certificate", map[Kind]func(context.Context, Fault) error{CertificateRotated: s.rotateCertificate, CertificateExpired: s.expireCertificate}},
		{"authority", map[Kind]func(context.Context, Fault) error{AuthorityRotated: s.rotateAuthority}},
		{"key", map[Kind]func(context.Context, Fault) error{KeyRotated: s.rotateKey}},
		{"object", map[Kind]func(context.Context, Fault) error{
			Suspended: s.suspend, Changed: s.alter, Recreated: s.deleteAndRecreate, Deleted: s.delete, Gone: s.leave}},
	} {
		if do := family.kinds[f.Kind]; do != nil {
			defer s.lock(family.name, f.Target)()
			if err := do(ctx, f); err != nil {
				return err
			}
			s.tally.did(f)
			return nil
		}
	}
	return fmt.Errorf("nobody knows how to do %s", f.Kind)
}

// possible leaves out what this machine does not let the prober do, and says so.
func (s *stand) possible(faults []Fault) (left []Fault) {
	omitted := map[Kind]int{}
	for _, f := range faults {
		mounts := f.Kind == DiskFull || f.Kind == DNSSilent || f.Kind == DNSFailing
		if mounts && !hasOwnMounts() || f.Kind == Reboot && clockLauncher(time.Hour) == nil {
			omitted[f.Kind]++
			continue
		}
		left = append(left, f)
	}
	for kind, n := range omitted {
		fmt.Fprintf(s.out, "!!! LEFT OUT: %d faults %s: they need root on Linux, with mounts and a clock of one's own\n", n, kind)
	}
	return left
}
