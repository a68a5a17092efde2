// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"testing"
	"time"

	"github.com/garyclub/webhook-operator/internal/event"
)

// The places of a stamp are constants, so this is where a change of the form is seen.
func TestBodyIsAnEventThatSaysWhatWasStamped(t *testing.T) {
	at := time.Unix(0, 1_764_000_123_456_789_012)
	for name, tc := range map[string]struct {
		size   int
		number int64
		group  int
	}{
		"of 1 KiB":              {kiB, 42, 7},
		"of 32 KiB":             {32 * kiB, 999_999, 4999},
		"of the warm-up":        {kiB, firstWarm + 5, 0},
		"with the first number": {kiB, 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			body := newBody(tc.size)
			stamp(body, tc.number, at, tc.group)
			if len(body) != tc.size {
				t.Errorf("%d bytes, want %d", len(body), tc.size)
			}
			e, err := event.Parse("n", body, at)
			if err != nil {
				t.Fatal(err)
			}
			if e.Type != event.CallCompleted || e.AgentID != agentOf(tc.group) {
				t.Errorf("event %s of %s, want %s of %s", e.Type, e.AgentID, event.CallCompleted, agentOf(tc.group))
			}
			number, stamped, ok := readStamp(body)
			if !ok || number != tc.number || !stamped.Equal(at) {
				t.Errorf("stamp %d, %s, %t; want %d, %s", number, stamped, ok, tc.number, at)
			}
		})
	}
}

// Bodies that are alike would be small on disk.
func TestSummariesDiffer(t *testing.T) {
	a, b := newBody(kiB), newBody(kiB)
	stamp(a, 1, time.Now(), 0)
	stamp(b, 2, time.Now(), 0)
	if bytes.Equal(a[summaryAt:], b[summaryAt:]) {
		t.Errorf("both are %q", a[summaryAt:])
	}
}

func TestBodyThatIsNoneOfOursHasNoStamp(t *testing.T) {
	for name, body := range map[string][]byte{
		"short":   []byte(`{"event":"call.completed"}`),
		"another": bytes.Repeat([]byte("x"), kiB),
	} {
		if _, _, ok := readStamp(body); ok {
			t.Errorf("%s: has a stamp", name)
		}
	}
}

func TestPathsNameEndpoints(t *testing.T) {
	for _, number := range []int{0, 7, 49_999} {
		if got, ok := numberOf(pathOf(number)); !ok || got != number {
			t.Errorf("%s is read as %d, %t", pathOf(number), got, ok)
		}
	}
	for _, path := range []string{"/", "/e/", "/e/x", "/e/-1", "/f/1"} {
		if _, ok := numberOf(path); ok {
			t.Errorf("%s names an endpoint", path)
		}
	}
}

func TestPostStampsEveryLineOfABatch(t *testing.T) {
	p := newPost(flow(300).with(func(l *Load) { l.Batch = 100 }))
	at := time.Unix(0, 1_764_000_000_000_000_001)
	p.stamp(200, at)
	_, content, found := bytes.Cut(p.request, []byte("\r\n\r\n"))
	lines := bytes.Split(content, []byte("\n"))
	if !found || len(lines) != 100 {
		t.Fatalf("%d lines, want 100", len(lines))
	}
	for i, line := range lines {
		number, _, ok := readStamp(line)
		e, err := event.Parse("n", line, at)
		if !ok || err != nil || number != int64(200+i) || e.AgentID != agentOf((200+i)%10) {
			t.Errorf("line %d: number %d of %v, %t, %v", i, number, e, ok, err)
		}
	}
}
