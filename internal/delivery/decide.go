// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package delivery

import (
	"time"

	"github.com/garyclub/webhook-operator/internal/backoff"
	"github.com/garyclub/webhook-operator/internal/endpoint"
)

// MaxRetryAfter caps the wait that a receiver can ask for.
const MaxRetryAfter = time.Hour

// After is the pure decision that follows an attempt: d with the attempt noted, its new state, and when the next attempt
// is due. jitter is in [0,1).
func After(d Delivery, p *endpoint.Endpoint, a Attempt, now time.Time, jitter float64) Delivery {
	d = d.noted(a, p)
	switch {
	case a.Outcome == OutcomeDelivered:
		return d.ended(Delivered, "", now)
	case a.Outcome == OutcomeGone, d.AttemptCount >= d.MaxAttempts:
		return d.ended(Failed, string(a.Outcome), now)
	}
	wait := backoff.Next(p.Retry.InitialBackoff, p.Retry.MaxBackoff, d.AttemptCount, jitter)
	wait = max(wait, min(a.RetryAfter, MaxRetryAfter))
	due := now.Add(wait)
	if due.After(d.Deadline) {
		return d.ended(Failed, ReasonDeadlineExceeded, now)
	}
	d.State, d.Due, d.Wait = Retrying, due, wait
	return d
}

// Fail ends d without another attempt.
func Fail(d Delivery, reason string, now time.Time) Delivery { return d.ended(Failed, reason, now) }

func (d Delivery) noted(a Attempt, p *endpoint.Endpoint) Delivery {
	d.UID = p.UID
	d.AttemptCount = a.Number
	d.MaxAttempts = p.Retry.MaxRetries + 1
	d.Interruptions = 0
	kept := make([]Attempt, 0, len(d.Attempts)+1)
	kept = append(append(kept, d.Attempts...), a)
	if over := len(kept) - MaxKeptAttempts; over > 0 {
		// The first attempt says when it began to fail; the latest say how it fails now.
		kept = append(kept[:1], kept[1+over:]...)
	}
	d.Attempts = kept
	return d
}

func (d Delivery) ended(s State, reason string, now time.Time) Delivery {
	d.State, d.Reason, d.Completed = s, reason, now
	d.Due, d.Wait = time.Time{}, 0
	return d
}
