// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package dispatcher

import (
	"context"
	"errors"

	"github.com/garyclub/webhook-operator/internal/control"
	"github.com/garyclub/webhook-operator/internal/deliver"
	"github.com/garyclub/webhook-operator/internal/endpoint"
	"github.com/garyclub/webhook-operator/internal/ingest"
	"github.com/garyclub/webhook-operator/internal/outbox"
	"github.com/garyclub/webhook-operator/internal/queue"
)

// The stages declare what they need in types of their own; these adapters give it to them.

type ingestQueue struct{ queue.Queue }

func (q ingestQueue) Append(ctx context.Context, items []ingest.Item) ([]ingest.Accepted, error) {
	own := make([]queue.Item, len(items))
	for i, item := range items {
		own[i] = queue.Item(item)
	}
	accepted, err := q.Queue.Append(ctx, own)
	switch {
	case errors.Is(err, queue.ErrFull):
		return nil, ingest.ErrFull
	case errors.Is(err, queue.ErrKeyReused):
		return nil, ingest.ErrKeyReused
	case errors.Is(err, queue.ErrClosed):
		return nil, ingest.ErrClosed
	case err != nil:
		return nil, err
	}
	answers := make([]ingest.Accepted, len(accepted))
	for i, a := range accepted {
		answers[i] = ingest.Accepted(a)
	}
	return answers, nil
}

type deliverQueue struct{ queue.Queue }

type admit func(endpoint.Ref) bool

func (a admit) Admit(ref endpoint.Ref) bool { return a(ref) }

func (q deliverQueue) Lease(ctx context.Context, may func(endpoint.Ref) bool) (deliver.Lease, error) {
	lease, err := q.Queue.Lease(ctx, admit(may))
	if err != nil {
		return nil, err
	}
	return lease, nil
}

type outboxQueue struct{ queue.Queue }

func (q outboxQueue) Outbox(ctx context.Context, after uint64, n int) ([]outbox.Outgoing, error) {
	found, err := q.Queue.Outbox(ctx, after, n)
	out := make([]outbox.Outgoing, len(found))
	for i, o := range found {
		out[i] = outbox.Outgoing(o)
	}
	return out, err
}

func (q outboxQueue) Acknowledge(ctx context.Context, taken []outbox.Taken) error {
	own := make([]queue.Taken, len(taken))
	for i, t := range taken {
		own[i] = queue.Taken(t)
	}
	return q.Queue.Acknowledge(ctx, own)
}

func reporter(c *control.Client) outbox.Reporter {
	return func(ctx context.Context) (outbox.Stream, error) {
		stream, err := c.Report(ctx)
		if err != nil {
			return nil, err
		}
		return stream, nil
	}
}
