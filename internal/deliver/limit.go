// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package deliver

import "github.com/garyclub/webhook-operator/internal/delivery"

// startLimit is how many attempts an endpoint may have in flight before it has shown how it does.
const startLimit = 4

// limit is how many attempts an endpoint may have in flight. It grows by one for each full round of answers and halves
// with every sign that the receiver cannot keep up, so one that hangs soon holds one slot instead of many.
type limit struct {
	max      int
	current  int
	inFlight int
	answered int // since the limit last grew
	class    class
}

// class is how far an endpoint is trusted to give its slots back soon.
type class uint8

const (
	answers  class = iota // the latest attempt was answered
	unproven              // there was no attempt yet
	hanging               // the latest attempt found it hanging or out of reach
	classes
)

func newLimit(maxInFlight int) *limit {
	return &limit{max: max(maxInFlight, 1), current: min(startLimit, max(maxInFlight, 1)), class: unproven}
}

func (l *limit) full() bool { return l.inFlight >= l.current }

// resize follows a change of spec.maxInFlight.
func (l *limit) resize(maxInFlight int) {
	l.max = max(maxInFlight, 1)
	l.current = min(l.current, l.max)
}

// learn takes in what an attempt came to.
func (l *limit) learn(o delivery.Outcome) {
	switch o {
	case delivery.OutcomeTimedOut, delivery.OutcomeUnreachable, delivery.OutcomeThrottled:
		l.current, l.answered = max(l.current/2, 1), 0
		l.class = hanging
		if o == delivery.OutcomeThrottled {
			l.class = answers
		}
	case delivery.OutcomeInterrupted:
	default:
		l.class = answers
		if l.answered++; l.answered >= l.current && l.current < l.max {
			l.current, l.answered = l.current+1, 0
		}
	}
}
