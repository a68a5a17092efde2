// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"slices"
	"testing"
)

func TestCasesCanRun(t *testing.T) {
	var seen []string
	for _, c := range Cases() {
		if slices.Contains(seen, c.Name) {
			t.Errorf("%s stands twice", c.Name)
		}
		seen = append(seen, c.Name)
		loads := []Load{c.Load, Quick(c.Load)}
		if c.Against != nil {
			loads = append(loads, *c.Against, Quick(*c.Against))
		}
		for _, l := range loads {
			if l.Groups < 1 || l.Groups > 10_000 || l.Fanout < 1 || l.Batch < 1 || l.Events%l.Batch != 0 || l.Healthy > l.Groups {
				t.Errorf("%s: %+v", c.Name, l)
			}
			if idle := l.Kind == Idle; idle != (l.Events == 0) || idle != (l.Pause > 0) {
				t.Errorf("%s: %d events, pause %s", c.Name, l.Events, l.Pause)
			}
			newBody(max(l.BodyBytes, kiB)) // panics when it is too small
		}
	}
}

func TestExpectedDeliveries(t *testing.T) {
	for name, tc := range map[string]struct {
		load Load
		want int
	}{
		"one each":                       {flow(25), 25},
		"ten each":                       {fanout(3, 10), 30},
		"without those that hang":        {tenth(flow(40), true), 36},
		"where the last turn is not all": {tenth(flow(39), true), 36},
		"and where it is short":          {tenth(flow(21), true), 19},
	} {
		if got := tc.load.Expected(); got != tc.want {
			t.Errorf("%s: %d, want %d", name, got, tc.want)
		}
	}
}

func TestChoose(t *testing.T) {
	all := Cases()
	for name, tc := range map[string]struct {
		names string
		want  []string
	}{
		"none are all":          {"", caseNames(all)},
		"in the table's order":  {"paced-50,post-1k", []string{"post-1k", "paced-50"}},
		"one that is no prefix": {"fanout-10", []string{"fanout-10"}},
	} {
		got, err := Choose(all, tc.names)
		if err != nil || !slices.Equal(caseNames(got), tc.want) {
			t.Errorf("%s: %v, %v, want %v", name, caseNames(got), err, tc.want)
		}
	}
	if _, err := Choose(all, "post-1k,post"); err == nil {
		t.Error("a case that does not exist was chosen")
	}
}

func TestSettings(t *testing.T) {
	for name, tc := range map[string]struct {
		environment map[string]string
		wantPairs   int
		wantEvents  int // of the first case
		wantStrict  bool
		wantError   bool
	}{
		"nothing set":     {nil, 5, 200_000, false, false},
		"quick":           {map[string]string{"BENCH_QUICK": "1"}, 1, 10_000, false, false},
		"pairs":           {map[string]string{"BENCH_PAIRS": "3", "BENCH_STRICT": "1"}, 3, 200_000, true, false},
		"pairs of quick":  {map[string]string{"BENCH_PAIRS": "2", "BENCH_QUICK": "1"}, 2, 10_000, false, false},
		"no such case":    {map[string]string{"BENCH_CASES": "x"}, 0, 0, false, true},
		"no pairs at all": {map[string]string{"BENCH_PAIRS": "0"}, 0, 0, false, true},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := settingsOf(func(variable string) string { return tc.environment[variable] })
			if (err != nil) != tc.wantError {
				t.Fatalf("error %v", err)
			}
			if err == nil && (s.Pairs != tc.wantPairs || s.Cases[0].Events != tc.wantEvents || s.Strict != tc.wantStrict) {
				t.Errorf("%d pairs of %d events, strict %t", s.Pairs, s.Cases[0].Events, s.Strict)
			}
		})
	}
}

func TestDueTimesAreThoseOfTheRate(t *testing.T) {
	g := &generating{GeneratorOptions: GeneratorOptions{Load: paced(200, 30)}}
	for number, want := range map[int64]int64{0: 0, 1: 5_000_000, 200: 1_000_000_000} {
		if got := g.due(number).Sub(g.start).Nanoseconds(); got != want {
			t.Errorf("event %d is due after %d ns, want %d", number, got, want)
		}
	}
}
