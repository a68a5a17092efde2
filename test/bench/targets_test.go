// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"maps"
	"slices"
	"strings"
	"testing"
)

func TestTargetsAreOfCasesThatExist(t *testing.T) {
	names := caseNames(Cases())
	for _, target := range Targets() {
		if target.Case != "" && !slices.Contains(names, target.Case) {
			t.Errorf("target of %q", target.Case)
		}
		if (target.AtLeast == nil) == (target.AtMost == nil) {
			t.Errorf("%s of %q has not one bound", target.Figure, target.Case)
		}
	}
}

func TestJudge(t *testing.T) {
	good := Figures{CeilingRatio: 0.45, DeliveriesByConnection: 5000, APIWrites: 300, APIWritesAllowed: 400, Lost: 0, Wrong: 0}
	with := func(name Figure, value float64) Figures {
		f := maps.Clone(good)
		f[name] = value
		return f
	}
	without := maps.Clone(good)
	delete(without, CeilingRatio)
	hanging := Figures{EndToEndP99: 3.9, OtherEndToEndP99: 3}
	for name, tc := range map[string]struct {
		of         string
		figures    Figures
		wantMissed []Figure
	}{
		"all met":                         {"post-1k", good, nil},
		"too slow":                        {"post-1k", with(CeilingRatio, 0.39), []Figure{CeilingRatio}},
		"not measured":                    {"post-1k", without, []Figure{CeilingRatio}},
		"lost":                            {"post-1k", with(Lost, 1), []Figure{Lost}},
		"lost, of a case without targets": {"body-32k", with(Lost, 1), []Figure{Lost}},
		"too many writes":                 {"fanout-1", with(APIWrites, 401), []Figure{APIWrites}},
		"a bound by another figure":       {"hang-10pct", hanging, nil},
		"a little more where it is small": {"hang-10pct", Figures{EndToEndP99: 1.4, OtherEndToEndP99: 0.5}, nil},
		"and too much":                    {"hang-10pct", Figures{EndToEndP99: 4.6, OtherEndToEndP99: 3}, []Figure{EndToEndP99}},
	} {
		t.Run(name, func(t *testing.T) {
			var missed []Figure
			for _, v := range judge(tc.of, tc.figures, Targets()) {
				if !v.Met {
					missed = append(missed, v.Figure)
				}
			}
			if !slices.Equal(missed, tc.wantMissed) {
				t.Errorf("missed %v, want %v", missed, tc.wantMissed)
			}
		})
	}
}

func TestStretchIsNoTarget(t *testing.T) {
	for ratio, want := range map[float64]bool{0.45: false, 0.5: true} {
		v := judge("post-1k", Figures{CeilingRatio: ratio}, Targets())[0]
		if !v.Met || v.Stretch == nil || *v.Stretch != want {
			t.Errorf("ratio %v: %+v", ratio, v)
		}
	}
}

func TestVerdictFails(t *testing.T) {
	missed := []Verdict{{Case: "post-1k", Figure: CeilingRatio, Value: 0.3, Bound: 0.4, Least: true}}
	lost := []Verdict{{Case: "post-1k", Figure: Lost, Value: 2}}
	met := []Verdict{{Case: "post-1k", Figure: CeilingRatio, Met: true}}
	for name, tc := range map[string]struct {
		verdicts []Verdict
		strict   bool
		wantFail bool
		wantText string
	}{
		"missed":           {missed, false, false, "missed: post-1k: ceilingRatio is 0.3, wanted at least 0.4"},
		"missed, strictly": {missed, true, true, "missed: post-1k: ceilingRatio is 0.3, wanted at least 0.4"},
		"lost":             {lost, false, true, "missed: post-1k: lost is 2, wanted at most 0"},
		"met, strictly":    {met, true, false, ""},
	} {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			s := &stand{out: &out}
			err := s.verdict(tc.verdicts, tc.strict)
			if (err != nil) != tc.wantFail || strings.TrimSpace(out.String()) != tc.wantText {
				t.Errorf("%v: %q, want %q", err, out.String(), tc.wantText)
			}
		})
	}
}

func TestCombineHidesNoLoss(t *testing.T) {
	got := combine([]Figures{{DeliveriesPerSecond: 1, Lost: 0}, {DeliveriesPerSecond: 5, Lost: 3}, {DeliveriesPerSecond: 9, Lost: 0, ReadySeconds: 2}})
	want := Figures{DeliveriesPerSecond: 5, Lost: 3, ReadySeconds: 2}
	if !maps.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

func TestFiguresInRelationToOthers(t *testing.T) {
	f := Figures{DeliveriesPerSecond: 90, CPUPer1000: 0.2, EndToEndP99: 3}
	f.climb(Figures{DeliveriesPerSecond: 300, CPUPer1000: 0.1})
	f.compare(Figures{DeliveriesPerSecond: 100, CPUPer1000: 0.1, EndToEndP99: 2})
	want := Figures{DeliveriesPerSecond: 90, CPUPer1000: 0.2, EndToEndP99: 3, CeilingPerSecond: 300, CeilingCPUPer1000: 0.1, CeilingRatio: 0.3,
		ThroughputRatio: 0.9, CostRatio: 2, OtherPerSecond: 100, OtherCPUPer1000: 0.1, OtherEndToEndP99: 2}
	if !maps.Equal(f, want) {
		t.Errorf("%v, want %v", f, want)
	}
	idle := Figures{}
	if idle.climb(Figures{}); len(idle) != 2 { // no ratio to nothing
		t.Errorf("%v", idle)
	}
}

func TestReport(t *testing.T) {
	c := Case{Name: "post-1k", Load: flow(1000)}
	l := lineOf(c, Settings{Pairs: 5}, Figures{DeliveriesPerSecond: 12345.6, Lost: 0})
	want := `{"case":"post-1k","pairs":5,"quick":false,"events":1000,"endpoints":10,"bodyBytes":1024,"figures":{"deliveriesPerSecond":12345.6,"lost":0}}`
	if got := l.JSON(); got != want {
		t.Errorf("line %s, want %s", got, want)
	}
	var out bytes.Buffer
	if err := table(&out, []Line{l}); err != nil {
		t.Fatal(err)
	}
	rows := strings.Split(strings.TrimSpace(out.String()), "\n")
	if len(rows) != 2 || !strings.Contains(rows[0], "deliveries/s") || !slices.Equal(strings.Fields(rows[1])[:3], []string{"post-1k", "12346", "-"}) {
		t.Errorf("table %q", out.String())
	}
}
