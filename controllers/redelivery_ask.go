// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/garyclub/webhook-operator/internal/delivery"
)

const (
	// askParallel is how many queues count at once.
	askParallel = 16
	// askTimeout is how long one queue may take to count, or to move what it is to move.
	askTimeout = 30 * time.Second
)

// ask gives an order to all queues that are connected. They first count, all at once, and say what they have moved for it
// already; then each moves what is left of the limit, one after the other, since the limit is of all of them. So a pass
// that is repeated keeps to it too.
func ask(ctx context.Context, orders Orders, o *delivery.Order) *tally {
	queues := orders.Queues(o.Ref.Namespace)
	all := countAll(ctx, orders, o, queues)
	room := o.Limit
	for _, c := range all {
		room -= c.Moved
	}
	t := &tally{asked: len(queues)}
	for i, id := range queues {
		if c := &all[i]; c.answered && !o.DryRun && c.Matched > 0 && (room > 0 || c.Moved > 0) {
			room += c.Moved
			own := *o
			own.Limit = room
			c.Redelivered, c.answered = give(ctx, orders, id, &own)
			room -= c.Moved
		}
		t.add(all[i].Redelivered)
		if all[i].answered {
			t.answered++
		}
	}
	return t
}

type counted struct {
	delivery.Redelivered
	answered bool
}

func countAll(ctx context.Context, orders Orders, o *delivery.Order, queues []string) []counted {
	dry := *o
	dry.DryRun = true
	all := make([]counted, len(queues))
	var group errgroup.Group
	group.SetLimit(askParallel)
	for i, id := range queues {
		group.Go(func() error {
			all[i].Redelivered, all[i].answered = give(ctx, orders, id, &dry)
			return nil
		})
	}
	_ = group.Wait() // no one returns an error
	return all
}

// give says whether the queue has answered. The reason why it did not is no matter: it is asked again.
func give(ctx context.Context, orders Orders, queueID string, o *delivery.Order) (delivery.Redelivered, bool) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	result, err := orders.Redeliver(ctx, queueID, o)
	return result, err == nil
}
