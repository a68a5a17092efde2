// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package dispatcher

import (
	"context"
	"errors"

	"github.com/go-logr/logr"

	"github.com/garyclub/webhook-operator/internal/delivery"
	"github.com/garyclub/webhook-operator/internal/queue"
)

// errEndpointUnknown has the order given again: the list with the endpoint may be on its way.
var errEndpointUnknown = errors.New("the endpoint is not known here")

// carryOut has the queue move dead letters for an order, whose deliveries then go where the endpoint points now.
func (d *Dispatcher) carryOut(ctx context.Context, o delivery.Order) (delivery.Redelivered, error) {
	snapshot := d.endpoints.Load()
	if snapshot == nil {
		return delivery.Redelivered{}, errEndpointUnknown
	}
	p := snapshot.Get(o.Ref)
	if p == nil {
		return delivery.Redelivered{}, errEndpointUnknown
	}
	full := d.gateway != nil && d.gateway.quotas.full(o.Ref.Namespace)
	o.DryRun = o.DryRun || full
	result, err := d.queue.Redeliver(ctx, o, p)
	if errors.Is(err, queue.ErrFull) {
		full, o.DryRun = true, true // there is no room for the first; how many there are is told all the same
		result, err = d.queue.Redeliver(ctx, o, p)
	}
	if err != nil {
		return delivery.Redelivered{}, err
	}
	result.ShareFull = result.ShareFull || full
	if !o.DryRun {
		logr.FromContextOrDiscard(ctx).Info("failed deliveries are sent again", "redelivery", o.Name, "namespace", o.Ref.Namespace,
			"endpoint", o.Ref.Name, "matched", result.Matched, "redelivered", result.Moved)
	}
	return result, nil
}
