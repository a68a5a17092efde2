// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package pebble

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	pdb "github.com/cockroachdb/pebble/v2"
	"github.com/go-logr/logr"

	"github.com/garyclub/webhook-operator/internal/queue"
)

var _ queue.Queue = (*Queue)(nil)

// Queue is the embedded queue.
type Queue struct {
	opt   Options
	log   logr.Logger
	db    *pdb.DB
	id    string
	space *space
	marks marks

	// book belongs to the committer.
	book     *book
	ops      chan op
	syncing  chan *batch
	answered chan struct{}
	broken   atomic.Pointer[error]
	failed   chan struct{} // closed when broken is set

	closing   chan struct{}
	kicked    chan struct{}
	clockDone chan struct{}
	matching  sync.Mutex
	ordering  sync.Mutex // of calls of Redeliver
	reclaimer reclaimer

	use    sync.RWMutex
	closed bool

	mu    sync.Mutex
	lanes map[laneID]*lane
	// flying is what must not be leased: it is in flight, or its end is being synced.
	flying map[place]struct{}
	// lent are the keys of the dead letters that are leased.
	lent     map[string]struct{}
	ring     *lane // lanes that are due, in turn
	ringEnd  *lane
	later    laneHeap
	sleepers []chan struct{}

	counters  map[string]countersAt
	version   uint64
	totals    totals
	outboxLen int64
	oldestKey int64
	sweepAt   int64
	scrubAt   int64
	news      news // of records
	newCounts news // of counters
	newMatch  news // of unmatched events, or of endpoints
	deferred  news // of deliveries that wait for a later time

	passing sync.Mutex
	passed  place // where LeaseWaiting goes on; zero at the beginning
	// passedDead is where LeaseDead goes on; nil at the beginning.
	passedDead []byte
}

// ID implements queue.Queue.
func (q *Queue) ID() string { return q.id }

// Broken implements queue.Queue.
func (q *Queue) Broken() <-chan struct{} { return q.failed }

// Err implements queue.Queue.
func (q *Queue) Err() error { return q.usable() }

// Close implements queue.Queue.
func (q *Queue) Close() error {
	q.use.Lock()
	if q.closed {
		q.use.Unlock()
		return nil
	}
	q.closed = true
	q.use.Unlock()
	// From here on nobody submits or reads; what was submitted is committed and answered.
	close(q.closing)
	close(q.ops)
	<-q.answered
	<-q.clockDone
	q.reclaimer.stop()
	q.mu.Lock()
	q.wakeAll()
	q.mu.Unlock()
	if err := q.usable(); err != nil {
		// Pebble stopped half way, with locks held; its files are left as they are.
		return fmt.Errorf("close broken queue: %w", err)
	}
	err := q.wipeMarks()
	q.scrubAtClose()
	if dbErr := q.db.Close(); dbErr != nil {
		err = errors.Join(err, fmt.Errorf("close database: %w", dbErr))
	}
	return err
}
