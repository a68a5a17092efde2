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
	// askTimeout is how long one queue may take to count, or to move what it is to move, and passTimeout all of them: what
	// was not reached by then has not answered.
	askTimeout  = 30 * time.Second
	passTimeout = time.Minute
)

// ask gives an order to all queues that are connected, and adds to the tally what they say. They first count, all at once,
// and say what they have moved for it already; then each moves what is left of the limit, one after the other, since the
// limit is of all of them. What the tally knows of queues that are not connected any more counts on, and a queue that breaks
// off has used up what it was allowed, until it says how much that was: so a pass that is repeated keeps to the limit.
func ask(ctx context.Context, orders Orders, o *delivery.Order, queues []string, t *tally) {
	ctx, cancel := context.WithTimeout(ctx, passTimeout)
	defer cancel()
	t.asked = len(queues)
	all := countAll(ctx, orders, o, queues)
	for i, id := range queues {
		if all[i].answered {
			t.learn(id, all[i].Redelivered)
		}
	}
	room := o.Limit - t.moved()
	for i, id := range queues {
		c := &all[i]
		if left := c.Matched - c.Moved; c.answered && !o.DryRun && left > 0 && room > 0 {
			own := *o
			own.Limit = c.Moved + room
			again, answered := give(ctx, orders, id, &own)
			if c.answered = answered; answered {
				t.learn(id, again)
				room -= again.Moved - c.Moved
			} else {
				room -= min(left, room)
			}
		}
		if c.answered {
			t.answered++
		}
	}
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
