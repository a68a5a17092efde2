// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package control

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/garyclub/webhook-operator/internal/control/controlpb"
	"github.com/garyclub/webhook-operator/internal/delivery"
)

// unimplementedWait is how long a manager that knows no orders is left alone: it is older, and being replaced. An order
// that is given then waits for longer.
const unimplementedWait = 20 * time.Second

// Redeliveries takes orders until ctx ends, and connects for ever. carryOut is called from one goroutine. What it returns
// an error for is ordered again.
func (c *Client) Redeliveries(ctx context.Context, carryOut func(context.Context, delivery.Order) (delivery.Redelivered, error)) {
	limit := firstWait
	for {
		begin := time.Now()
		err := c.takeOrders(ctx, carryOut)
		if ctx.Err() != nil {
			return
		}
		if time.Since(begin) > maxWait {
			limit = firstWait // it was a good one: most streams end without an order
		}
		wait := time.Duration(rand.Int64N(int64(limit))) + limit/10
		if status.Code(err) == codes.Unimplemented {
			wait += unimplementedWait
		}
		c.o.Log.V(1).Info("stream of orders has ended", "cause", err.Error())
		if !sleep(ctx, wait) {
			return
		}
		limit = min(2*limit, maxWait)
	}
}

// takeOrders runs one stream to its end.
func (c *Client) takeOrders(ctx context.Context, carryOut func(context.Context, delivery.Order) (delivery.Redelivered, error)) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := c.service.Redeliveries(ctx)
	if err != nil {
		return fmt.Errorf("open orders: %w", err)
	}
	// What Send says is EOF only; Recv has the cause.
	_ = stream.Send(&controlpb.RedeliveriesRequest{QueueId: c.o.QueueID})
	for {
		m, err := stream.Recv()
		if err != nil {
			return err
		}
		done, err := carryOut(ctx, orderFromProto(m))
		if err != nil {
			c.o.Log.Error(err, "an order could not be carried out; it is given again", "redelivery", m.GetName())
		}
		_ = stream.Send(&controlpb.RedeliveriesRequest{Result: redeliveredToProto(m.GetUid(), done, err != nil)})
	}
}
