// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import "fmt"

// Target is what a case has to reach on two cores. Its bound may depend on other figures of the case.
type Target struct {
	// Case is empty when the target is every case's that has the figure.
	Case    string
	Figure  Figure
	AtLeast func(Figures) float64
	AtMost  func(Figures) float64
	// Stretch is what would be better still; 0 when there is none. Missing it is not missing the target.
	Stretch float64
}

// The manager's budget, its default flags.
const (
	writesPerSecond = 50
	writesBurst     = 250
)

func fixed(n float64) func(Figures) float64 { return func(Figures) float64 { return n } }

// besideHanging is what healthy endpoints may take beside those that hang.
func besideHanging(f Figures) float64 { return max(1.5*f[OtherEndToEndP99], f[OtherEndToEndP99]+1) }

// Targets are all of them.
func Targets() []Target {
	return []Target{
		{Case: "post-1k", Figure: CeilingRatio, AtLeast: fixed(0.4), Stretch: 0.5},
		{Case: "post-1k", Figure: DeliveriesByConnection, AtLeast: fixed(1000)},
		{Case: "ndjson-100", Figure: CeilingRatio, AtLeast: fixed(0.65), Stretch: 0.75},
		{Case: "fanout-10", Figure: CeilingRatio, AtLeast: fixed(0.65), Stretch: 0.75},
		{Case: "paced-200", Figure: EndToEndP99, AtMost: fixed(5)},
		{Case: "paced-1000", Figure: IngestP99, AtMost: fixed(3)},
		{Case: "hang-10pct", Figure: EndToEndP99, AtMost: besideHanging},
		{Case: "hang-10pct-max", Figure: ThroughputRatio, AtLeast: fixed(0.9)},
		{Case: "endpoints-5000", Figure: CostRatio, AtMost: fixed(1.15)},
		{Case: "backlog-1m", Figure: WaitingMiB, AtMost: fixed(200)},
		{Case: "restart-1m", Figure: PeakMiB, AtMost: fixed(200)},
		{Case: "restart-1m", Figure: ReadySeconds, AtMost: fixed(1)},
		{Case: "idle-60s", Figure: PeakMiB, AtMost: fixed(40)},
		{Case: "idle-60s", Figure: IdleCPUPercent, AtMost: fixed(0.1)},
		{Figure: APIWrites, AtMost: func(f Figures) float64 { return f[APIWritesAllowed] }},
		{Figure: Lost, AtMost: fixed(0)},
		{Figure: Wrong, AtMost: fixed(0)},
	}
}

// Verdict is what a target came to.
type Verdict struct {
	Case   string
	Figure Figure
	Value  float64
	Bound  float64
	Least  bool // the bound is a lower one
	Met    bool
	// Stretch says whether that is met too; nil when there is none.
	Stretch *bool
}

func (v Verdict) String() string {
	relation := "at most"
	if v.Least {
		relation = "at least"
	}
	return fmt.Sprintf("%s: %s is %.4g, wanted %s %.4g", v.Case, v.Figure, v.Value, relation, v.Bound)
}

// judge compares the figures of a case with its targets. A figure that is missing misses its target, but for those of
// every case.
func judge(name string, f Figures, targets []Target) (all []Verdict) {
	for _, t := range targets {
		value, measured := f[t.Figure]
		if t.Case != name && (t.Case != "" || !measured) {
			continue
		}
		v := Verdict{Case: name, Figure: t.Figure, Value: value, Least: t.AtLeast != nil}
		if v.Least {
			v.Bound = t.AtLeast(f)
			v.Met = measured && value >= v.Bound
		} else {
			v.Bound = t.AtMost(f)
			v.Met = measured && value <= v.Bound
		}
		if t.Stretch > 0 {
			reached := value >= t.Stretch
			v.Stretch = &reached
		}
		all = append(all, v)
	}
	return all
}
