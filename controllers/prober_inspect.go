// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"errors"
	"net/url"
	"time"

	"github.com/garyclub/webhook-operator/internal/backoff"
	"github.com/garyclub/webhook-operator/internal/egress"
	"github.com/garyclub/webhook-operator/internal/endpoint"
)

const (
	inspectTimeout    = 10 * time.Second
	inspectAgain      = time.Hour
	inspectBackoff    = 5 * time.Second
	inspectMaxBackoff = 10 * time.Minute
)

// inspection is what one endpoint's address and certificate came to, and when to look again.
type inspection struct {
	subject *endpoint.Endpoint
	inputs  string
	due     time.Time
	// failures counts those in a row, for the backoff.
	failures int
	result   Inspection
}

// Inspection is what is known about the current inputs of an endpoint.
type Inspection struct {
	// Known says that there is a verdict. Before it, Changed says whether the inputs are others than this process saw
	// first, and Trouble why the look came to nothing.
	Known, Changed bool
	Trouble        *egress.Error
	// Certificate is what was seen; its zero value when the handshake failed.
	Certificate egress.Certificate
	// Failure is nil when all is well.
	Failure *egress.Error
}

// Inspect returns what is known about p and sees to it that more will be: at once when its inputs are new, and later
// from time to time.
func (b *Prober) Inspect(p *endpoint.Endpoint) Inspection {
	b.mu.Lock()
	defer b.mu.Unlock()
	entry, inputs := b.of(p.Ref, p.UID), inspectedOf(p)
	if i := entry.inspection; i != nil && i.inputs == inputs {
		return i.result
	}
	changed := entry.inspection != nil
	entry.interrupt()
	entry.inspection = &inspection{subject: p, inputs: inputs, due: time.Now(), result: Inspection{Changed: changed}}
	b.wake(p.Ref)
	return entry.inspection.result
}

func (b *Prober) inspect(ctx context.Context, ref endpoint.Ref, i *inspection, subject *endpoint.Endpoint) {
	ctx, cancel := context.WithTimeout(ctx, inspectTimeout)
	defer cancel()
	certificate, err := b.network.Inspect(ctx, subject)
	if ctx.Err() != nil && errors.Is(err, egress.ErrCanceled) {
		return // superseded, or the manager stops
	}
	var failure *egress.Error
	if err != nil && !errors.As(err, &failure) {
		failure = egress.ErrUnreachable // an inspector's errors are of that type; its text might not be fit to be shown
	}
	b.metrics.inspected(failure)

	b.mu.Lock()
	defer b.mu.Unlock()
	entry := b.probes[ref]
	if entry == nil || entry.inspection != i {
		return
	}
	i.note(certificate, failure, time.Now(), jitter())
}

// note is the pure decision what a look means. A lookup that failed says nothing about the host: the verdict before it
// stays. What took too long may have been the lookup, so it does not end a hold either.
func (i *inspection) note(certificate egress.Certificate, failure *egress.Error, now time.Time, jitter float64) {
	if failure == nil {
		i.failures = 0
		i.result = Inspection{Known: true, Certificate: certificate}
		i.due = now.Add(time.Duration(float64(inspectAgain) * (0.9 + 0.2*jitter)))
		if expired := certificate.NotAfter.Add(time.Second); expired.After(now) && expired.Before(i.due) {
			i.due = expired
		}
		return
	}
	i.failures++
	i.due = now.Add(backoff.Next(inspectBackoff, inspectMaxBackoff, i.failures, jitter))
	if errors.Is(failure, egress.ErrDNS) || errors.Is(failure, egress.ErrCanceled) || errors.Is(failure, egress.ErrTimedOut) && i.aboutHost() {
		i.result.Trouble = failure
		return
	}
	i.result = Inspection{Known: true, Failure: failure}
}

// aboutHost says whether the verdict so far is what a lookup came to.
func (i *inspection) aboutHost() bool {
	return errors.Is(i.result.Failure, egress.ErrAddressRefused) || errors.Is(i.result.Failure, egress.ErrHostNotFound)
}

// hostPace spaces the requests to one host: many endpoints of one provider are tested at once after an upgrade.
type hostPace map[string]time.Time

const (
	hostInterval = time.Second
	maxPaced     = 1024
)

// take returns the next free moment for a host, and takes it.
func (h hostPace) take(host string, now time.Time) time.Time {
	if len(h) >= maxPaced {
		for other, next := range h {
			if !next.After(now) {
				delete(h, other)
			}
		}
	}
	at := now
	if next := h[host]; next.After(at) {
		at = next
	}
	h[host] = at.Add(hostInterval)
	return at
}

func hostOf(p *endpoint.Endpoint) string {
	u, err := url.Parse(p.URL)
	if err != nil {
		return ""
	}
	return u.Hostname()
}
