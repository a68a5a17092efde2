// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package prober

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestASeedRepeatsItsSchedule(t *testing.T) {
	if diff := cmp.Diff(Short(7).Schedule(), Short(7).Schedule()); diff != "" {
		t.Errorf("the same seed gave two schedules:\n%s", diff)
	}
	if cmp.Equal(Short(7).Schedule(), Short(8).Schedule()) {
		t.Error("two seeds gave one schedule")
	}
}

func TestSchedulesHaveWhatTheyPromise(t *testing.T) {
	for name, tc := range map[string]struct {
		plan              Plan
		wantKills, events int
	}{
		"short": {plan: Short(1), wantKills: 8, events: 5_000},
		"long":  {plan: Long(1), wantKills: 100, events: 100_000},
	} {
		faults := tc.plan.Schedule()
		kills := CountOf(faults, Kill)
		total := 0
		for _, role := range []Role{Dispatcher, Manager, APIServer, Etcd, Receiver} {
			if kills[role] == 0 {
				t.Errorf("%s: no kill hits %s", name, role)
			}
			total += kills[role]
		}
		if total < tc.wantKills || tc.plan.Events < tc.events {
			t.Errorf("%s: %d kills and %d events, want %d and %d at least", name, total, tc.plan.Events, tc.wantKills, tc.events)
		}
		for _, q := range tc.plan.Quotas {
			if got := CountOf(faults, q.Kind)[q.Role]; got != q.Count {
				t.Errorf("%s: %d times %s of %s, want %d", name, got, q.Kind, q.Role, q.Count)
			}
		}
	}
}

func TestDraw(t *testing.T) {
	const span = 100 * time.Second
	quotas := []Quota{
		{Kind: Kill, Role: Receiver, Count: 6, Shortest: time.Second, Longest: 2 * time.Second},
		{Kind: Deleted, Role: Doomed, Count: 2, Early: true},
		{Kind: DiskFull, Role: Dispatcher, Count: 3}, // of which there is none
	}
	for seed := range uint64(50) {
		faults := Draw(seed, quotas, map[Role]int{Receiver: 3, Doomed: 2}, span)
		if len(faults) != 8 {
			t.Fatalf("seed %d: %d faults, want 8", seed, len(faults))
		}
		hits := map[Target]int{}
		for i, f := range faults {
			hits[f.Target]++
			if i > 0 && f.At < faults[i-1].At {
				t.Errorf("seed %d: %s comes after %s", seed, f, faults[i-1])
			}
			if f.At < 5*time.Second || f.At > 85*time.Second || f.Kind == Deleted && f.At > 30*time.Second {
				t.Errorf("seed %d: %s is out of its time", seed, f)
			}
			if f.Kind == Kill && (f.For < time.Second || f.For > 2*time.Second) {
				t.Errorf("seed %d: %s is not within its bounds", seed, f)
			}
		}
		for target, n := range hits {
			if want := map[Role]int{Receiver: 2, Doomed: 1}[target.Role]; n != want {
				t.Errorf("seed %d: %s is hit %d times, want %d", seed, target, n, want)
			}
		}
	}
}
