// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package prober

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/garyclub/webhook-operator/internal/delivery"
	"github.com/garyclub/webhook-operator/internal/fixture/system"
	"github.com/garyclub/webhook-operator/internal/queue/pebble"
)

// calm has all receivers well, ends what is held, and waits until no dispatcher has anything left to do or to report. Then
// some last events show that all is as it should be.
func (s *stand) calm(ctx context.Context, producers *Producers) error {
	for _, p := range places() {
		b := Behaviour{Status: p.behaviour.Status} // what is broken for good stays so
		if err := s.recv[p.receiver].behave(p.path(), b); err != nil {
			return err
		}
	}
	for _, p := range places(Gone) {
		if err := s.welcome(ctx, p, "the end"); err != nil {
			return err
		}
	}
	keeping, stop := context.WithCancel(ctx)
	kept := make(chan error, 1)
	go func() { kept <- s.keep(keeping) }() // a manager that lost its lease in the last second is started yet
	err := system.Eventually(ctx, drained, func() error { return s.idle(ctx) })
	producers.Last(ctx)
	err = errors.Join(err, system.Eventually(ctx, drained, func() error { return s.idle(ctx) }))
	stop()
	return errors.Join(err, <-kept)
}

func (s *stand) idle(ctx context.Context) error {
	for i, d := range s.disp {
		m, err := metrics(ctx, d.MetricsURL())
		if err != nil {
			return err
		}
		for _, name := range []string{"waiting_deliveries", "in_flight_deliveries", "unmatched_events", "outbox_records"} {
			if n := m["webhook_dispatcher_queue_"+name]; n != 0 {
				return fmt.Errorf("dispatcher %d has %g %s", i, n, name)
			}
		}
	}
	return nil
}

// metrics are the gauges and counters without labels.
func metrics(ctx context.Context, url string) (map[string]float64, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return nil, err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(response.Body)
	if err != nil {
		return nil, err
	}
	values := map[string]float64{}
	for name, f := range families {
		for _, m := range f.GetMetric() {
			if len(m.GetLabel()) == 0 {
				values[name] = m.GetGauge().GetValue() + m.GetCounter().GetValue() // it is one of the two
			}
		}
	}
	return values, nil
}

// measure says what the dispatchers take of the machine.
func (s *stand) measure(ctx context.Context, when string) {
	for i, d := range s.disp {
		m, err := metrics(ctx, d.MetricsURL())
		if err != nil {
			s.say("dispatcher %d %s: %v", i, when, err)
			continue
		}
		s.say("dispatcher %d %s: resident memory %s, %g goroutines", i, when, residentMemory(d.PID()), m["go_goroutines"])
	}
}

func residentMemory(pid int) string {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return "unknown"
	}
	for line := range strings.Lines(string(status)) {
		if size, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			return strings.TrimSpace(size)
		}
	}
	return "unknown"
}

// settle opens the queues of the dispatchers, which have ended, and makes the account, again until the statuses agree
// with it or had the time to.
func (s *stand) settle(ctx context.Context, producers *Producers) (account Account, problems []string, err error) {
	b := Books{Required: requiredOf, Possible: possibleOf}
	var skipped int
	b.Postings, skipped = producers.Postings()
	s.say("%d events were not posted: too many requests were under way", skipped)
	for _, r := range s.recv {
		arrivals, err := r.arrivals()
		if err != nil {
			return account, nil, err
		}
		b.Arrivals = append(b.Arrivals, arrivals...)
	}
	for _, d := range s.disp {
		if err := b.open(d.QueueDir()); err != nil { //nolint:contextcheck // the queue is open for no longer than this call
			return account, nil, err
		}
	}
	err = system.Eventually(ctx, settled, func() error {
		if b.Counts, err = s.counts(ctx); err != nil {
			return err
		}
		account, problems = Settle(b)
		if len(problems) > 0 {
			return errors.New("the account has problems")
		}
		return nil
	})
	if len(problems) > 0 {
		err = nil // the caller judges them
	}
	return account, problems, err
}

// preserve copies the queues out of their disks, which end with this process.
func (s *stand) preserve() error {
	var failed error
	for i, d := range s.disp {
		to := filepath.Join(s.dir, "queues", strconv.Itoa(i))
		failed = errors.Join(failed, os.CopyFS(to, os.DirFS(d.QueueDir())))
	}
	return failed
}

// counts are those of the stable endpoints' statuses.
func (s *stand) counts(ctx context.Context) (map[string]Count, error) {
	counts := map[string]Count{}
	for _, p := range places() {
		if !p.stable() {
			continue
		}
		o, err := s.get(ctx, p)
		if err != nil {
			return nil, err
		}
		var c Count
		if d := o.Status.Deliveries; d != nil {
			c = Count{Succeeded: d.Succeeded, Failed: d.Failed, Pending: d.Pending, Lost: d.Lost}
		}
		counts[p.path()] = c
	}
	return counts, nil
}

// database is where a dispatcher keeps its queue within its folder.
const database = "pebble"

// open reads what a queue holds. One that is not there must not be taken for an empty one.
func (b *Books) open(dir string) (err error) {
	dir = filepath.Join(dir, database)
	if _, err := os.Stat(dir); err != nil {
		return err
	}
	q, err := pebble.Open(pebble.Options{Dir: dir, ReserveBytes: -1, MaxBytes: queueBytes})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, q.Close()) }()
	stats, dead := q.Stats(), len(b.Dead)
	b.Unmatched += stats.Unmatched
	into := func(letters *[]Letter) func(delivery.Record) error {
		return func(r delivery.Record) error {
			*letters = append(*letters, Letter{Path: pathOf(r.Ref.Namespace, r.Ref.Name), EventID: r.EventID, UID: r.CallID, Reason: r.Reason})
			return nil
		}
	}
	if err := errors.Join(q.DeadLetters(into(&b.Dead)), q.WaitingDeliveries(into(&b.Waiting))); err != nil {
		return err
	}
	if listed := int64(len(b.Dead) - dead); listed != stats.DeadLetters {
		return fmt.Errorf("%s: %d dead letters are listed, the queue counts %d", dir, listed, stats.DeadLetters)
	}
	return nil
}
