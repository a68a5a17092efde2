// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"net/url"
	"time"

	"github.com/garyclub/webhook-operator/internal/fixture/system"
)

// generatorConnections is how many requests of the generator may be under way.
const generatorConnections = 64

// flow posts the events of a load and waits until they are delivered.
func (s *stand) flow(ctx context.Context, d *system.Dispatcher, l Load) (Figures, error) {
	m, err := s.meter(ctx, d)
	if err != nil {
		return nil, err
	}
	f := Figures{}
	g, err := s.generate(ctx, d, l, f)
	if err != nil {
		return nil, err
	}
	if _, err := s.recv.arrived(ctx, l.Expected(), 0); err != nil {
		return nil, err
	}
	if !l.Hanging { // those that hang have something left
		if f[Unrecorded], err = drained(ctx, d); err != nil {
			return nil, err
		}
	}
	so, err := s.recv.arrived(ctx, 0, 0) // what came a second time meanwhile is in it
	if err != nil {
		return nil, err
	}
	f.arrivals(so, l, so.Last.Sub(g.Start))
	f.latency(so.Latency, EndToEndP50, EndToEndP99, EndToEndP999, EndToEndMax)
	return f, m.read(ctx, f, so)
}

// generate runs the generator for a load.
func (s *stand) generate(ctx context.Context, d *system.Dispatcher, l Load, f Figures) (Generated, error) {
	to, err := url.Parse(d.EventsURL())
	if err != nil {
		return Generated{}, err
	}
	g, err := have[Generated](ctx, s.dir, roleGenerate, GeneratorOptions{Load: l, Address: to.Host, Connections: generatorConnections})
	if err != nil {
		return g, err
	}
	f.latency(g.Ingest, IngestP50, IngestP99, IngestP999, IngestMax)
	f[Refused], f[LateP99] = float64(g.Refused), millis(g.Late.P99)
	f[IngestPerSecond] = float64(l.Events) / g.End.Sub(g.Start).Seconds()
	return g, nil
}

// arrivals adds the receiver's account.
func (f Figures) arrivals(so Arrived, l Load, taken time.Duration) {
	f[Lost], f[Duplicates], f[Wrong] = float64(int64(l.Expected())-so.Unique), float64(so.Duplicates), float64(so.Wrong)
	if so.Unique > 0 {
		f[DeliveriesPerSecond] = float64(so.Unique) / taken.Seconds()
	}
}

// ceiling runs the bare loop against the receiver.
func (s *stand) ceiling(ctx context.Context, l Load, requests int) (Figures, error) {
	l.Groups, l.Fanout, l.Healthy, l.Hanging, l.Events, l.Batch = l.Endpoints(), 1, 0, false, requests, 1
	if err := s.recv.expect(ctx, Orders{Load: l, Key: s.key}); err != nil {
		return nil, err
	}
	c, err := have[Climbed](ctx, s.dir, roleClimb, CeilingOptions{Load: l, URL: s.recv.url(l), CAFile: s.caFile(), Key: s.key})
	if err != nil {
		return nil, err
	}
	so, err := s.recv.arrived(ctx, l.Expected(), 0)
	if err != nil {
		return nil, err
	}
	f := Figures{CPUPer1000: c.CPUSeconds / float64(requests) * 1000}
	f.arrivals(so, l, so.Last.Sub(c.Start))
	return f, nil
}
