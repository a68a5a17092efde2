// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package record

import "time"

const (
	// lossDelay is between the first sight of a pod that is gone and the loss: reports may still be on their way.
	lossDelay = time.Minute
	// askInterval is how long a pod that is there, or about which nobody answered, is not asked for again.
	askInterval = time.Minute
	// arrivalTime is how long records that name a queue which held nothing at its end are left alone: each of them has left
	// the queue, and what became of it is still on its way. A gateway or a dispatcher says it when it has a manager and the
	// budget has room for it, so this is long.
	arrivalTime = time.Hour
	// seekInterval is when to look again whether such records have found their end.
	seekInterval = 10 * time.Minute
	// foldAfter is how long a queue that is gone keeps a page of its own, should it turn up all the same.
	foldAfter = 24 * time.Hour
	// heardInterval is how often it is written down that a queue on a volume is there, though it has nothing to report.
	heardInterval = 24 * time.Hour

	firstRepeat = 10 * time.Second
	lastRepeat  = time.Hour
)

// sighting is a queue that may have gone with its pod, as the ledger has it.
type sighting struct {
	key  bookKey
	pod  holder
	wide bool // it has endpoints of several namespaces
	// lost: it was declared lost; lostWritten: that is in the API server.
	lost, lostWritten bool
	pending           int64
	allLost           int64 // what was ever lost in it
	heard             time.Time
	idle              bool // nothing of it waits to be written
	crowded           bool // its place is needed
}

// watch is what the loop remembers of a queue whose dispatcher is not connected. All of it may be lost: the steps are
// taken again then, and change nothing.
type watch struct {
	podUID string
	// askAfter is when the pod may be asked for; gone is when it was first seen to be gone.
	askAfter, gone time.Time
	// declared: the queue was said to be lost; here: by this process.
	declared, here bool
	// settled: no record is left to be said to be lost. repeats are the times that some were, and repeatAfter is when to
	// look again.
	settled     bool
	repeats     int
	repeatAfter time.Time
	said        bool // in the log
}

// step is what is to be done about a queue.
type step uint8

const (
	stepNone        step = iota
	stepAsk              // whether the pod is there
	stepLose             // say in the ledger what was lost
	stepSeekRecords      // whether there are any that name the queue, which held nothing
	stepLoseRecords      // say in the records that they were lost
	stepFold             // join the counters with those of the namespace
)

// nextStep is the pure decision. The ledger comes first, and is written, before any record is: a number that somebody
// sees is never behind the records.
func nextStep(s *sighting, w *watch, now time.Time) step {
	switch {
	case w.gone.IsZero():
		if now.Before(w.askAfter) {
			return stepNone
		}
		return stepAsk
	case now.Sub(w.gone) < lossDelay:
	case s.mayLose():
		return stepLose
	case s.lost && !s.lostWritten:
	case !w.settled && now.Before(w.repeatAfter):
	case !w.settled && !s.lost && now.Sub(w.gone) < arrivalTime:
		return stepSeekRecords
	case !w.settled:
		return stepLoseRecords
	case s.idle && s.pending == 0 && (s.crowded || now.Sub(s.heard) >= foldAfter):
		return stepFold
	}
	return stepNone
}

// mayLose says that something may be lost of which the ledger says nothing yet.
func (s *sighting) mayLose() bool { return s.pending > 0 && !s.lost }

// outdated says that what is remembered is of another pod, or of before the queue turned up again.
func (w *watch) outdated(s *sighting) bool {
	return w.podUID != s.pod.podUID || w.declared && !s.lost
}

// repeat is how long after records were found to be said to be lost they are looked for again: soon, since they are
// written within a moment, and then less and less often, in case they cannot be written at all.
func (w *watch) repeat() time.Duration {
	w.repeats++
	return min(lastRepeat, firstRepeat<<min(w.repeats-1, 16))
}
