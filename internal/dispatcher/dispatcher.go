// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package dispatcher assembles the process that takes events, keeps them and delivers them: queue, deliver, outbox, the
// control stream and ingest, started in that order and stopped in the reverse one. It has no commit point of its own:
// those of ingest, deliver and handover are the queue's.
//
// A gateway is the same process for all namespaces: its callers are judged by the API server, and it takes over what
// other dispatchers hand over.
package dispatcher

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/garyclub/webhook-operator/internal/backoff"
	"github.com/garyclub/webhook-operator/internal/control"
	"github.com/garyclub/webhook-operator/internal/deliver"
	"github.com/garyclub/webhook-operator/internal/egress"
	"github.com/garyclub/webhook-operator/internal/handover"
	"github.com/garyclub/webhook-operator/internal/ingest"
	"github.com/garyclub/webhook-operator/internal/outbox"
	"github.com/garyclub/webhook-operator/internal/queue"
	"github.com/garyclub/webhook-operator/internal/queue/pebble"
	"github.com/garyclub/webhook-operator/internal/version"
)

const (
	// flushTimeout is what the last report to the manager may take at the end. Its ledger, written every five seconds,
	// acknowledges after six at most.
	flushTimeout = 8 * time.Second
	// brokenTimeout is what the end may take once the queue is broken: nothing can be settled or reported any more.
	brokenTimeout = time.Second
)

// The waits before the matching of events begins again after a fault.
const (
	firstMatchWait = 100 * time.Millisecond
	maxMatchWait   = 15 * time.Second
)

var errBroken = errors.New("the queue is broken")

// Dispatcher is the assembled process.
type Dispatcher struct {
	options   Options
	clock     clock
	registry  *prometheus.Registry
	queue     queue.Queue
	endpoints *endpoints
	poster    *egress.Client
	deliver   *deliver.Stage
	outbox    *outbox.Outbox
	client    *control.Client
	ingest    *ingest.Server
	health    *health
	source    *handover.Source
	gateway   *gateway // nil for a sidecar

	gatewayFile string

	background sync.WaitGroup
	cancel     context.CancelFunc // of the background
	// stopSource ends the hand-over of what comes to wait, which must not outlast the last report. stopOrders ends the
	// carrying out of orders: what they have moved must be handed over too.
	stopSource, stopOrders func()
}

// Run starts a dispatcher and stops it when ctx ends. It waits out the drain timeout for what can still be delivered. A
// value of drain says that the end is near.
func Run(ctx context.Context, o Options, drain <-chan os.Signal) error {
	d, err := New(ctx, o)
	if err != nil {
		return err
	}
	return d.run(ctx, drain)
}

// run ends with an error when the queue is broken, so that the process is started again, on a queue opened anew.
func (d *Dispatcher) run(ctx context.Context, drain <-chan os.Signal) error {
	if err := d.Start(ctx); err != nil {
		return errors.Join(err, d.queue.Close())
	}
	for running := true; running; {
		running = false
		select {
		case <-drain:
			d.Drain(ctx)
			running = true
		case <-ctx.Done():
		case <-d.ingest.Done():
		case <-d.queue.Broken():
		}
	}
	err := d.Stop(context.WithoutCancel(ctx))
	if broken := d.queue.Err(); broken != nil {
		return fmt.Errorf("%w: %w", errBroken, broken) // what Stop met follows from it
	}
	return err
}

// New opens the queue and connects the stages; nothing runs yet.
func New(ctx context.Context, o Options) (*Dispatcher, error) { return assemble(ctx, o, steadyClock()) }

func assemble(ctx context.Context, o Options, c clock) (*Dispatcher, error) {
	log := logr.FromContextOrDiscard(ctx)
	if err := os.MkdirAll(o.QueueDir, 0o700); err != nil {
		return nil, fmt.Errorf("make the queue's folder: %w", err)
	}
	d := &Dispatcher{options: o, clock: c, registry: prometheus.NewRegistry(), gatewayFile: filepath.Join(o.QueueDir, "gateway")}
	//nolint:contextcheck // the queue lives until Close, not as long as a context
	q, err := pebble.Open(pebble.Options{Dir: filepath.Join(o.QueueDir, "pebble"), MaxBytes: o.QueueMaxBytes,
		EndpointShare: o.endpointShare(), ReserveBytes: o.reserve(), Now: c.now, Alarm: c.alarm, Receives: o.Gateway,
		Ended: newEnds(d.registry, log).note, Log: log})
	if err != nil {
		return nil, fmt.Errorf("open the queue: %w", err)
	}
	d.queue = q
	if err := d.connect(ctx); err != nil {
		//nolint:contextcheck // Close has a bound of its own
		return nil, errors.Join(err, q.Close())
	}
	return d, nil
}

// clock is the one clock of the process, of due times and deadlines as of what is compared with them; alarm wakes by it.
type clock struct {
	now   func() time.Time
	alarm func(at time.Time) <-chan time.Time
}

// steadyClock begins at the time of day and goes on by the monotonic clock, so a step of the wall clock moves no due
// time.
func steadyClock() clock {
	start := time.Now()
	now := func() time.Time { return start.Round(0).Add(time.Since(start)) }
	return clock{now, func(at time.Time) <-chan time.Time { return time.After(at.Sub(now())) }}
}

func (d *Dispatcher) connect(ctx context.Context) error {
	o, log := d.options, logr.FromContextOrDiscard(ctx)
	d.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	registerQueue(d.registry, d.queue)
	d.endpoints = &endpoints{namespace: o.served(), queue: d.queue, file: filepath.Join(o.QueueDir, "endpoints"),
		grace: o.DeletionGrace, clock: d.clock, changed: func() { d.deliver.EndpointsChanged() },
		log: log.WithName("endpoints"), listed: make(chan struct{}, 1)}
	d.endpoints.load()
	out := o.egress()
	if err := out.Validate(); err != nil {
		return err
	}
	d.poster = egress.New(out)
	d.deliver = deliver.New(deliver.Options{Queue: deliverQueue{d.queue}, Endpoints: d.endpoints, Poster: d.poster,
		Metrics: deliver.NewMetrics(d.registry), MaxInFlight: o.MaxInFlight,
		MaxPerNamespace: o.maxPerNamespace(), Now: d.clock.now})
	if err := d.makeSource(log); err != nil {
		return err
	}
	var err error
	d.client, err = control.NewClient(control.ClientOptions{Address: o.ManagerAddress, CAFile: o.CAFile, TokenFile: o.TokenFile,
		ServerName: o.ManagerServerName, QueueID: d.queue.ID(), Version: version.String(), Known: d.endpoints.known,
		Apply: d.endpoints.apply, OnGateway: func(address string) { d.setGateway(address, log) }, Persistent: o.QueueOutlivesPod,
		Log: log.WithName("control"), Registerer: d.registry})
	if err != nil {
		return err
	}
	d.outbox, err = outbox.New(outbox.Options{Queue: outboxQueue{d.queue}, Reporter: reporter(d.client), Last: !o.QueueOutlivesPod,
		Registerer: d.registry})
	if err != nil {
		return err
	}
	in := ingest.Options{Addr: o.Listen, Namespace: o.Namespace, Queue: ingestQueue{d.queue}, Endpoints: d.endpoints, Now: d.clock.now, Registerer: d.registry}
	if o.Gateway {
		if d.gateway, err = d.makeGateway(ctx); err != nil {
			return err
		}
		in.Authenticate, in.TLS = d.gateway.authenticate, d.gateway.tls()
		in.Queue = quotaQueue{in.Queue, d.gateway.quotas}
	}
	if err := in.Validate(); err != nil {
		return err
	}
	d.ingest = ingest.New(in)
	d.health, err = newHealth(ctx, o.HealthListen, d.registry, d.alive, d.ready)
	return err
}

// alive is false once only another start can help.
func (d *Dispatcher) alive() error {
	if d.queue.Err() != nil {
		return errBroken // the cause, which names files, is in the log
	}
	return nil
}

// ready is false while events are answered 503. The manager's absence is no reason: deliveries go on without it.
func (d *Dispatcher) ready() error {
	if err := d.alive(); err != nil {
		return err
	}
	if d.queue.Stats().Full {
		return errors.New("the queue is full")
	}
	return nil
}

// Start brings the stages up, ingest last: what it takes has somewhere to go.
func (d *Dispatcher) Start(ctx context.Context) error {
	background, cancel := context.WithCancel(context.WithoutCancel(ctx))
	d.cancel = cancel
	d.background.Go(func() { d.matchWaiting(background) })
	d.background.Go(func() { d.endpoints.sweep(background) })
	d.background.Go(func() { _ = d.client.Start(background) })
	d.background.Go(func() { _ = d.outbox.Start(background) })
	d.stopOrders = startStoppable(background, func(ctx context.Context) { d.client.Redeliveries(ctx, d.carryOut) })
	d.stopSource = startStoppable(background, d.source.Start)
	d.deliver.Start(background)
	if d.gateway != nil {
		if err := d.gateway.start(background, d.background.Go); err != nil {
			return err
		}
	}
	if err := d.ingest.Start(background); err != nil {
		return fmt.Errorf("listen for events: %w", err)
	}
	// A startup probe that is answered lets the app begin, which may post at once.
	d.background.Go(d.health.serve)
	logr.FromContextOrDiscard(ctx).Info("dispatcher is running", "version", version.String(), "queueID", d.queue.ID())
	return nil
}

// startStoppable runs what ends with its context; stop ends it and returns when it has ended.
func startStoppable(ctx context.Context, run func(context.Context)) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	var running sync.WaitGroup
	running.Go(func() { run(ctx) })
	return func() {
		cancel()
		running.Wait()
	}
}

// matchWaiting runs until ctx ends. What failed, such as a read, is begun again; it may go on where it is not.
func (d *Dispatcher) matchWaiting(ctx context.Context) {
	for failures := 1; ; failures++ {
		err := d.queue.MatchWaiting(ctx, d.match)
		if ctx.Err() != nil || d.queue.Err() != nil {
			return
		}
		logr.FromContextOrDiscard(ctx).Error(err, "matching of waiting events failed; it begins again")
		wait := backoff.Next(firstMatchWait, maxMatchWait, failures, rand.Float64())
		select {
		case <-ctx.Done():
			return
		case <-d.clock.alarm(d.clock.now().Add(wait)):
		}
	}
}

// Stop takes no more events, hands over what waits and delivers what is due within the drain timeout, reports, and closes
// the queue. What is left is on disk for the next start.
func (d *Dispatcher) Stop(ctx context.Context) error {
	log, begun := logr.FromContextOrDiscard(ctx), time.Now()
	drain, cancel := context.WithTimeout(ctx, d.bounded(d.options.DrainTimeout))
	defer cancel()
	d.gateway.refuse()
	d.stopOrders()
	errs := []error{d.ingest.Stop(drain)}
	d.empty(drain)
	d.gateway.stop(drain) // until then a gateway that is alone can tell that its own source has found nobody else
	flush, cancelFlush := context.WithTimeout(ctx, d.bounded(d.flushTime(time.Since(begun))))
	defer cancelFlush()
	if err := d.outbox.Stop(flush); err != nil {
		log.Info("the last report was not taken; the next start sends what is left", "cause", err.Error())
	}
	d.health.stop(flush)
	d.cancel()
	d.background.Wait()
	left := d.queue.Stats()
	errs = append(errs, d.client.Close(), d.source.Close(), d.queue.Close())
	d.poster.Close()
	log.Info("dispatcher has stopped", "waiting", left.Waiting, "unmatchedEvents", left.Unmatched, "handedOver", d.source.Total(),
		"unreportedRecords", left.Outbox, "queueOutlivesPod", d.options.QueueOutlivesPod)
	return errors.Join(errs...)
}

// flushTime is what the last report may take after a drain of that long. Where the queue ends with its pod, what the drain
// has left over is for the report: what it does not say is lost.
func (d *Dispatcher) flushTime(drained time.Duration) time.Duration {
	if d.options.QueueOutlivesPod {
		return flushTimeout
	}
	return flushTimeout + max(0, d.options.DrainTimeout-drained)
}

// bounded is the timeout, cut short when the queue is broken.
func (d *Dispatcher) bounded(timeout time.Duration) time.Duration {
	if d.queue.Err() != nil {
		return min(timeout, brokenTimeout)
	}
	return timeout
}

// delivering says whether anything is in flight or due. The stage is asked twice, since an attempt that ends while the
// queue is asked makes others due that had waited for its slot.
func (d *Dispatcher) delivering() bool {
	return d.deliver.InFlight() > 0 || !d.queue.Idle() || d.deliver.InFlight() > 0
}
