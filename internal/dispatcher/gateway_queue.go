// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package dispatcher

import (
	"context"

	"github.com/garyclub/webhook-operator/internal/endpoint"
	"github.com/garyclub/webhook-operator/internal/event"
	"github.com/garyclub/webhook-operator/internal/handover"
	"github.com/garyclub/webhook-operator/internal/ingest"
)

// quotaQueue is the queue as the producers of a gateway see it: each namespace has its quotas.
type quotaQueue struct {
	ingest.Queue
	quotas *quotas
}

// Append implements ingest.Queue. The items of a request are of one namespace.
func (q quotaQueue) Append(ctx context.Context, items []ingest.Item) ([]ingest.Accepted, error) {
	namespace, bytes, unmatched := items[0].Event.Namespace, int64(0), int64(0)
	for i := range items {
		if !items[i].Matched {
			unmatched += unmatchedBytesOf(items[i].Event)
		}
		bytes += int64(len(items[i].Endpoints)) * bytesOf(items[i].Event)
	}
	if err := q.quotas.post(namespace, len(items), bytes+unmatched); err != nil {
		return nil, err
	}
	q.quotas.waits(namespace, unmatched) // before anything of it can be matched
	accepted, err := q.Queue.Append(ctx, items)
	q.quotas.stored(namespace, bytes, err == nil)
	q.quotas.stored(namespace, unmatched, false) // it is counted by waits
	for i := range items {
		if !items[i].Matched && (err != nil || accepted[i].Repeated) {
			q.quotas.matched(namespace, unmatchedBytesOf(items[i].Event), 0)
		}
	}
	return accepted, err
}

// quotaSink is the queue as those who hand over see it. What a namespace's share has no room for stays where it is, as
// with an endpoint's share; what would be lost there is taken all the same. Dead letters have bounds of their own.
type quotaSink struct {
	handover.SinkQueue
	quotas *quotas
}

// TakeOver implements handover.SinkQueue.
func (q quotaSink) TakeOver(ctx context.Context, parcels []handover.Parcel) ([]handover.Verdict, error) {
	answer := make([]handover.Verdict, len(parcels))
	taken := make([]handover.Parcel, 0, len(parcels))
	for i, p := range parcels {
		if !p.Delivery.State.Done() && !q.quotas.take(p.Delivery.Ref.Namespace, bytesOf(p.Event), p.Last) {
			answer[i] = handover.ShareFull
			continue
		}
		taken = append(taken, p)
	}
	if len(taken) == 0 {
		return answer, nil
	}
	took, err := q.SinkQueue.TakeOver(ctx, taken)
	for i, p := range taken {
		if p.Delivery.State.Done() {
			continue
		}
		q.quotas.stored(p.Delivery.Ref.Namespace, bytesOf(p.Event), err == nil && took[i] == handover.Added)
	}
	if err != nil {
		return nil, err
	}
	for i := range answer {
		if answer[i] == 0 {
			answer[i], took = took[0], took[1:]
		}
	}
	return answer, nil
}

// match is the endpoints', of events that came before the first list. Those of a gateway count for their namespace until
// then, and their deliveries from then on.
func (d *Dispatcher) match(e *event.Event) ([]*endpoint.Endpoint, bool) {
	endpoints, ok := d.endpoints.match(e)
	if ok && d.gateway != nil {
		d.gateway.quotas.matched(e.Namespace, unmatchedBytesOf(e), int64(len(endpoints))*bytesOf(e))
	}
	return endpoints, ok
}

// unmatchedBytesOf is what the event holds that is not matched yet.
func unmatchedBytesOf(e *event.Event) int64 { return int64(len(e.Payload)) + eventBytes }

// bytesOf is what a delivery of the event holds.
func bytesOf(e *event.Event) int64 { return int64(len(e.Payload)) + deliveryBytes }
