// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Kind is what a run does with its events.
type Kind int

// The kinds of runs.
const (
	Flow    Kind = iota // events are posted and delivered
	Backlog             // events wait at suspended endpoints, which are then released
	Restart             // so they do, and the dispatcher is killed and started again
	Idle                // nothing happens for a while
)

// Load says what one run consists of. Its endpoints form groups: an event goes to all endpoints of one group, and events
// take turns over the groups.
type Load struct {
	Kind   Kind
	Events int
	// Batch is how many events a request carries; 1 is one event as application/json, more are application/x-ndjson.
	Batch int
	// Rate is events a second, posted at their times whatever becomes of the answers; 0 is as fast as they are taken.
	Rate float64
	// Groups times Fanout is the number of endpoints.
	Groups, Fanout int
	BodyBytes      int
	// Healthy is how many groups are measured; the others hang when Hanging says so, and are left aside otherwise. 0
	// measures all.
	Healthy int
	Hanging bool
	HTTP2   bool
	// Pause is how long an idle run takes.
	Pause time.Duration
}

// Endpoints is how many there are.
func (l Load) Endpoints() int { return l.Groups * l.Fanout }

// measured is how many groups are.
func (l Load) measured() int {
	if l.Healthy > 0 {
		return l.Healthy
	}
	return l.Groups
}

// Expected is how many deliveries have to arrive.
func (l Load) Expected() int {
	whole, rest := l.Events/l.Groups, l.Events%l.Groups
	return (whole*l.measured() + min(rest, l.measured())) * l.Fanout
}

// Case is one line of the table.
type Case struct {
	Name string
	Load
	// Ceiling has each run preceded by one of the bare loop.
	Ceiling bool
	// Against is a load that each run is compared with, run before it; nil for none.
	Against *Load
}

const (
	kiB     = 1 << 10
	million = 1_000_000
)

// flow is one POST per event of 1 KiB, spread over ten endpoints, as fast as they are taken.
func flow(events int) Load {
	return Load{Events: events, Batch: 1, Groups: 10, Fanout: 1, BodyBytes: kiB}
}

func (l Load) with(change func(*Load)) Load {
	change(&l)
	return l
}

func paced(perSecond, seconds int) Load {
	return flow(perSecond * seconds).with(func(l *Load) { l.Rate = float64(perSecond) })
}

func fanout(events, endpoints int) Load {
	return flow(events).with(func(l *Load) { l.Groups, l.Fanout = 1, endpoints })
}

// tenth has every tenth of 20 endpoints hang, or only leaves those aside.
func tenth(l Load, hang bool) Load {
	l.Groups, l.Healthy, l.Hanging = 20, 18, hang
	return l
}

// Cases are all of them, in the order in which they run: what leaves the manager much to tidy up comes last.
func Cases() []Case {
	backlog := flow(million).with(func(l *Load) { l.Kind, l.Batch = Backlog, 100 })
	return []Case{
		{Name: "post-1k", Load: flow(200_000), Ceiling: true},
		{Name: "post-1k-h2", Load: flow(100_000).with(func(l *Load) { l.HTTP2 = true }), Ceiling: true},
		{Name: "ndjson-100", Load: flow(300_000).with(func(l *Load) { l.Batch = 100 }), Ceiling: true},
		{Name: "fanout-1", Load: fanout(100_000, 1), Ceiling: true},
		{Name: "fanout-10", Load: fanout(30_000, 10), Ceiling: true},
		{Name: "fanout-100", Load: fanout(3_000, 100), Ceiling: true},
		{Name: "body-32k", Load: flow(20_000).with(func(l *Load) { l.BodyBytes = 32 * kiB }), Ceiling: true},
		{Name: "paced-50", Load: paced(50, 30)},
		{Name: "paced-200", Load: paced(200, 30)},
		{Name: "paced-1000", Load: paced(1000, 30)},
		{Name: "hang-10pct", Load: tenth(paced(200, 30), true), Against: new(tenth(paced(200, 30), false))},
		{Name: "hang-10pct-max", Load: tenth(flow(100_000), true), Against: new(tenth(flow(100_000), false))},
		{Name: "backlog-1m", Load: backlog, Ceiling: true},
		{Name: "restart-1m", Load: backlog.with(func(l *Load) { l.Kind = Restart })},
		{Name: "idle-60s", Load: flow(0).with(func(l *Load) { l.Kind, l.Pause = Idle, time.Minute })},
		{Name: "endpoints-5000", Load: flow(100_000).with(func(l *Load) { l.Groups = 5000 }), Against: new(flow(100_000))},
	}
}

// Quick is the load of a run that only shows that the case works: its figures are not to be compared with anything.
func Quick(l Load) Load {
	l.Pause /= 10
	l.Groups = min(l.Groups, 200)
	switch {
	case l.Kind == Backlog || l.Kind == Restart:
		l.Events /= 100
	case l.Rate > 0:
		l.Events = int(2 * l.Rate)
	default:
		l.Events /= 20
	}
	return l
}

// ceilingRequests is how many requests the bare loop makes before a run of that load.
func ceilingRequests(l Load, quick bool) int {
	n := 100_000
	if l.BodyBytes > kiB {
		n = 20_000
	}
	if quick {
		n /= 10
	}
	return n
}

// Choose returns the named cases in the table's order; no names are all.
func Choose(all []Case, names string) ([]Case, error) {
	if names == "" {
		return all, nil
	}
	wanted := strings.Split(names, ",")
	for _, name := range wanted {
		if !slices.ContainsFunc(all, func(c Case) bool { return c.Name == name }) {
			return nil, fmt.Errorf("no case %q: there are %s", name, strings.Join(caseNames(all), ", "))
		}
	}
	return slices.DeleteFunc(slices.Clone(all), func(c Case) bool { return !slices.Contains(wanted, c.Name) }), nil
}

func caseNames(all []Case) []string {
	names := make([]string, 0, len(all))
	for _, c := range all {
		names = append(names, c.Name)
	}
	return names
}
