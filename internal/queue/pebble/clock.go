// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package pebble

import (
	"context"
	"slices"
	"time"
)

// clock wakes lanes, sweeps and scrubs at their time. It sleeps until the earliest of them.
func (q *Queue) clock() {
	defer close(q.clockDone)
	for {
		q.mu.Lock()
		at := sooner(q.sweepAt, q.scrubAt)
		if len(q.later) > 0 {
			at = sooner(at, q.later[0].at)
		}
		q.mu.Unlock()
		var alarm <-chan time.Time
		if at > 0 {
			alarm = q.opt.Alarm(time.UnixMilli(at))
		}
		select {
		case <-q.closing:
			return
		case <-q.kicked:
		case <-alarm:
			q.strike(millis(q.opt.Now()))
		}
	}
}

// sooner is the first of two times, of which zero is none.
func sooner(a, b int64) int64 {
	if a == 0 || b != 0 && b < a {
		return b
	}
	return a
}

// kick has the clock look again, since something is due earlier.
func (q *Queue) kick() {
	select {
	case q.kicked <- struct{}{}:
	default:
	}
}

// strike offers the lanes that became due, and has a sweep or a scrub done when it is time.
func (q *Queue) strike(now int64) {
	q.mu.Lock()
	q.promote(now)
	sweep := q.sweepAt != 0 && q.sweepAt <= now
	if sweep {
		q.sweepAt = 0
	}
	scrub := q.scrubAt != 0 && q.scrubAt <= now
	if scrub {
		q.scrubAt = 0
	}
	q.mu.Unlock()
	// An error is that of a broken or closed queue, which all others see too.
	if sweep {
		_, _ = q.submit(context.Background(), &sweepOp{})
	}
	if scrub {
		_, _ = q.submit(context.Background(), &scrubOp{})
	}
}

// promote offers the lanes that became due.
func (q *Queue) promote(now int64) {
	for len(q.later) > 0 && q.later[0].at <= now {
		l := q.later[0]
		q.unschedule(l)
		q.offer(l, now)
	}
}

// await is a place in the line of those who wait to be woken.
func (q *Queue) await() chan struct{} {
	woken := make(chan struct{}, 1)
	q.sleepers = append(q.sleepers, woken)
	return woken
}

// forsake leaves the line. A wake that was meant for the one who leaves goes to the next.
func (q *Queue) forsake(woken chan struct{}) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if i := slices.Index(q.sleepers, woken); i >= 0 {
		q.sleepers = slices.Delete(q.sleepers, i, i+1)
		return
	}
	q.wakeOne()
}

func (q *Queue) wakeOne() {
	if len(q.sleepers) == 0 {
		return
	}
	q.sleepers[0] <- struct{}{}
	q.sleepers[0] = nil
	q.sleepers = q.sleepers[1:]
}

func (q *Queue) wakeAll() {
	for len(q.sleepers) > 0 {
		q.wakeOne()
	}
	q.news.tell()
	q.newCounts.tell()
	q.newMatch.tell()
	q.deferred.tell()
}

// news wakes all who wait for the next change. Its owner's lock guards it.
type news struct{ next chan struct{} }

func (n *news) wait() <-chan struct{} {
	if n.next == nil {
		n.next = make(chan struct{})
	}
	return n.next
}

func (n *news) tell() {
	if n.next != nil {
		close(n.next)
		n.next = nil
	}
}
