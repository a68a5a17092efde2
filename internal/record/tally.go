// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package record

import (
	"slices"
	"time"

	"github.com/garyclub/webhook-operator/internal/delivery"
)

// tally is the cumulative figures of one queue about one endpoint.
type tally struct {
	name                                         string // of the endpoint
	namespace                                    string // of the endpoint; empty when it is the queue's
	succeeded, failed, unrecorded, pending, lost int64
	lastSuccess, lastFailure                     time.Time // to the millisecond
	gone                                         string
}

func tallyOf(c *delivery.Counters) tally {
	return tally{
		name: c.Ref.Name, succeeded: c.Succeeded, failed: c.Failed, unrecorded: c.Unrecorded, pending: c.Pending,
		lastSuccess: c.LastSuccess.Truncate(time.Millisecond), lastFailure: c.LastFailure.Truncate(time.Millisecond),
		gone: c.Gone,
	}
}

// in is the namespace of the endpoint, for a queue of the given one.
func (t tally) in(queues string) string {
	if t.namespace != "" {
		return t.namespace
	}
	return queues
}

// plus is the tally of two queues together, of which the other holds nothing any more; without the other's answers 410,
// for which a page has a list.
func (t tally) plus(other tally) tally {
	other.gone = t.gone // of a page from before there was a list
	other.succeeded += t.succeeded
	other.failed += t.failed
	other.unrecorded += t.unrecorded
	other.pending += t.pending
	other.lost += t.lost
	other.lastSuccess = latest(t.lastSuccess, other.lastSuccess)
	other.lastFailure = latest(t.lastFailure, other.lastFailure)
	return other
}

// after is the tally once a later report came: what is cumulative never goes backwards, whatever is reported; the others
// are as they were said last.
func (t tally) after(later tally) tally {
	later.succeeded = max(t.succeeded, later.succeeded)
	later.failed = max(t.failed, later.failed)
	later.unrecorded = max(t.unrecorded, later.unrecorded)
	later.lost = max(t.lost, later.lost)
	later.lastSuccess = latest(t.lastSuccess, later.lastSuccess)
	later.lastFailure = latest(t.lastFailure, later.lastFailure)
	return later
}

func (t tally) equal(other tally) bool {
	if !t.lastSuccess.Equal(other.lastSuccess) || !t.lastFailure.Equal(other.lastFailure) {
		return false
	}
	other.lastSuccess, other.lastFailure = t.lastSuccess, t.lastFailure
	return t == other
}

// size is the most bytes that the tally takes, encoded, here or folded.
func (t tally) size(uid string) int {
	bytes := len(uid) + len(t.name) + len(t.namespace) + 10*10
	if t.gone != "" {
		bytes += goneSize(uid, []string{t.gone})
	}
	return bytes
}

// goneSize is the most bytes that the list takes, encoded.
func goneSize(uid string, all []string) (bytes int) {
	if len(all) == 0 {
		return 0
	}
	bytes = len(uid) + 4
	for _, s := range all {
		bytes += len(s) + 2
	}
	return bytes
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// Totals are an endpoint's figures over all queues, as far as they are in the API server.
type Totals struct {
	Succeeded, Failed, Pending, Lost, Unrecorded int64
	LastSuccess, LastFailure                     time.Time
	// Gone lists the incarnations that answered 410, each once, in order.
	Gone []string
}

func (t *Totals) add(n tally) {
	t.Succeeded += n.succeeded
	t.Failed += n.failed
	t.Pending += n.pending
	t.Lost += n.lost
	t.Unrecorded += n.unrecorded
	t.LastSuccess = latest(t.LastSuccess, n.lastSuccess)
	t.LastFailure = latest(t.LastFailure, n.lastFailure)
	t.addGone(n.gone)
}

func (t *Totals) addGone(incarnation string) {
	if incarnation == "" {
		return
	}
	if at, found := slices.BinarySearch(t.Gone, incarnation); !found {
		t.Gone = slices.Insert(t.Gone, at, incarnation)
	}
}
