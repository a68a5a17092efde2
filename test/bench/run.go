// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
)

// Settings are what the environment says about a bench.
type Settings struct {
	Cases  []Case
	Pairs  int
	Quick  bool
	Strict bool
}

// pairs is how often each case is run, with what it is compared with before it.
const pairs = 5

// Settings of the variables, which getenv reads.
func settingsOf(getenv func(string) string) (Settings, error) {
	s := Settings{Pairs: pairs, Quick: getenv("BENCH_QUICK") == "1", Strict: getenv("BENCH_STRICT") == "1"}
	if s.Quick {
		s.Pairs = 1
	}
	var err error
	if text := getenv("BENCH_PAIRS"); text != "" {
		if s.Pairs, err = strconv.Atoi(text); err != nil || s.Pairs < 1 {
			return s, errors.New("BENCH_PAIRS: must be a number from 1")
		}
	}
	s.Cases, err = Choose(Cases(), getenv("BENCH_CASES"))
	if !s.Quick {
		return s, err
	}
	quick := make([]Case, len(s.Cases))
	for i, c := range s.Cases {
		c.Load = Quick(c.Load)
		if c.Against != nil {
			c.Against = new(Quick(*c.Against))
		}
		quick[i] = c
	}
	s.Cases = quick
	return s, err
}

// measure runs all pairs of a case: ceiling, what it is compared with, the case; ceiling, …
func (s *stand) measure(ctx context.Context, c Case, o Settings) (Figures, error) {
	if err := s.declare(ctx, c.Name, c.Load); err != nil {
		return nil, err
	}
	if c.Against != nil {
		if err := s.declare(ctx, comparedName(c), *c.Against); err != nil {
			return nil, err
		}
	}
	runs := make([]Figures, 0, o.Pairs)
	for pair := range o.Pairs {
		f, err := s.pair(ctx, c, pair, o.Quick)
		if err != nil {
			return nil, fmt.Errorf("pair %d: %w", pair+1, err)
		}
		runs = append(runs, f)
	}
	err := s.clear(ctx, c.Name)
	if c.Against != nil {
		err = errors.Join(err, s.clear(ctx, comparedName(c)))
	}
	return combine(runs), err
}

func comparedName(c Case) string { return c.Name + "-compared" }

func (s *stand) pair(ctx context.Context, c Case, number int, quick bool) (Figures, error) {
	var ceiling, other Figures
	var err error
	if c.Ceiling {
		if ceiling, err = s.ceiling(ctx, c.Load, ceilingRequests(c.Load, quick)); err != nil {
			return nil, fmt.Errorf("ceiling: %w", err)
		}
	}
	if c.Against != nil {
		if other, err = s.once(ctx, comparedName(c), *c.Against, number); err != nil {
			return nil, fmt.Errorf("what it is compared with: %w", err)
		}
	}
	f, err := s.once(ctx, c.Name, c.Load, number)
	if err != nil {
		return nil, err
	}
	if ceiling != nil {
		f.climb(ceiling)
	}
	if other != nil {
		f.compare(other)
	}
	return f, nil
}

// once runs a load with a dispatcher of its own.
func (s *stand) once(ctx context.Context, namespace string, l Load, number int) (f Figures, err error) {
	if l.Kind == Backlog || l.Kind == Restart {
		if err := s.suspend(ctx, namespace, l, true); err != nil {
			return nil, err
		}
	}
	if err := s.recv.expect(ctx, Orders{Load: l, Key: s.key}); err != nil {
		return nil, err
	}
	d, err := s.dispatcher(ctx, namespace, fmt.Sprintf("app-%d", number))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, remove(d)) }()
	if err := s.warm(ctx, d, l); err != nil {
		return nil, fmt.Errorf("warm-up: %w", err)
	}
	switch l.Kind {
	case Backlog, Restart:
		return s.backlog(ctx, d, namespace, l)
	case Idle:
		return s.idle(ctx, d, l)
	}
	return s.flow(ctx, d, l)
}
