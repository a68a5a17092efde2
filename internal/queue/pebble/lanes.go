// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package pebble

import (
	"container/heap"

	pdb "github.com/cockroachdb/pebble/v2"

	"github.com/garyclub/webhook-operator/internal/endpoint"
)

// windowSize bounds the waiting deliveries of one lane in memory.
const windowSize = 64

// lane is the published part of a waiting line: the first of its deliveries.
type lane struct {
	laneInfo
	id laneID
	// window is sorted by place. When more is set there are deliveries on disk only, all of them behind high.
	window []entry
	more   bool
	high   place
	// notBefore is set by a release, in milliseconds.
	notBefore int64
	// parked is set when the gate refused; unparked counts the calls of Unpark, so that one that comes while the gate
	// is being asked is not lost.
	parked   bool
	unparked uint64

	inRing bool
	next   *lane // in the ring
	at     int64 // when it is due; its order in the heap
	index  int   // in the heap, from 1; 0 when it is not there
}

// entry is one waiting delivery; ready is when it may be leased.
type entry struct {
	place
	ready int64
}

// add puts a delivery into the window, or leaves it on disk when it lies behind.
func (l *lane) add(e entry) {
	if l.more && e.compare(l.high) > 0 {
		return
	}
	i, found := l.find(e.place)
	if found {
		return
	}
	l.window = append(l.window, entry{})
	copy(l.window[i+1:], l.window[i:])
	l.window[i] = e
	if len(l.window) > windowSize {
		l.window = l.window[:windowSize]
		l.more, l.high = true, l.window[windowSize-1].place
	}
}

// find returns the index of p in the window, or the one where it belongs.
func (l *lane) find(p place) (int, bool) {
	low, high := 0, len(l.window)
	for low < high {
		mid := (low + high) / 2
		if l.window[mid].compare(p) < 0 {
			low = mid + 1
		} else {
			high = mid
		}
	}
	return low, low < len(l.window) && l.window[low].place == p
}

func (l *lane) remove(p place) {
	if i, found := l.find(p); found {
		l.window = append(l.window[:i], l.window[i+1:]...)
	}
}

// refill reads the next deliveries behind the window, which is empty. A due time further ahead than the wait that led
// to it comes from a clock that was set back since: it is taken as that wait from now on. What could not be read is
// still there: more says so.
func (q *Queue) refill(l *lane, now int64) error {
	from := lanePrefix(l.id)
	if l.high != (place{}) {
		from = append(l.high.key(), 0)
	}
	more := false
	err := q.each(from, after(lanePrefix(l.id)), func(it *pdb.Iterator) (bool, error) {
		if len(l.window) == windowSize {
			more = true
			return false, nil
		}
		p, ok := parsePlace(it.Key()[1:])
		if !ok {
			return false, errCorrupt
		}
		l.high = p
		if _, flying := q.flying[p]; flying {
			return true, nil
		}
		ready := p.due
		if ready > now {
			s, err := parseRecord(it.Value())
			if err != nil {
				return false, err
			}
			ready = min(ready, now+s.Wait.Milliseconds())
		}
		l.window = append(l.window, entry{p, ready})
		return true, nil
	})
	l.more = more || err != nil
	return err
}

// laneFor returns the lane, made if need be.
func (q *Queue) laneFor(id laneID, ref endpoint.Ref) *lane {
	l := q.lanes[id]
	if l == nil {
		l = &lane{id: id, laneInfo: laneInfo{ref: ref}}
		q.lanes[id] = l
	}
	return l
}

// offer puts the lane where it belongs: into the ring when it is due, into the heap when it will be.
func (q *Queue) offer(l *lane, now int64) {
	switch {
	case l.inRing:
		return
	case l.parked, len(l.window) == 0 && !l.more:
		q.unschedule(l)
		return
	}
	at := l.notBefore
	if len(l.window) > 0 {
		at = max(at, l.window[0].ready)
	}
	if at > now {
		q.schedule(l, at)
		return
	}
	q.unschedule(l)
	l.inRing = true
	if q.ringEnd == nil {
		q.ring = l
	} else {
		q.ringEnd.next = l
	}
	q.ringEnd = l
	q.wakeOne()
}

// turn takes the lane whose turn it is out of the ring.
func (q *Queue) turn() *lane {
	l := q.ring
	if l == nil {
		return nil
	}
	if q.ring = l.next; q.ring == nil {
		q.ringEnd = nil
	}
	l.next, l.inRing = nil, false
	return l
}

func (q *Queue) schedule(l *lane, at int64) {
	l.at = at
	if l.index == 0 {
		heap.Push(&q.later, l)
	} else {
		heap.Fix(&q.later, l.index-1)
	}
	if q.later[0] == l {
		q.kick()
	}
}

func (q *Queue) unschedule(l *lane) {
	if l.index > 0 {
		heap.Remove(&q.later, l.index-1)
	}
}

// laneHeap is a min-heap by due time.
type laneHeap []*lane

func (h laneHeap) Len() int           { return len(h) }
func (h laneHeap) Less(i, j int) bool { return h[i].at < h[j].at }
func (h laneHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = i+1, j+1
}

// Push implements heap.Interface.
func (h *laneHeap) Push(x any) {
	l := x.(*lane)
	l.index = len(*h) + 1
	*h = append(*h, l)
}

// Pop implements heap.Interface.
func (h *laneHeap) Pop() any {
	old := *h
	l := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	l.index = 0
	return l
}
