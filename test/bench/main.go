// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Bench measures what the dispatcher costs and how fast it is: a generator, a receiver and the dispatcher as processes,
// with a real manager and API server, on one machine. The same machine runs a bare loop that signs and posts the same
// bodies to the same receiver, before each run, so that what is compared was measured within the same minute.
//
// docs/design/performance.md says what is measured and how. BENCH_CASES=a,b chooses cases, BENCH_QUICK=1 only shows that
// all work, BENCH_STRICT=1 ends with an error that names each target that was missed. The parts, from pure to real:
//
//	cases, targets, figures, histogram, body, arrivals   what is done, wanted and counted
//	generator, ceiling, receiver                         processes of this program, each in its role
//	stand, warm, meter, flow, backlog, idle, run         the order of it all
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"syscall"
)

func main() { os.Exit(exit()) }

func exit() int {
	var err error
	if len(os.Args) == 3 {
		err = play(os.Args[1], os.Args[2])
	} else {
		ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
		defer stop()
		err = bench(ctx)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		return 1
	}
	return 0
}

var errMissed = errors.New("not all targets are met")

func bench(ctx context.Context) error {
	o, err := settingsOf(os.Getenv)
	if err != nil {
		return err
	}
	root, err := os.Getwd()
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "webhook-operator-bench-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }() // what is left lies in the system's temporary folder
	if err := describe(dir); err != nil {
		return err
	}
	if o.Quick {
		fmt.Println("!!! BENCH_QUICK: the runs are too short for figures that mean anything, those of missed targets included")
	}
	s, err := newStand(ctx, root, dir, os.Stdout)
	if err != nil {
		return err
	}
	defer s.stop()
	return s.measureAll(ctx, o)
}

// describe says what the figures were measured on. A machine that does something else is no place to measure.
func describe(dir string) error {
	load, loadErr := loadAverage()
	sync, syncErr := diskSync(dir)
	if err := errors.Join(loadErr, syncErr); err != nil {
		return err
	}
	fmt.Printf("%d processors, %s; a write of 4 KiB and its fsync take %.2f ms; load average %.2f before the start\n",
		runtime.NumCPU(), runtime.Version(), millis(sync), load)
	if load > busy {
		fmt.Println("!!! something else is running: the figures are not worth much")
	}
	return nil
}

// busy is a load average that is not that of an idle machine.
const busy = 0.5

func (s *stand) measureAll(ctx context.Context, o Settings) error {
	var lines []Line
	var verdicts []Verdict
	for _, c := range o.Cases {
		f, err := s.measure(ctx, c, o)
		if err != nil {
			return fmt.Errorf("%s: %w", c.Name, err)
		}
		line := lineOf(c, o, f)
		lines = append(lines, line)
		verdicts = append(verdicts, judge(c.Name, f, Targets())...)
		s.say("%s", line.JSON())
		if c.Rate > 0 && f[LateP99] > lateness {
			s.say("!!! %s: the generator was %.1f ms late at the 99th percentile, and its latencies tell of that", c.Name, f[LateP99])
		}
	}
	if err := table(s.out, lines); err != nil {
		return err
	}
	return s.verdict(verdicts, o.Strict)
}

// lateness is what the generator may be late, in milliseconds.
const lateness = 1

// verdict says which targets were missed. What was lost is an error without BENCH_STRICT too.
func (s *stand) verdict(all []Verdict, strict bool) error {
	failed := false
	for _, v := range all {
		switch {
		case !v.Met:
			s.say("missed: %s", v)
			failed = failed || strict || worst[v.Figure]
		case v.Stretch != nil && !*v.Stretch:
			s.say("met, but not the stretch: %s", v)
		}
	}
	if failed {
		return errMissed
	}
	return nil
}
