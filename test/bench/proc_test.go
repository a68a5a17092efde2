// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"testing"
	"time"
)

func TestProcStat(t *testing.T) {
	for name, tc := range map[string]struct {
		content string
		want    time.Duration
		wantErr bool
	}{
		"of a program":             {"7 (dispatcher) S 1 7 7 0 -1 4194560 5 0 0 0 120 35 0 0 20 0 9 0 77 1 1", 1550 * time.Millisecond, false},
		"whose name has brackets":  {"7 (a b) c) S 1 7 7 0 -1 4194560 5 0 0 0 1 2 0 0 20 0", 30 * time.Millisecond, false},
		"that breaks off":          {"7 (dispatcher) S 1 7", 0, true},
		"that is something else":   {"", 0, true},
		"with words for its times": {"7 (dispatcher) S 1 7 7 0 -1 4194560 5 0 0 0 x 35 0 0 20", 0, true},
	} {
		got, err := parseStat([]byte(tc.content))
		if (err != nil) != tc.wantErr || err == nil && got != tc.want {
			t.Errorf("%s: %s, %v; want %s", name, got, err, tc.want)
		}
	}
}

func TestProcStatus(t *testing.T) {
	got, err := parseStatus([]byte("Name:\tdispatcher\nVmHWM:\t   2048 kB\nVmRSS:\t   1024 kB\nThreads:\t9\n"))
	if want := (memory{resident: 1 << 20, peak: 2 << 20}); err != nil || got != want {
		t.Errorf("%+v, %v; want %+v", got, err, want)
	}
	for _, content := range []string{"", "VmRSS:\t 1 kB\n", "VmHWM:\t x kB\nVmRSS:\t 1 kB\n"} {
		if _, err := parseStatus([]byte(content)); err == nil {
			t.Errorf("%q has no error", content)
		}
	}
}
