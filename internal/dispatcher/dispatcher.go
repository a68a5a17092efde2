// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package dispatcher assembles the process that takes events, keeps them and delivers them: queue, deliver, outbox, the
// control stream and ingest, started in that order and stopped in the reverse one. It has no commit point of its own:
// those of ingest and deliver are the queue's.
package dispatcher

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/garyclub/webhook-operator/internal/control"
	"github.com/garyclub/webhook-operator/internal/deliver"
	"github.com/garyclub/webhook-operator/internal/egress"
	"github.com/garyclub/webhook-operator/internal/ingest"
	"github.com/garyclub/webhook-operator/internal/outbox"
	"github.com/garyclub/webhook-operator/internal/queue"
	"github.com/garyclub/webhook-operator/internal/queue/pebble"
	"github.com/garyclub/webhook-operator/internal/version"
)

// flushTimeout is what the last report to the manager may take at the end.
const flushTimeout = 3 * time.Second

// Dispatcher is the assembled process.
type Dispatcher struct {
	options   Options
	now       func() time.Time // the one clock of due times
	registry  *prometheus.Registry
	queue     queue.Queue
	endpoints *endpoints
	poster    *egress.Client
	deliver   *deliver.Stage
	outbox    *outbox.Outbox
	client    *control.Client
	ingest    *ingest.Server
	health    *health

	background sync.WaitGroup
	cancel     context.CancelFunc // of the background
}

// Run starts a dispatcher and stops it when ctx ends. It waits out the drain timeout for what can still be delivered.
func Run(ctx context.Context, o Options) error {
	d, err := New(ctx, o)
	if err != nil {
		return err
	}
	if err := d.Start(ctx); err != nil {
		return errors.Join(err, d.queue.Close())
	}
	select {
	case <-ctx.Done():
	case <-d.ingest.Done():
	}
	return d.Stop(context.WithoutCancel(ctx))
}

// New opens the queue and connects the stages; nothing runs yet.
func New(ctx context.Context, o Options) (*Dispatcher, error) {
	log := logr.FromContextOrDiscard(ctx)
	if err := os.MkdirAll(o.QueueDir, 0o700); err != nil {
		return nil, fmt.Errorf("make the queue's folder: %w", err)
	}
	now := steadyClock()
	//nolint:contextcheck // the queue lives until Close, not as long as a context
	q, err := pebble.Open(pebble.Options{Dir: filepath.Join(o.QueueDir, "pebble"), MaxBytes: o.QueueMaxBytes,
		ReserveBytes: uint64(o.ReserveBytes), Now: now, Alarm: alarm(now), Log: log})
	if err != nil {
		return nil, fmt.Errorf("open the queue: %w", err)
	}
	d := &Dispatcher{options: o, queue: q, now: now, registry: prometheus.NewRegistry()}
	if err := d.connect(ctx); err != nil {
		return nil, errors.Join(err, q.Close())
	}
	return d, nil
}

// steadyClock begins at the time of day and goes on by the monotonic clock, so a step of the wall clock moves no due
// time.
func steadyClock() func() time.Time {
	start := time.Now()
	return func() time.Time { return start.Round(0).Add(time.Since(start)) }
}

// alarm wakes by the clock that due times are of.
func alarm(now func() time.Time) func(at time.Time) <-chan time.Time {
	return func(at time.Time) <-chan time.Time { return time.After(at.Sub(now())) }
}

func (d *Dispatcher) connect(ctx context.Context) error {
	o, log := d.options, logr.FromContextOrDiscard(ctx)
	d.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	registerQueue(d.registry, d.queue, time.Now)
	d.endpoints = &endpoints{queue: d.queue, file: filepath.Join(o.QueueDir, "endpoints"), grace: o.DeletionGrace,
		now: time.Now, changed: func() { d.deliver.EndpointsChanged() }}
	d.endpoints.load(log)
	var err error
	if d.poster, err = newEgress(o); err != nil {
		return err
	}
	d.deliver = deliver.New(deliver.Options{Queue: deliverQueue{d.queue}, Endpoints: d.endpoints, Poster: d.poster,
		Metrics: deliver.NewMetrics(d.registry), MaxInFlight: o.MaxInFlight, Now: d.now})
	d.client, err = control.NewClient(control.ClientOptions{Address: o.ManagerAddress, CAFile: o.CAFile, TokenFile: o.TokenFile,
		ServerName: o.ManagerServerName, QueueID: d.queue.ID(), Version: version.String(), Known: d.endpoints.known,
		Apply: d.endpoints.apply, Log: log.WithName("control"), Registerer: d.registry})
	if err != nil {
		return err
	}
	d.outbox, err = outbox.New(outbox.Options{Queue: outboxQueue{d.queue}, Reporter: reporter(d.client), Registerer: d.registry})
	if err != nil {
		return err
	}
	in := ingest.Options{Addr: o.Listen, Namespace: o.Namespace, Queue: ingestQueue{d.queue}, Endpoints: d.endpoints, Registerer: d.registry}
	if err := in.Validate(); err != nil {
		return err
	}
	d.ingest = ingest.New(in)
	d.health, err = newHealth(ctx, o.HealthListen, d.registry, d.ready)
	return err
}

func newEgress(o Options) (*egress.Client, error) {
	out := egress.Options{Allow: o.EgressAllow, UserAgent: "webhook-operator/" + version.String(), IdlePerHost: o.MaxInFlight}
	if o.EgressProxy != "" {
		proxy, err := url.Parse(o.EgressProxy)
		if err != nil {
			return nil, errors.New("--egress-proxy: must be http://host:port")
		}
		out.Proxy = proxy
	}
	if err := out.Validate(); err != nil {
		return nil, err
	}
	return egress.New(out), nil
}

// ready is false while events are answered 503. The manager's absence is no reason: deliveries go on without it.
func (d *Dispatcher) ready() error {
	if d.queue.Stats().Full {
		return errors.New("the queue is full")
	}
	return nil
}

// Start brings the stages up, ingest last: what it takes has somewhere to go.
func (d *Dispatcher) Start(ctx context.Context) error {
	background, cancel := context.WithCancel(context.WithoutCancel(ctx))
	d.cancel = cancel
	d.background.Go(d.health.serve)
	d.background.Go(func() { _ = d.queue.MatchWaiting(background, d.endpoints.match) }) // ends with its context
	d.background.Go(func() { d.endpoints.sweep(background) })
	d.background.Go(func() { _ = d.client.Start(background) })
	d.background.Go(func() { _ = d.outbox.Start(background) })
	d.deliver.Start(background)
	if err := d.ingest.Start(background); err != nil {
		return fmt.Errorf("listen for events: %w", err)
	}
	logr.FromContextOrDiscard(ctx).Info("dispatcher is running", "version", version.String(), "queueID", d.queue.ID())
	return nil
}

// Stop takes no more events, delivers what is due within the drain timeout, reports, and closes the queue. What is left
// is on disk for the next start.
func (d *Dispatcher) Stop(ctx context.Context) error {
	log := logr.FromContextOrDiscard(ctx)
	drain, cancel := context.WithTimeout(ctx, d.options.DrainTimeout)
	defer cancel()
	errs := []error{d.ingest.Stop(drain)}
	d.deliverRest(drain)
	d.deliver.Stop(drain)
	flush, cancelFlush := context.WithTimeout(ctx, flushTimeout)
	defer cancelFlush()
	errs = append(errs, d.outbox.Stop(flush))
	d.health.stop(flush)
	d.cancel()
	d.background.Wait()
	left := d.queue.Stats()
	errs = append(errs, d.client.Close(), d.queue.Close())
	d.poster.Close()
	log.Info("dispatcher has stopped", "waiting", left.Waiting, "unreportedRecords", left.Outbox)
	return errors.Join(errs...)
}

// deliverRest waits until nothing is due any more. Deliveries that wait for a retry or are held stay on disk.
func (d *Dispatcher) deliverRest(ctx context.Context) {
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	for d.deliver.InFlight() > 0 {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}
