// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/garyclub/webhook-operator/internal/fixture/system"
)

// backlog has the events of a load wait at suspended endpoints and then releases them. The rate is that of the release,
// from the first arrival to the last.
func (s *stand) backlog(ctx context.Context, d *system.Dispatcher, namespace string, l Load) (Figures, error) {
	f := Figures{}
	if _, err := s.generate(ctx, d, l, f); err != nil {
		return nil, err
	}
	if l.Kind == Restart {
		ready, err := s.restart(ctx, d)
		if err != nil {
			return nil, err
		}
		f[ReadySeconds] = ready.Seconds()
	}
	used, err := memoryOf(d.PID())
	if err != nil {
		return nil, err
	}
	f[WaitingMiB] = mebibytes(used.peak)
	m, err := s.meter(ctx, d)
	if err != nil {
		return nil, err
	}
	if err := s.suspend(ctx, namespace, l, false); err != nil {
		return nil, err
	}
	if _, err := s.recv.arrived(ctx, l.Expected(), 0); err != nil {
		return nil, err
	}
	if f[Unrecorded], err = drained(ctx, d); err != nil {
		return nil, err
	}
	so, err := s.recv.arrived(ctx, 0, 0)
	if err != nil {
		return nil, err
	}
	f.arrivals(so, l, so.Last.Sub(so.First))
	return f, m.read(ctx, f, so)
}

// readyPoll is how exactly the time to the first 202 is seen.
const readyPoll = 2 * time.Millisecond

// restart kills the dispatcher, starts it again and says how long it was from there until it took an event.
func (s *stand) restart(ctx context.Context, d *system.Dispatcher) (time.Duration, error) {
	d.Kill()
	begun := time.Now()
	started := make(chan error, 1)
	go func() { started <- d.Start(ctx) }()
	err := takes(ctx, d.EventsURL())
	ready := time.Since(begun)
	return ready, errors.Join(err, <-started)
}

// takes posts a type of event that nobody asks for until it is accepted.
func takes(ctx context.Context, url string) error {
	const nobodys = `{"event":"custom.nobodys","timestamp":"2026-01-01T00:00:00Z"}`
	ctx, cancel := context.WithTimeout(ctx, warmTimeout)
	defer cancel()
	tick := time.NewTicker(readyPoll)
	defer tick.Stop()
	for {
		request, err := http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader(nobodys))
		if err != nil {
			return err
		}
		request.Header.Set("Content-Type", "application/json")
		if response, err := http.DefaultClient.Do(request); err == nil {
			_ = response.Body.Close() // its status is all that counts
			if response.StatusCode == http.StatusAccepted {
				return nil
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
