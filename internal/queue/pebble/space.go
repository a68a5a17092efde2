// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package pebble

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/go-logr/logr"
)

// The free space is asked for again after this time or this many bytes.
const (
	spaceEvery = 100 * time.Millisecond
	spaceBytes = 4 << 20
)

// space watches the disk. It keeps a ballast file, which is given up when a write finds the disk full, so that the
// write under way goes through: Pebble cannot go on without its log.
type space struct {
	fs      vfs.FS
	ballast string
	size    int64
	reserve uint64
	ask     func() (uint64, error)
	log     logr.Logger

	// spent says that the disk was found full: nothing is taken in until the ballast is back. missing says that the
	// ballast is not there. The hook sets them, on any goroutine.
	spent, missing atomic.Bool
	full           atomic.Bool
	// tight says that less than half of the spent ballast's bytes are free.
	tight atomic.Bool

	// used is what the database takes on disk; reclaim is called when that is beyond limit.
	used    func() int64
	limit   int64
	reclaim func()

	// Of the committer alone.
	asked time.Time
	since int64

	mu sync.Mutex // one ballast at a time
}

// giveUp is called when a write found the disk full.
func (s *space) giveUp() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.full.Store(true)
	s.spent.Store(true)
	s.missing.Store(true)
	if err := s.fs.Remove(s.ballast); err == nil {
		s.log.Info("disk is full, ballast given up", "bytes", s.size)
	}
}

// free says whether cost more bytes may be taken.
func (s *space) free(now time.Time, cost int64) bool {
	s.since += cost
	if now.Sub(s.asked) < spaceEvery && s.since < spaceBytes && !s.asked.IsZero() {
		return !s.full.Load()
	}
	s.asked, s.since = now, 0
	free, err := s.ask()
	if err != nil {
		// A disk that does not say is taken as it was.
		return !s.full.Load()
	}
	s.renew(free)
	s.tight.Store(s.spent.Load() && free < uint64(max(s.size, 0))/2)
	used := s.used()
	if used >= s.limit {
		s.reclaim()
	}
	full := free < s.reserve || s.spent.Load() || used >= s.limit
	if s.full.Swap(full) != full {
		s.log.Info("free space of the queue's disk changed", "full", full, "freeBytes", free, "usedBytes", used)
	}
	return !full
}

// restore writes the ballast, whose bytes must really be taken.
func (s *space) restore() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.size <= 0 {
		return nil
	}
	if info, err := s.fs.Stat(s.ballast); err == nil && info.Size() == s.size {
		return nil
	}
	f, err := s.fs.Create(s.ballast, vfs.WriteCategoryUnspecified)
	if err != nil {
		return fmt.Errorf("create ballast: %w", err)
	}
	zeros := make([]byte, min(s.size, 64<<10))
	for left := s.size; left > 0 && err == nil; {
		var n int
		n, err = f.Write(zeros[:min(left, int64(len(zeros)))])
		if n == 0 && err == nil {
			err = io.ErrShortWrite
		}
		left -= int64(n)
	}
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		_ = s.fs.Remove(s.ballast)
		return fmt.Errorf("write ballast: %w", err)
	}
	return nil
}

// renew makes the ballast when it is missing and there is room for it.
func (s *space) renew(free uint64) {
	if s.missing.Load() && free >= s.reserve+uint64(max(s.size, 0)) && s.restore() == nil {
		s.missing.Store(false)
		s.spent.Store(false)
	}
}

// begin makes the ballast. Where there is no room the queue begins without.
func (s *space) begin() {
	info, err := s.fs.Stat(s.ballast)
	s.missing.Store(err != nil || info.Size() != s.size)
	if free, err := s.ask(); err == nil {
		s.renew(free)
	}
}

// roomPause is the wait between two looks at a disk that is full.
const roomPause = time.Second

// room returns once something may be leased. While the ballast is spent and half of it used up, the rest is for the
// settlement of what is in flight: the database could not go on after a write that found no room.
func (q *Queue) room(ctx context.Context) error {
	for q.space.spent.Load() {
		if _, err := q.submit(ctx, &roomOp{}); err != nil {
			return err
		}
		if !q.space.tight.Load() {
			return nil
		}
		select {
		case <-q.opt.Alarm(q.opt.Now().Add(roomPause)):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

// roomOp has the committer look at the disk, and makes the ballast again when there is room. It writes nothing.
type roomOp struct{ call }

func (o *roomOp) prepare(b *batch) error {
	b.q.space.free(b.now, 0)
	return nil
}
