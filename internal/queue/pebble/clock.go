// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package pebble

import (
	"context"
	"slices"
	"time"
)

// clock wakes lanes and sweeps at their time. It sleeps until the earliest of them.
func (q *Queue) clock() {
	defer close(q.clockDone)
	for {
		q.mu.Lock()
		at := q.sweepAt
		if len(q.later) > 0 && (at == 0 || q.later[0].at < at) {
			at = q.later[0].at
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

// kick has the clock look again, since something is due earlier.
func (q *Queue) kick() {
	select {
	case q.kicked <- struct{}{}:
	default:
	}
}

// strike offers the lanes that became due and has a sweep done when it is time.
func (q *Queue) strike(now int64) {
	q.mu.Lock()
	q.promote(now)
	sweep := q.sweepAt != 0 && q.sweepAt <= now
	if sweep {
		q.sweepAt = 0
	}
	q.mu.Unlock()
	if sweep {
		// An error is that of a broken or closed queue, which all others see too.
		_, _ = q.submit(context.Background(), &sweepOp{})
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
