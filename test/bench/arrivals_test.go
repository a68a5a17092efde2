// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"testing"
	"time"
)

// deliver notes the delivery of an event at an endpoint.
func deliver(a *Arrivals, number int64, endpoint int) (hang bool) {
	body := newBody(a.load.BodyBytes)
	sent := time.Unix(1_764_000_000, 0)
	stamp(body, number, sent, 0)
	return a.Note(endpoint, body, sent.Add(3*time.Millisecond))
}

func TestAccountOfWhatArrived(t *testing.T) {
	four := flow(4).with(func(l *Load) { l.Groups = 2 })
	fan := fanout(2, 3)
	hanging := flow(4).with(func(l *Load) { l.Groups, l.Healthy, l.Hanging = 2, 1, true })
	aside := hanging.with(func(l *Load) { l.Hanging = false })
	type arrival struct {
		number   int64
		endpoint int
	}
	for name, tc := range map[string]struct {
		load     Load
		arrivals []arrival
		want     Arrived
		hung     int
	}{
		"everything once":              {four, []arrival{{0, 0}, {1, 1}, {2, 0}, {3, 1}}, Arrived{Unique: 4}, 0},
		"one twice":                    {four, []arrival{{0, 0}, {1, 1}, {0, 0}}, Arrived{Unique: 2, Duplicates: 1}, 0},
		"one at another's endpoint":    {four, []arrival{{0, 1}}, Arrived{Wrong: 1}, 0},
		"one that was never posted":    {four, []arrival{{4, 0}}, Arrived{Wrong: 1}, 0},
		"one at no endpoint":           {four, []arrival{{0, 2}}, Arrived{Wrong: 1}, 0},
		"an event at all its three":    {fan, []arrival{{0, 0}, {0, 1}, {0, 2}}, Arrived{Unique: 3}, 0},
		"at one of its three twice":    {fan, []arrival{{1, 2}, {1, 2}}, Arrived{Unique: 1, Duplicates: 1}, 0},
		"the warm-up is apart":         {four, []arrival{{firstWarm, 0}, {firstWarm, 0}, {0, 0}}, Arrived{Unique: 1, Warm: 2}, 0},
		"those that hang are apart":    {hanging, []arrival{{0, 0}, {1, 1}, {1, 1}, {firstWarm, 1}}, Arrived{Unique: 1, Aside: 2, Warm: 1}, 3},
		"those in their place as well": {aside, []arrival{{0, 0}, {1, 1}}, Arrived{Unique: 1, Aside: 1}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			a := newArrivals(tc.load)
			hung := 0
			for _, one := range tc.arrivals {
				if deliver(a, one.number, one.endpoint) {
					hung++
				}
			}
			got := a.Arrived()
			latency := got.Latency
			got.First, got.Last, got.Latency = time.Time{}, time.Time{}, Percentiles{}
			if got != tc.want || hung != tc.hung {
				t.Errorf("%+v, %d hang; want %+v, %d", got, hung, tc.want, tc.hung)
			}
			if latency.Count != uint64(tc.want.Unique) || latency.Count > 0 && latency.P50 != 3*time.Millisecond {
				t.Errorf("latencies %+v, want %d of 3 ms", latency, tc.want.Unique)
			}
		})
	}
}

func TestBodyOfAnotherSizeIsWrong(t *testing.T) {
	a := newArrivals(flow(1))
	body := newBody(2 * kiB)
	stamp(body, 0, time.Now(), 0)
	if a.Note(0, body, time.Now()); a.Arrived().Wrong != 1 {
		t.Errorf("%+v, want one that is wrong", a.Arrived())
	}
}
