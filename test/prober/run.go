// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package prober

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"golang.org/x/sync/errgroup"
)

// Plan is the size of a run.
type Plan struct {
	Seed uint64
	// Events is how many are to be accepted, at PerSecond.
	Events    int
	PerSecond float64
	Quotas    []Quota
}

// span is how long the load takes when nothing is refused.
func (p Plan) span() time.Duration {
	return scale(time.Second, float64(p.Events)/p.PerSecond)
}

// Schedule is the plan's, for its seed.
func (p Plan) Schedule() []Fault { return Draw(p.Seed, p.Quotas, targets(), p.span()) }

// Short is the plan of a run of a few minutes.
func Short(seed uint64) Plan {
	return Plan{Seed: seed, Events: 5300, PerSecond: 84, Quotas: quotas(map[Role]int{Dispatcher: 4, Manager: 1, APIServer: 1, Etcd: 1, Receiver: 3}, 1)}
}

// Long is the plan of at least 100,000 events and 100 kills.
func Long(seed uint64) Plan {
	return Plan{Seed: seed, Events: 102_000, PerSecond: 120, Quotas: quotas(map[Role]int{Dispatcher: 40, Manager: 12, APIServer: 8, Etcd: 8, Receiver: 36}, 5)}
}

// quotas are those of a run: kills by role, and so many times all the others.
func quotas(kills map[Role]int, times int) []Quota {
	const s = time.Second
	var all []Quota
	for _, role := range []Role{Dispatcher, Manager, APIServer, Etcd, Receiver} { // an order that is the same each time
		all = append(all,
			Quota{Kind: Kill, Role: role, Count: kills[role], Shortest: 0, Longest: 2 * s},
			Quota{Kind: Stop, Role: role, Count: times, Shortest: s, Longest: 5 * s})
	}
	return append(all,
		Quota{Kind: Reboot, Role: Dispatcher, Count: times, Shortest: 0, Longest: s},
		Quota{Kind: DiskFull, Role: Dispatcher, Count: 2 * times, Shortest: 2 * s, Longest: 6 * s},
		Quota{Kind: NetworkCut, Role: Receiver, Count: 2 * times, Shortest: s, Longest: 6 * s},
		Quota{Kind: NetworkSlow, Role: Receiver, Count: times, Shortest: 2 * s, Longest: 6 * s},
		Quota{Kind: NetworkReset, Role: Receiver, Count: times, Shortest: s, Longest: 5 * s},
		Quota{Kind: NetworkHalfOpen, Role: Receiver, Count: 2 * times, Shortest: 2 * s, Longest: 6 * s},
		Quota{Kind: DNSSilent, Role: DNS, Count: times, Shortest: 2 * s, Longest: 6 * s},
		Quota{Kind: DNSFailing, Role: DNS, Count: times, Shortest: 2 * s, Longest: 5 * s},
		Quota{Kind: CertificateRotated, Role: Receiver, Count: 2 * times},
		Quota{Kind: CertificateExpired, Role: Receiver, Count: times, Shortest: 2 * s, Longest: 5 * s},
		Quota{Kind: AuthorityRotated, Role: Manager, Count: 1, Early: true},
		Quota{Kind: KeyRotated, Role: Endpoint, Count: 4 * times},
		Quota{Kind: Suspended, Role: Endpoint, Count: 2 * times, Shortest: 2 * s, Longest: 8 * s},
		Quota{Kind: Changed, Role: Endpoint, Count: 3 * times},
		Quota{Kind: Recreated, Role: Moving, Count: 2 * times, Shortest: s, Longest: 15 * s},
		Quota{Kind: Gone, Role: Leaving, Count: 2 * times, Shortest: 2 * s, Longest: 6 * s},
		Quota{Kind: Deleted, Role: Doomed, Count: len(namespaces), Early: true},
	)
}

// Report is the account with what was done meanwhile.
type Report struct {
	Seed uint64 `json:"seed"`
	Account
	Kills             map[Role]int `json:"kills"`
	Stops             int          `json:"stops"`
	OtherFaults       map[Kind]int `json:"otherFaults"`
	EndedByThemselves map[Role]int `json:"endedByThemselves"`
	DurationSeconds   int          `json:"durationSeconds"`
}

// JSON is the report in one line.
func (r Report) JSON() string {
	b, err := json.Marshal(r)
	if err != nil {
		panic(err) // a programming error: it has numbers only
	}
	return string(b)
}

// drained bounds how long everything may take to end once all is mended.
const drained = 5 * time.Minute

// Run carries a plan out in a folder and makes the account. The problems are what the account has against it.
func Run(ctx context.Context, p Plan, root, dir string, out io.Writer) (report Report, problems []string, err error) {
	begun := time.Now()
	report.Seed = p.Seed
	s, err := newStand(ctx, root, dir, out)
	if err != nil {
		return report, nil, err
	}
	defer s.stop()
	faults := s.possible(p.Schedule())
	s.announce(p, faults)
	s.measure(ctx, "at the beginning")
	producers, err := s.load(ctx, p, faults)
	if err != nil {
		return report, nil, err
	}
	s.say("the load is over after %s; everything is mended and ends", time.Since(begun).Round(time.Second))
	if err := s.calm(ctx, producers); err != nil {
		return report, nil, err
	}
	s.measure(ctx, "at the end")
	for _, d := range s.disp {
		d.Stop()
	}
	report.Account, problems, err = s.settle(ctx, producers)
	report.Kills, report.Stops, report.OtherFaults, report.EndedByThemselves = s.tally.copy()
	report.DurationSeconds = int(time.Since(begun).Seconds())
	if err != nil || len(problems) > 0 {
		err = errors.Join(err, s.preserve())
	}
	return report, problems, err
}

func (s *stand) say(format string, args ...any) { fmt.Fprintf(s.out, format+"\n", args...) }

func (s *stand) announce(p Plan, faults []Fault) {
	s.say("seed %d: %d events at %g a second, %d faults; SEED=%d repeats the schedule", p.Seed, p.Events, p.PerSecond, len(faults), p.Seed)
	for _, f := range faults {
		s.say("%s", f)
	}
}

// load posts and breaks things until both are done.
func (s *stand) load(ctx context.Context, p Plan, faults []Fault) (*Producers, error) {
	urls := make([]string, len(s.disp))
	for i, d := range s.disp {
		urls[i] = d.EventsURL()
	}
	producers := NewProducers(p.Seed, urls)
	all, within := errgroup.WithContext(ctx)
	keeping, stop := context.WithCancel(within)
	defer stop()
	broken := make(chan struct{})
	all.Go(func() error { return s.keep(keeping) })
	all.Go(func() error { s.project(keeping); return nil })
	all.Go(func() error { defer close(broken); return s.carryOut(within, faults) })
	all.Go(func() error {
		producers.Produce(within, p.PerSecond, func(accepted int) bool {
			select {
			case <-broken:
				return accepted >= p.Events
			default:
				return false
			}
		})
		stop()
		return nil
	})
	return producers, all.Wait()
}
