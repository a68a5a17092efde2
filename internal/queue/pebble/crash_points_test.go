// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package pebble

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/go-cmp/cmp"

	"github.com/garyclub/webhook-operator/internal/delivery"
	"github.com/garyclub/webhook-operator/internal/queue"
	"github.com/garyclub/webhook-operator/internal/queue/queuetest"
)

// crashSeed decides which of the unsynced data is kept.
const crashSeed = 20260301

// kept are how much of the unsynced data is kept, in percent. After a change of names, whose order a disk need not keep,
// some of it is kept several times, by another choice each.
func kept(change string) []int {
	for _, names := range []string{"create", "remove", "rename", "link"} {
		if strings.HasPrefix(change, names) {
			return []int{0, 50, 100, 25, 50, 50, 75}
		}
	}
	return []int{0, 50, 100}
}

// recorder loses the power of a disk after each of its changes: it takes what would be left, and has it checked against
// what was answered and asked for by then.
type recorder struct {
	opt   Options
	clock *queuetest.Clock
	cuts  chan *cut
	found sync.WaitGroup

	mu   sync.Mutex
	mem  *vfs.MemFS
	step string
	// states are those that were asked for, one after the other; answered is the one of the last answer.
	states   []*world
	answered int
	requests map[string]int // made, by delivery
	// order is the one that is to be repeated after a cut, and ordered what it comes to.
	order    *delivery.Order
	ordered  delivery.Redelivered
	n, disks int
	points   map[string]int
	// hold keeps every sync until it is closed; nil keeps none.
	hold   chan struct{}
	faults []error
}

// cut is a disk after a loss of power.
type cut struct {
	r        *recorder
	name     string
	fs       *vfs.MemFS
	at       time.Time
	allowed  []*world
	requests map[string]int
	order    *delivery.Order
	ordered  delivery.Redelivered
}

func newRecorder(opt Options, clock *queuetest.Clock, mem *vfs.MemFS) *recorder {
	r := &recorder{opt: opt, clock: clock, mem: mem, cuts: make(chan *cut), states: []*world{newWorld()},
		requests: map[string]int{}, points: map[string]int{}}
	for range 2 {
		r.found.Go(func() {
			for c := range r.cuts {
				if err := c.check(); err != nil {
					r.fault(fmt.Errorf("%s: %w", c.name, err))
				}
			}
		})
	}
	return r
}

func (r *recorder) fault(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.faults = append(r.faults, err)
}

// end waits for the checks and returns what they found.
func (r *recorder) end() []error {
	close(r.cuts)
	r.found.Wait()
	return r.faults
}

// begin says what is asked for next: the states that lead to its answer, in order.
func (r *recorder) begin(step string, states ...*world) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.step = step
	r.states = append(r.states, states...)
}

// answer says that the last thing asked for was answered.
func (r *recorder) answer() *world {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.answered = len(r.states) - 1
	return r.states[r.answered]
}

// request says that a request was made.
func (r *recorder) request(name string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.requests[name]++
}

// disk is a file system whose power is lost after each change.
func (r *recorder) disk(mem *vfs.MemFS) *cutFS {
	return &cutFS{FS: mem, changed: func(what, file string) {
		r.mu.Lock()
		here := r.mem == mem // otherwise it is one that has crashed
		r.mu.Unlock()
		if here {
			r.cut(mem, what+" "+file)
		}
	}, syncing: func() {
		r.mu.Lock()
		hold := r.hold
		r.mu.Unlock()
		if hold != nil {
			<-hold
		}
	}}
}

// cut takes what is left of the disk. What was answered before that must be there; what is asked for until after it may.
func (r *recorder) cut(mem *vfs.MemFS, change string) {
	r.mu.Lock()
	r.n++
	n, low, point := r.n, r.answered, r.step+": "+change
	c := cut{r: r, at: r.clock.Now(), order: r.order, ordered: r.ordered}
	r.points[point]++
	r.mu.Unlock()
	percents := kept(change)
	disks := make([]*vfs.MemFS, len(percents))
	for i, percent := range percents {
		disks[i] = mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: percent,
			RNG: rand.New(rand.NewPCG(crashSeed+uint64(i), uint64(n)))})
	}
	r.mu.Lock()
	r.disks += len(disks)
	c.allowed, c.requests = slices.Clone(r.states[low:]), maps.Clone(r.requests)
	r.mu.Unlock()
	for i, fs := range disks {
		one := c
		one.name, one.fs = fmt.Sprintf("cut %d, %s, %d %% of what was not synced kept", n, point, percents[i]), fs
		r.cuts <- &one
	}
}

// check opens the disk and looks for what has to be there, and for nothing else.
func (c *cut) check() error {
	q, err := c.open()
	if err != nil {
		return err
	}
	err = c.holds(q)
	if err == nil && c.order != nil {
		err = c.repeat(q)
	}
	before, auditErr := auditOf(q)
	if err := errors.Join(err, auditErr, q.Close()); err != nil {
		return err
	}
	if q, err = c.open(); err != nil {
		return fmt.Errorf("second open: %w", err)
	}
	again, err := auditOf(q)
	if err == nil && !cmp.Equal(before, again, worlds) {
		err = fmt.Errorf("the second open finds something else (-first +second):\n%s", cmp.Diff(before, again, worlds))
	}
	return errors.Join(err, leasable(q, len(again.Waiting)), q.Close())
}

// worlds has what is kept of orders compared.
var worlds = cmp.AllowUnexported(orderInfo{})

// open opens the disk's queue with a clock that stands.
func (c *cut) open() (*Queue, error) {
	opt := c.r.opt
	opt.FS, opt.seams.answerEarly = c.fs, false
	opt.Now, opt.Alarm = func() time.Time { return c.at }, func(time.Time) <-chan time.Time { return nil }
	return Open(opt)
}

// holds says whether the queue is in one of the states that are allowed, and no delivery has requests left that it had
// made: one that was under way may be repeated, by one crash.
func (c *cut) holds(q *Queue) error {
	found, err := auditOf(q)
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(c.allowed, func(w *world) bool { return cmp.Equal(w, found, worlds) }) {
		return fmt.Errorf("none of %d states (-answered +found):\n%s", len(c.allowed), cmp.Diff(c.allowed[0], found, worlds))
	}
	allowed := queuetest.Endpoint("").Retry.MaxRetries + 1
	for name, known := range found.Waiting {
		if made := c.requests[name]; made+allowed-known > allowed+1 {
			return fmt.Errorf("%s has made %d requests and may make %d more", name, made, allowed-known)
		}
	}
	return nil
}

// repeat has the order carried out again: it goes on, or has its result, and nothing is moved twice.
func (c *cut) repeat(q *Queue) error {
	result, err := q.Redeliver(context.Background(), *c.order, queuetest.Endpoint(c.order.Ref.Name))
	if err != nil {
		return err
	}
	w, err := auditOf(q)
	if err != nil {
		return err
	}
	moved := 0
	for name := range w.Waiting {
		if strings.HasSuffix(name, " "+c.order.ID) {
			moved++
		}
	}
	if result != c.ordered || moved != c.ordered.Moved {
		return fmt.Errorf("the order repeated comes to %+v with %d waiting, want %+v", result, moved, c.ordered)
	}
	return nil
}

// leasable sees that so many deliveries wait, with events that can be read.
func leasable(q *Queue, n int) error {
	leases, err := q.LeaseWaiting(context.Background(), n+1, queue.Passage{Due: true})
	if err != nil {
		return err
	}
	for _, l := range leases {
		if _, err := l.Event(); err != nil {
			return err
		}
	}
	if len(leases) != n {
		return fmt.Errorf("%d of %d can be leased", len(leases), n)
	}
	return nil
}

// report lists the points and how often each was cut.
func (r *recorder) report(t *testing.T, took time.Duration) {
	t.Helper()
	steps := map[string]int{}
	for _, point := range slices.Sorted(maps.Keys(r.points)) {
		t.Logf("%4d %s", r.points[point], point)
		step, _, _ := strings.Cut(point, ": ")
		steps[step] += r.points[point]
	}
	t.Logf("seed %d: %d changes of the disk in %d steps, %d points, %d disks checked in %s", crashSeed, r.n, len(steps),
		len(r.points), r.disks, took.Round(time.Millisecond))
}
