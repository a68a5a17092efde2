// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package prober

import (
	"context"
	"errors"
	"time"

	"github.com/garyclub/webhook-operator/internal/fixture/system"
)

const (
	// startPatience bounds how long a process is started again and again, as a kubelet does when it ends at once: the
	// disk may be full, the API server away.
	startPatience = 4 * time.Minute
	keepInterval  = 250 * time.Millisecond
)

// program is what can be killed.
type program struct {
	pid   func() int // 0 when it has ended
	kill  func() error
	start func(context.Context) error
}

func (s *stand) program(t Target) program {
	switch t.Role {
	case Manager:
		return program{s.sys.ManagerPID, func() error { s.sys.KillManager(); return nil }, s.sys.StartManager}
	case APIServer:
		return program{s.sys.APIServerPID, s.sys.KillAPIServer, s.sys.StartAPIServer}
	case Etcd:
		return program{s.sys.EtcdPID, s.sys.KillEtcd, s.sys.StartEtcd}
	case Receiver:
		r := s.recv[t.Number]
		return program{r.pid, func() error { r.running().Kill(); return nil }, r.start}
	}
	d := s.disp[t.Number]
	return program{d.pid, func() error { d.Kill(); return nil }, func(ctx context.Context) error { return d.Start(ctx) }}
}

func (d *dispatcher) pid() int {
	if !d.Alive() {
		return 0
	}
	return d.PID()
}

func (r *receiver) pid() int {
	if p := r.running(); p.Alive() {
		return p.PID()
	}
	return 0
}

func (s *stand) kill(ctx context.Context, f Fault) error {
	p := s.program(f.Target)
	return s.killAnd(ctx, f, p.start)
}

func (s *stand) killAnd(ctx context.Context, f Fault, start func(context.Context) error) error {
	p := s.program(f.Target)
	if p.pid() != 0 {
		if err := p.kill(); err != nil {
			return err
		}
	}
	await(ctx, f.For)
	return s.raise(ctx, p, start)
}

// raise starts a program until it stays.
func (s *stand) raise(ctx context.Context, p program, start func(context.Context) error) error {
	return system.Eventually(ctx, startPatience, func() error {
		if p.pid() == 0 {
			return start(ctx)
		}
		return nil
	})
}

// reboot is for dispatchers: the clock that ticks since the machine's start is another one afterwards.
func (s *stand) reboot(ctx context.Context, f Fault) error {
	d := s.disp[f.Target.Number]
	launcher := clockLauncher(time.Duration(f.For.Nanoseconds()%9+1) * 24 * time.Hour)
	return s.killAnd(ctx, f, func(ctx context.Context) error {
		if err := d.StartBy(ctx, launcher...); err != nil {
			return err
		}
		if sameClock(d.PID()) {
			return errors.New("it has the same clock as before")
		}
		return nil
	})
}

func (s *stand) suspendProcess(ctx context.Context, f Fault) error {
	pid := s.program(f.Target).pid()
	if pid == 0 {
		return nil // it ended by itself just now, and is being started
	}
	if err := pause(pid); err != nil {
		return err
	}
	await(ctx, f.For)
	return resume(pid)
}

// keep starts what ended by itself, until ctx ends.
func (s *stand) keep(ctx context.Context) error {
	var all []Target
	for _, role := range []Role{Etcd, APIServer, Manager, Dispatcher, Receiver} {
		for i := range targets()[role] {
			all = append(all, Target{role, i})
		}
	}
	for await(ctx, keepInterval) {
		for _, t := range all {
			if err := s.keepOne(ctx, t); err != nil && ctx.Err() == nil {
				return err
			}
		}
	}
	return nil
}

func (s *stand) keepOne(ctx context.Context, t Target) error {
	p, l := s.program(t), s.lockOf("process", t)
	if !l.TryLock() {
		return nil // a fault has it
	}
	defer l.Unlock()
	if p.pid() != 0 {
		return nil
	}
	s.tally.endedByItself(t.Role)
	return s.raise(ctx, p, p.start)
}

// targets are how many there are of each role.
func targets() map[Role]int {
	return map[Role]int{
		Dispatcher: len(dispatchers), Manager: 1, APIServer: 1, Etcd: 1, Receiver: len(receiverHTTP1), DNS: 1,
		Endpoint: len(steadfast()), Moving: len(places(Recreated)), Doomed: len(places(Deleted)), Leaving: len(places(Gone)),
	}
}
