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

// handOverReserve is the most of the drain timeout that is kept for handing over what the last attempts leave.
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

// empty hands over all that is left, while what is due goes out, delivers what no gateway takes, and then hands over
// what the last attempts have left.
func (d *Dispatcher) empty(ctx context.Context) {
	reached := d.handOverRest(ctx)
	attempts, cancel := ctx, context.CancelFunc(func() {})
	if end, bounded := ctx.Deadline(); bounded && reached {
		attempts, cancel = context.WithDeadline(ctx, end.Add(-min(handOverReserve, d.options.DrainTimeout/4)))
	}
	defer cancel()
	d.deliverRest(attempts)
	d.deliver.Stop(attempts)
	if reached {
		d.handOverRest(ctx)
	}
}

// handOverRest says whether a gateway has taken what there was.
func (d *Dispatcher) handOverRest(ctx context.Context) bool {
	_, err := d.source.Rest(ctx)
	if err != nil && !errors.Is(err, handover.ErrNoGateway) && d.queue.Err() == nil {
		logr.FromContextOrDiscard(ctx).Info("not everything could be handed over", "cause", err.Error())
	}
	return err == nil && d.source.Known()
}

// sourceQueue gives the source what it needs of the queue.
type sourceQueue struct{ queue.Queue }

func (q sourceQueue) LeaseWaiting(ctx context.Context, n int, due bool, want func(endpoint.Ref) bool) ([]handover.Lease, error) {
	leases, err := q.Queue.LeaseWaiting(ctx, n, queue.Passage{Due: due, Want: want})
	all := make([]handover.Lease, len(leases))
	for i, l := range leases {
		all[i] = l
	}
	return all, err
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
