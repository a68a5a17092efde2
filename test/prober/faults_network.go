// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package prober

import (
	"context"
	"time"
)

// disturb has the line to a receiver be that way.
func (s *stand) disturb(line Line) func(context.Context, Fault) error {
	return func(ctx context.Context, f Fault) error {
		p := s.recv[f.Target.Number].proxy
		p.Set(line)
		await(ctx, f.For)
		p.Set(LineUp)
		return nil
	}
}

// mislead has the name server answer that way. Connections end at its beginning, so that names have to be looked up.
func (s *stand) mislead(l Lookups) func(context.Context, Fault) error {
	return func(ctx context.Context, f Fault) error {
		s.names.Set(l)
		for _, r := range s.recv {
			r.proxy.Cut()
		}
		await(ctx, f.For)
		s.names.Set(LookupsUp)
		return nil
	}
}

func (s *stand) rotateCertificate(_ context.Context, f Fault) error {
	r := s.recv[f.Target.Number]
	if err := r.certify(time.Now().AddDate(0, 1, 0)); err != nil {
		return err
	}
	r.proxy.Cut() // a certificate is looked at when a connection is made
	return nil
}

func (s *stand) expireCertificate(ctx context.Context, f Fault) error {
	r := s.recv[f.Target.Number]
	if err := r.certify(time.Now().Add(-time.Minute)); err != nil {
		return err
	}
	r.proxy.Cut()
	await(ctx, f.For)
	return r.certify(time.Now().AddDate(0, 1, 0))
}
