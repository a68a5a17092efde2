// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package record

import (
	"container/heap"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/garyclub/webhook-operator/internal/delivery"
)

// class orders what waits; the lowest goes first.
type class uint8

const (
	classFinal   class = iota // the last update of a record that exists: it must not stay on Retrying
	classFailure              // what a person looks for
	classRetry                // and what has moved on to another queue
	classTest
	classSuccess // and what was not attempted yet
)

// classOf places a state by what it says and whether its record exists.
func classOf(r *delivery.Record, exists bool) class {
	switch {
	case r.State.Done() && exists && !lost(r): // a lost queue may have held thousands
		return classFinal
	case r.State == delivery.Failed:
		return classFailure
	case r.State == delivery.Retrying, exists && r.Hops > 0:
		return classRetry
	case r.Trigger == delivery.TriggerTest:
		return classTest
	}
	return classSuccess
}

// entry is one record that waits to be written, in its newest state.
type entry struct {
	key    types.NamespacedName
	record delivery.Record
	// dones are those of all states that this one stands for: they share its result.
	dones []func(bool)
	class class
	order uint64    // of arrival
	due   time.Time // not before
	// admitted: a token of the endpoint's bucket was spent on it.
	admitted bool
	failures int // of writing it
	// existing: the record is brought to its end if it is there, and is not made.
	existing bool

	place *entries // the heap it is in, or nil
	index int
}

// line holds the waiting entries, one per name. It is not safe for several goroutines.
type line struct {
	byKey map[types.NamespacedName]*entry
	busy  map[types.NamespacedName]bool // taken, and not finished
	ready entries                       // by class and order
	later entries                       // by due
	// failures counts the waiting entries of classFailure, per endpoint UID.
	failures map[string]int
	next     uint64
}

func newLine() *line {
	l := &line{byKey: map[types.NamespacedName]*entry{}, busy: map[types.NamespacedName]bool{}, failures: map[string]int{}}
	l.ready.less = func(a, b *entry) bool {
		if a.class != b.class {
			return a.class < b.class
		}
		return a.order < b.order
	}
	l.later.less = func(a, b *entry) bool { return a.due.Before(b.due) }
	return l
}

// add puts an entry into the line. It says whether another state of the same delivery was there: the newer of the two
// stays, with what either had to answer.
func (l *line) add(e *entry, now time.Time) (coalesced bool) {
	waiting := l.byKey[e.key]
	if waiting == nil {
		l.next++
		e.order = l.next
		l.byKey[e.key] = e
		l.put(e, now)
		return false
	}
	l.remove(waiting)
	if newer(standOf(&e.record), standOf(&waiting.record)) {
		waiting.record, waiting.due, waiting.class, waiting.existing = e.record, e.due, e.class, e.existing
	}
	waiting.dones = append(waiting.dones, e.dones...)
	waiting.admitted = waiting.admitted || e.admitted
	waiting.failures = max(waiting.failures, e.failures)
	l.put(waiting, now)
	return true
}

// put places an entry of byKey into a heap. One whose name is busy is in none until that is finished.
func (l *line) put(e *entry, now time.Time) {
	if e.class == classFailure {
		l.failures[e.record.UID]++
	}
	switch {
	case l.busy[e.key]:
	case e.due.After(now):
		heap.Push(&l.later, e)
		e.place = &l.later
	default:
		heap.Push(&l.ready, e)
		e.place = &l.ready
	}
}

// remove is the opposite of put.
func (l *line) remove(e *entry) {
	if e.class == classFailure {
		if l.failures[e.record.UID]--; l.failures[e.record.UID] == 0 {
			delete(l.failures, e.record.UID)
		}
	}
	if e.place != nil {
		heap.Remove(e.place, e.index)
		e.place = nil
	}
}

// take takes the first entry that is due; otherwise it says when to ask again, zero for not before something is added.
func (l *line) take(now time.Time) (*entry, time.Time) {
	for len(l.later.all) > 0 && !l.later.all[0].due.After(now) {
		e := heap.Pop(&l.later).(*entry)
		heap.Push(&l.ready, e)
		e.place = &l.ready
	}
	if len(l.ready.all) == 0 {
		if len(l.later.all) == 0 {
			return nil, time.Time{}
		}
		return nil, l.later.all[0].due
	}
	e := l.ready.all[0]
	l.remove(e)
	delete(l.byKey, e.key)
	l.busy[e.key] = true
	return e, time.Time{}
}

// finish ends the hold on a name, whose record now exists or not. again puts the entry back: it was not written.
func (l *line) finish(e *entry, again, exists bool, now time.Time) {
	delete(l.busy, e.key)
	if waiting := l.byKey[e.key]; waiting != nil {
		l.remove(waiting)
		waiting.class = classOf(&waiting.record, exists)
		l.put(waiting, now)
	}
	if again {
		e.class = classOf(&e.record, exists)
		l.add(e, now)
	}
}

// holds says whether a state of the delivery waits or is being written.
func (l *line) holds(key types.NamespacedName) bool { return l.busy[key] || l.byKey[key] != nil }

// entries is a heap that knows where each of its entries is.
type entries struct {
	all  []*entry
	less func(a, b *entry) bool
}

// Len is for container/heap, as are the others.
func (h *entries) Len() int           { return len(h.all) }
func (h *entries) Less(i, j int) bool { return h.less(h.all[i], h.all[j]) }

func (h *entries) Swap(i, j int) {
	h.all[i], h.all[j] = h.all[j], h.all[i]
	h.all[i].index, h.all[j].index = i, j
}

// Push adds at the end.
func (h *entries) Push(x any) {
	e := x.(*entry)
	e.index = len(h.all)
	h.all = append(h.all, e)
}

// Pop removes the last.
func (h *entries) Pop() any {
	last := len(h.all) - 1
	e := h.all[last]
	h.all[last], h.all = nil, h.all[:last]
	return e
}
