// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package outbox

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/garyclub/webhook-operator/internal/delivery"
)

// errDrained: the outbox was stopped, and the manager has taken everything.
var errDrained = errors.New("drained")

// report opens one stream and uses it to its end, beginning with the oldest record that was not answered. It says
// whether the manager answered at all.
func (b *Outbox) report(ctx context.Context) (answered bool, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wait sync.WaitGroup
	opened := make(chan struct{})
	wait.Go(func() {
		if b.takesTooLong(ctx, opened) {
			cancel(ErrNotReached)
		}
	})
	stream, err := b.reporter(ctx)
	close(opened)
	if err != nil {
		cancel(err) // unless there is a cause for it
		wait.Wait()
		return false, context.Cause(ctx)
	}
	s := &session{outbox: b, stream: stream, inFlight: map[uint64]struct{}{}}
	for _, part := range []func(context.Context) error{s.sendRecords, s.sendCounters, s.receive, s.noteDrain, s.watchDrain} {
		wait.Go(func() {
			if err := part(ctx); err != nil {
				cancel(err) // the first one stands; it ends the stream and so the others
			}
		})
	}
	wait.Wait()
	b.reported = max(b.reported, s.inLedger)
	return s.answered, context.Cause(ctx)
}

// takesTooLong says whether the outbox is stopped and a stream is not open within openWait of that.
func (b *Outbox) takesTooLong(ctx context.Context, opened <-chan struct{}) bool {
	select {
	case <-b.draining:
	case <-opened:
		return false
	case <-ctx.Done():
		return false
	}
	timer := time.NewTimer(openWait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-opened:
	case <-ctx.Done():
	}
	return false
}

// session is one stream.
type session struct {
	outbox *Outbox
	stream Stream

	mu       sync.Mutex
	inFlight map[uint64]struct{}
	// reported and counted number the reports of counters: the latest sent, and the latest that the manager has.
	reported, counted uint64
	// newest is the queue's version of the latest report, and inLedger that of the latest one that the manager has.
	newest, inLedger uint64
	// draining says that the outbox is stopped; recordsEmpty and countersEmpty then, that nothing is left to send.
	draining, recordsEmpty, countersEmpty bool
	answered                              bool
	waiters                               []chan struct{}
}

// await waits until the condition, which is called under the lock, holds.
func (s *session) await(ctx context.Context, holds func() bool) error {
	for {
		s.mu.Lock()
		if holds() {
			s.mu.Unlock()
			return nil
		}
		wake := make(chan struct{})
		s.waiters = append(s.waiters, wake)
		s.mu.Unlock()
		select {
		case <-wake:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// update changes the state and lets those who wait look at it.
func (s *session) update(change func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change()
	for _, w := range s.waiters {
		close(w)
	}
	s.waiters = nil
}

func (s *session) sendRecords(ctx context.Context) error {
	var after uint64
	for {
		room := 0
		err := s.await(ctx, func() bool {
			room = min(batch, window-len(s.inFlight))
			return room > 0
		})
		if err != nil {
			return err
		}
		items, err := s.nextRecords(ctx, after, room)
		if err != nil {
			return err
		}
		if len(items) == 0 {
			s.update(func() { s.recordsEmpty = true })
			return nil // drained
		}
		after = items[len(items)-1].Seq
		s.update(func() {
			for i := range items {
				s.inFlight[items[i].Seq] = struct{}{}
			}
		})
		if err := s.stream.SendRecords(all(items)); err != nil {
			return err
		}
		s.outbox.metrics.sent.Add(float64(len(items)))
	}
}

// nextRecords waits for records. Once the outbox is stopped it waits for a moment only, and returns none when there are
// none.
func (s *session) nextRecords(ctx context.Context, after uint64, n int) ([]Outgoing, error) {
	if !s.outbox.isDraining() {
		items, err := s.untilDraining(ctx, after, n)
		if err == nil || ctx.Err() != nil || !s.outbox.isDraining() {
			return items, err
		}
	}
	wait, cancel := context.WithTimeout(ctx, drainWait)
	defer cancel()
	items, err := s.outbox.queue.Outbox(wait, after, n)
	if err != nil && ctx.Err() == nil && wait.Err() != nil {
		return nil, nil
	}
	return items, err
}

func (s *session) untilDraining(ctx context.Context, after uint64, n int) ([]Outgoing, error) {
	ctx, cancel := context.WithCancel(ctx)
	var watch sync.WaitGroup
	defer watch.Wait()
	defer cancel()
	watch.Go(func() {
		select {
		case <-s.outbox.draining:
			cancel()
		case <-ctx.Done():
		}
	})
	return s.outbox.queue.Outbox(ctx, after, n)
}

func all(items []Outgoing) func(yield func(uint64, delivery.Record) bool) {
	return func(yield func(uint64, delivery.Record) bool) {
		for i := range items {
			if !yield(items[i].Seq, items[i].Record) {
				return
			}
		}
	}
}

// sendCounters reports all counters at first, and then those that changed: one report at a time, and none sooner than
// the interval after the last. Once the outbox is stopped, the newest go out at once.
func (s *session) sendCounters(ctx context.Context) error {
	var since uint64
	for !s.outbox.isDraining() {
		changed := s.outbox.queue.Counted() // before they are read, so that no change is missed
		sent, err := s.reportCounters(&since)
		if err != nil {
			return err
		}
		var next <-chan time.Time
		if sent {
			if err := s.await(ctx, func() bool { return s.counted == s.reported || s.draining }); err != nil {
				return err
			}
			next, changed = time.After(countersInterval), nil
		}
		select {
		case <-changed:
		case <-next:
		case <-s.outbox.draining:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return s.sendLastCounters(ctx, since)
}

// sendLastCounters sends what is newest, without waiting for the answer to an earlier report, which the ledger may take
// seconds for. The answers to the last records may change what is unrecorded, so that is sent once more. It returns when
// all is in the ledger.
func (s *session) sendLastCounters(ctx context.Context, since uint64) error {
	if _, err := s.reportCounters(&since); err != nil {
		return err
	}
	if err := s.await(ctx, func() bool { return s.recordsEmpty && len(s.inFlight) == 0 }); err != nil {
		return err
	}
	if _, err := s.reportCounters(&since); err != nil {
		return err
	}
	if err := s.await(ctx, func() bool { return s.counted == s.reported }); err != nil {
		return err
	}
	s.update(func() { s.countersEmpty = true })
	return nil
}

// reportCounters sends what changed since the queue's version, if anything did, and brings that up to date. Reports are
// numbered by themselves: the queue's versions are its own matter.
func (s *session) reportCounters(since *uint64) (sent bool, err error) {
	counters, version := s.outbox.queue.Counters(*since)
	*since = version
	if len(counters) == 0 {
		return false, nil
	}
	var number uint64
	s.update(func() {
		s.reported++
		number, s.newest = s.reported, version
	})
	return true, s.stream.SendCounters(counters, number)
}

// receive removes what the manager has taken.
func (s *session) receive(ctx context.Context) error {
	for {
		taken, version, err := s.stream.Recv()
		if err != nil {
			return err
		}
		if err := s.take(ctx, taken); err != nil {
			return err
		}
		s.update(func() {
			for seq := range taken {
				delete(s.inFlight, seq)
			}
			if version <= s.reported {
				s.counted = max(s.counted, version)
			}
			if s.counted == s.reported {
				s.inLedger = s.newest
			}
			s.answered = true
		})
	}
}

func (s *session) take(ctx context.Context, answers map[uint64]bool) error {
	var taken []Taken
	leftOut := 0
	s.mu.Lock()
	for seq, recorded := range answers {
		if _, sent := s.inFlight[seq]; !sent {
			continue // answered before, or never asked
		}
		taken = append(taken, Taken{Seq: seq, Recorded: recorded})
		if !recorded {
			leftOut++
		}
	}
	s.mu.Unlock()
	if len(taken) == 0 {
		return nil
	}
	if err := s.outbox.queue.Acknowledge(ctx, taken); err != nil {
		return err
	}
	s.outbox.metrics.acknowledged.Add(float64(len(taken)))
	s.outbox.metrics.leftOut.Add(float64(leftOut))
	return nil
}

// noteDrain wakes those who wait when the outbox is stopped.
func (s *session) noteDrain(ctx context.Context) error {
	select {
	case <-s.outbox.draining:
		s.update(func() { s.draining = true })
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s *session) watchDrain(ctx context.Context) error {
	if err := s.await(ctx, func() bool { return s.countersEmpty }); err != nil {
		return err
	}
	return errDrained
}
