// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package pebble

import (
	"bytes"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/garyclub/webhook-operator/internal/delivery"
	"github.com/garyclub/webhook-operator/internal/queue/queuetest"
)

// marker is a payload that no compression makes smaller: in a compressed block, too, it stands as it is.
func marker(seed byte) string {
	payload := make([]byte, 8<<10)
	_, _ = rand.NewChaCha8([32]byte{seed}).Read(payload)
	return string(payload)
}

// filesWith are the files under dir with any part of the payload in them: of each 64 bytes, the 16 in their middle.
func filesWith(t *testing.T, dir, payload string) (found []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return ignoreGone(err)
		}
		content, err := os.ReadFile(path)
		for at := 24; err == nil && at+16 <= len(payload); at += 64 {
			if bytes.Contains(content, []byte(payload[at:at+16])) {
				found = append(found, filepath.Base(path))
				break
			}
		}
		return ignoreGone(err)
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// ignoreGone: the database deletes files beside the test.
func ignoreGone(err error) error {
	if os.IsNotExist(err) {
		return nil
	}
	return err
}

// diskStand is a queue on a real directory.
type diskStand struct {
	*testing.T
	*Queue
	opt   Options
	clock *queuetest.Clock
}

func newDiskStand(t *testing.T) *diskStand {
	clock := queuetest.NewClock()
	s := &diskStand{T: t, clock: clock, opt: Options{Dir: t.TempDir(), Now: clock.Now, Alarm: clock.Alarm,
		DeadLetterRetention: 2 * time.Hour, BallastBytes: -1}}
	s.open()
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func (s *diskStand) open() {
	s.Helper()
	var err error
	if s.Queue, err = Open(s.opt); err != nil {
		s.Fatal(err)
	}
}

// add appends the payload and ends its delivery.
func (s *diskStand) add(payload string, o delivery.Outcome) {
	s.Helper()
	mustAppend(s.T, s.Queue, queuetest.Item(s.clock.Now(), payload, queuetest.Endpoint("a")))
	mustSettle(s.T, s.Queue, s.clock.Now(), o)
}

// there fails unless a file of the kind has the payload; this is what makes its absence later worth something.
func (s *diskStand) there(what, payload, kind string) {
	s.Helper()
	for _, name := range filesWith(s.T, s.opt.Dir, payload) {
		if strings.HasSuffix(name, kind) {
			return
		}
	}
	s.Fatalf("%s: no %s file has the payload", what, kind)
}

// leaves waits until no file has the payload.
func (s *diskStand) leaves(what, payload string) {
	s.Helper()
	for limit := time.Now().Add(20 * time.Second); ; <-time.After(5 * time.Millisecond) {
		left := filesWith(s.T, s.opt.Dir, payload)
		if len(left) == 0 {
			return
		}
		if time.Now().After(limit) {
			s.Fatalf("%s: the payload is still in %v", what, left)
		}
	}
}

func (s *diskStand) until(what string, done func() bool) {
	s.Helper()
	for limit := time.Now().Add(20 * time.Second); !done(); <-time.After(time.Millisecond) {
		if time.Now().After(limit) {
			s.Fatalf("not seen: %s", what)
		}
	}
}

// churn writes and compacts, so that logs end, and tables come to lie in the levels below.
func (s *diskStand) churn() {
	s.Helper()
	for i := range 3 {
		s.add(marker(100+byte(i)), delivery.OutcomeGone)
		flush(s.T, s.Queue)
	}
	if err := s.db.Compact(s.Context(), []byte{0}, []byte{0xff}, false); err != nil {
		s.Fatal(err)
	}
}

func TestPayloadsLeaveTheDisk(t *testing.T) {
	for name, outcome := range map[string]delivery.Outcome{
		"delivered": delivery.OutcomeDelivered, "failed": delivery.OutcomeGone,
	} {
		for where, settle := range map[string]func(s *diskStand){
			"in the log": func(*diskStand) {}, "in tables": (*diskStand).churn,
		} {
			t.Run(name+", "+where, func(t *testing.T) {
				s := newDiskStand(t)
				payload := marker(1)
				mustAppend(t, s.Queue, queuetest.Item(s.clock.Now(), payload, queuetest.Endpoint("a")))
				s.there("appended", payload, ".log")
				flush(t, s.Queue)
				s.there("flushed", payload, ".sst")
				mustSettle(t, s.Queue, s.clock.Now(), outcome)
				settle(s)
				if outcome != delivery.OutcomeDelivered {
					s.there("dead", payload, ".sst")
					s.clock.Advance(s.opt.DeadLetterRetention + time.Minute)
					s.until("the end of the retention", func() bool { return s.Stats().DeadLetters == 0 })
				}
				s.clock.Advance(scrubEvery)
				s.leaves("an hour later", payload)
			})
		}
	}
}

// TestPayloadsInTheLogLeaveTheDisk: with few events, nothing ends the log but the scrub. Logs that ended before were not
// kept to be written over.
func TestPayloadsInTheLogLeaveTheDisk(t *testing.T) {
	s := newDiskStand(t)
	payloads := []string{marker(1), marker(2), marker(3)}
	for _, payload := range payloads {
		s.add(payload, delivery.OutcomeDelivered)
		s.there("delivered", payload, ".log")
	}
	s.clock.Advance(scrubEvery - time.Second)
	for _, payload := range payloads {
		s.there("before its time", payload, ".log")
	}
	s.clock.Advance(time.Second)
	for _, payload := range payloads {
		s.leaves("delivered", payload)
	}
}

func TestRedeliveredPayloadsLeaveTheDisk(t *testing.T) {
	s := newDiskStand(t)
	payload := marker(1)
	s.add(payload, delivery.OutcomeGone)
	flush(t, s.Queue)
	p := queuetest.Endpoint("a")
	order := delivery.Order{ID: "1", Ref: p.Ref, Limit: 1}
	if got, err := s.Redeliver(t.Context(), order, p); err != nil || got.Moved != 1 {
		t.Fatalf("%+v, error %v", got, err)
	}
	s.there("copied", payload, ".log")
	mustSettle(t, s.Queue, s.clock.Now(), delivery.OutcomeDelivered)
	s.clock.Advance(scrubEvery)
	s.leaves("redelivered", payload)
}

func TestPayloadsLeaveTheDiskAtACloseOrAfterAStart(t *testing.T) {
	s := newDiskStand(t)
	payload := marker(1)
	s.add(payload, delivery.OutcomeDelivered)
	s.there("delivered", payload, ".log")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s.leaves("closed", payload)
	// A process that was killed could not see to it.
	s.open()
	dead := marker(2)
	s.add(dead, delivery.OutcomeGone)
	crashed := t.TempDir()
	if err := os.CopyFS(crashed, os.DirFS(s.opt.Dir)); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s.opt.Dir = crashed
	s.open()
	s.there("after a crash", dead, "")
	s.clock.Advance(s.opt.DeadLetterRetention + time.Minute)
	s.until("the end of the retention", func() bool { return s.Stats().DeadLetters == 0 })
	s.clock.Advance(scrubEvery)
	s.leaves("after a crash", dead)
}

// TestNothingIsCompactedForNothing: an idle queue sleeps.
func TestNothingIsCompactedForNothing(t *testing.T) {
	s := newDiskStand(t)
	mustAppend(t, s.Queue, queuetest.Item(s.clock.Now(), "one", queuetest.Endpoint("a")))
	if at := s.scrubDue(); at != 0 {
		t.Errorf("a scrub is due at %d with nothing deleted", at)
	}
	mustSettle(t, s.Queue, s.clock.Now(), delivery.OutcomeDelivered)
	if at, want := s.scrubDue(), millis(s.clock.Now().Add(scrubEvery)); at != want {
		t.Errorf("a scrub is due at %d, want %d", at, want)
	}
	s.clock.Advance(scrubEvery)
	s.until("the scrub", func() bool { return s.scrubDue() == 0 })
	before := s.db.Metrics().Flush.Count
	s.clock.Advance(10 * scrubEvery)
	if s.scrubDue() != 0 || s.db.Metrics().Flush.Count > before+1 {
		t.Error("it goes on by itself")
	}
}

func (s *diskStand) scrubDue() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.scrubAt
}
