// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package dispatcher

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/go-logr/logr"

	"github.com/garyclub/webhook-operator/internal/control"
	"github.com/garyclub/webhook-operator/internal/endpoint"
	"github.com/garyclub/webhook-operator/internal/handover"
	"github.com/garyclub/webhook-operator/internal/queue"
)

// handOverReserve is the most of the drain timeout that is kept for handing over what attempts and the first tries leave.
const handOverReserve = 2 * time.Second

// maxGatewayBytes bounds the file of the gateway's address.
const maxGatewayBytes = 512

// makeSource makes the source of hand-overs. It trusts gateways by the manager's CA, and shows them the token that the
// manager sees. The gateway that was known last is, until the manager says another: a pod that is deleted while the
// manager is away hands over all the same.
func (d *Dispatcher) makeSource(log logr.Logger) (err error) {
	o := d.options
	d.source, err = handover.NewSource(handover.SourceOptions{
		Queue: sourceQueue{d.queue}, QueueID: d.queue.ID(), Transport: control.NewFileCA(o.CAFile, ""),
		Token: control.NewFileToken(o.TokenFile, time.Now), Now: d.clock.now, Log: log.WithName("handover"), Registerer: d.registry,
		Persistent: o.QueueOutlivesPod,
	})
	if err != nil {
		return err
	}
	address, err := loadGateway(d.gatewayFile)
	if err == nil {
		err = d.source.SetGateway(address)
	}
	if err != nil {
		log.Error(err, "the gateway that was known last cannot be used")
	}
	return nil
}

// setGateway is told where the gateway is.
func (d *Dispatcher) setGateway(address string, log logr.Logger) {
	if address == d.source.Gateway() {
		return
	}
	if err := errors.Join(d.source.SetGateway(address), saveGateway(d.gatewayFile, address)); err != nil {
		log.Error(err, "the gateway's address cannot be used or kept")
		return
	}
	log.Info("gateway for hand-overs", "address", address)
}

func loadGateway(path string) (string, error) {
	content, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return "", nil
	}
	if err == nil && len(content) > maxGatewayBytes {
		err = errors.New("it is too long")
	}
	if err != nil {
		return "", fmt.Errorf("read the gateway's address: %w", err)
	}
	return strings.TrimSpace(string(content)), nil
}

// saveGateway need not sync: what is lost with the machine's power is lost with the pod.
func saveGateway(path, address string) error {
	if err := os.WriteFile(path+".tmp", []byte(address+"\n"), 0o600); err != nil {
		return fmt.Errorf("keep the gateway's address: %w", err)
	}
	if err := os.Rename(path+".tmp", path); err != nil {
		return fmt.Errorf("keep the gateway's address: %w", err)
	}
	return nil
}

// Drain begins to hand over what waits and is not due; all else goes on. It is the first half of an end that is near.
func (d *Dispatcher) Drain(ctx context.Context) {
	d.gateway.refuse()
	if d.source.Begun() {
		return
	}
	d.source.Begin()
	logr.FromContextOrDiscard(ctx).Info("handing over what waits for a later time", "gatewayKnown", d.source.Known(),
		"waiting", d.queue.Stats().Waiting)
}

// empty hands over all that is left, while what is due goes out, then what attempts and refusals have left, and the dead
// letters at the end.
func (d *Dispatcher) empty(ctx context.Context) {
	d.stopSource()
	early, cancel := d.lessReserve(ctx)
	defer cancel()
	rest := d.handOverRest(early)
	d.deliverRest(early, rest.done)
	if !rest.end() {
		early = ctx // nobody takes what attempts leave, so they have all of the time
		d.deliverRest(early, rest.done)
	}
	d.deliver.Stop(early)
	_, err := d.source.Last(ctx)
	if err != nil && !errors.Is(err, handover.ErrNoGateway) && d.queue.Err() == nil {
		logr.FromContextOrDiscard(ctx).Info("not everything could be handed over", "cause", err.Error())
	}
	d.handOverDeadLetters(ctx)
}

// handOverDeadLetters uses what is left of the time, so that what has failed can be redelivered when this pod is gone.
func (d *Dispatcher) handOverDeadLetters(ctx context.Context) {
	there := d.queue.Stats().DeadLetters
	if there == 0 || d.queue.Err() != nil {
		return
	}
	moved, err := d.source.DeadLetters(ctx)
	if errors.Is(err, handover.ErrNoGateway) {
		return
	}
	values := []any{"handedOver", moved, "of", there}
	if err != nil {
		values = append(values, "cause", err.Error())
	}
	logr.FromContextOrDiscard(ctx).Info("dead letters were handed over", values...)
}

// lessReserve ends in time for a last hand-over.
func (d *Dispatcher) lessReserve(ctx context.Context) (context.Context, context.CancelFunc) {
	end, bounded := ctx.Deadline()
	if !bounded {
		return ctx, func() {}
	}
	return context.WithDeadline(ctx, end.Add(-min(handOverReserve, d.options.DrainTimeout/4)))
}

// resting is a hand-over of all that is left, beside the deliveries.
type resting struct {
	cancel context.CancelFunc
	done   chan struct{}
	err    error // once done is closed
}

func (d *Dispatcher) handOverRest(ctx context.Context) *resting {
	ctx, cancel := context.WithCancel(ctx)
	r := &resting{cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(r.done)
		_, r.err = d.source.Rest(ctx)
	}()
	return r
}

// end ends it, and says whether another one can come to anything.
func (r *resting) end() bool {
	r.cancel()
	<-r.done
	return !errors.Is(r.err, handover.ErrNoGateway) && !errors.Is(r.err, handover.ErrSelf)
}

// deliverRest waits until nothing is due any more, and nothing is left or the hand-over beside it has ended. What waits
// for a retry or is held then stays on disk.
func (d *Dispatcher) deliverRest(ctx context.Context, handedOver <-chan struct{}) {
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	for d.delivering() || d.handingOver(handedOver) {
		select {
		case <-ctx.Done():
			return
		case <-d.queue.Broken():
			return
		case <-ticker.C:
		}
	}
}

// handingOver says whether there is anything left that a hand-over under way may move.
func (d *Dispatcher) handingOver(over <-chan struct{}) bool {
	select {
	case <-over:
		return false
	default:
		return d.queue.Stats().Waiting > 0
	}
}

// sourceQueue gives the source what it needs of the queue.
type sourceQueue struct{ queue.Queue }

func (q sourceQueue) LeaseWaiting(ctx context.Context, n int, due bool, want func(endpoint.Ref) bool) ([]handover.Lease, error) {
	leases, err := q.Queue.LeaseWaiting(ctx, n, queue.Passage{Due: due, Want: want})
	return leasesOf(leases), err
}

func (q sourceQueue) LeaseDead(ctx context.Context, n int, want func(endpoint.Ref) bool) ([]handover.Lease, error) {
	leases, err := q.Queue.LeaseDead(ctx, n, want)
	return leasesOf(leases), err
}

func leasesOf(leases []queue.Lease) []handover.Lease {
	all := make([]handover.Lease, len(leases))
	for i, l := range leases {
		all[i] = l
	}
	return all
}

func (q sourceQueue) HandedOver(ctx context.Context, leases []handover.Lease) error {
	own := make([]queue.Lease, len(leases))
	for i, l := range leases {
		var ok bool
		if own[i], ok = l.(queue.Lease); !ok {
			return errors.New("a lease is not of this queue")
		}
	}
	return q.Queue.HandedOver(ctx, own)
}
