// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package record

import (
	"context"
	"encoding/hex"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/garyclub/webhook-operator/api/v1alpha1"
	"github.com/garyclub/webhook-operator/internal/delivery"
	"github.com/garyclub/webhook-operator/internal/endpoint"
	"github.com/garyclub/webhook-operator/internal/event"
)

// Lose has the records end as Failed with the reason QueueLost that name the queue and have not ended: those of the
// namespace, or of all namespaces when it is empty, since an id is only a text that a dispatcher has sent. It returns how
// many there still are. They are written in the recorder's own line; one that has left the queue meanwhile, or ended, is
// not touched. So it is to be called again, as long as it finds any: until then the failure may not have been written.
func (r *Recorder) Lose(ctx context.Context, namespace, queueID string) (open int, known bool, err error) {
	if r.o.Shelf == nil || queueID == "" {
		return 0, true, nil
	}
	keys, known := r.o.Shelf.OfQueue(namespace, queueID)
	for _, key := range keys {
		o := r.stored(ctx, key)
		if o == nil || o.Status.QueueID != queueID {
			continue // the shelf is behind
		}
		if s := standOfObject(o); s.ended || s.lost {
			continue
		}
		open++
		if err := r.lose(ctx, o); err != nil {
			return open, known, err
		}
	}
	return open, known, nil
}

// names counts the records that name the queue and have not ended, for Lose. It does not block.
func (r *Recorder) names(namespace, queueID string) (n int, known bool) {
	if r.o.Shelf == nil || queueID == "" {
		return 0, true
	}
	keys, known := r.o.Shelf.OfQueue(namespace, queueID)
	return len(keys), known
}

func (r *Recorder) lose(ctx context.Context, o *v1alpha1.DeliveryAttempt) error {
	e := &entry{key: keyOf(o), record: recordOf(o), existing: true}
	e.record.State, e.record.Reason, e.record.Completed = delivery.Failed, delivery.ReasonQueueLost, time.Now()
	e.class = classOf(&e.record, true)
	if r.held(e.key) {
		return nil // what waits goes first: it may know more
	}
	if err := r.room.enter(ctx, r.stop, e.key.Namespace); err != nil {
		return err
	}
	r.metrics.waiting.Inc()
	e.dones = []func(bool){r.answering(e.key.Namespace, func(bool) {})}
	r.mu.Lock()
	r.line.add(e, time.Now())
	r.mu.Unlock()
	r.wakeUp()
	return nil
}

func (r *Recorder) held(key types.NamespacedName) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.line.holds(key)
}

// recordOf is the report that a record was written from, as far as it can be told from the record.
func recordOf(o *v1alpha1.DeliveryAttempt) delivery.Record {
	spec, s := &o.Spec, &o.Status
	r := delivery.Record{
		Delivery: delivery.Delivery{
			Ref: endpoint.Ref{Namespace: o.Namespace, Name: spec.EndpointRef.Name}, UID: o.Labels[v1alpha1.LabelEndpoint],
			EventID: spec.Event.ID, Trigger: delivery.Trigger(spec.Trigger), State: standOfObject(o).state, Reason: s.Reason,
			AttemptCount: int(s.AttemptCount), MaxAttempts: int(s.MaxAttempts), Hops: int(s.HandOvers),
		},
		EventType: event.Type(spec.Event.Type), EventTime: spec.Event.Time.Time, CallID: spec.Event.CallID,
		AgentID: spec.Event.AgentID, PayloadBytes: int(spec.Payload.Bytes), QueueID: s.QueueID,
	}
	if t := s.NextAttemptTime; t != nil {
		r.Due = t.Time
	}
	if t := s.CompletionTime; t != nil {
		r.Completed = t.Time
	}
	if t := s.RedeliverableUntilTime; t != nil {
		r.RedeliverableUntil = t.Time
	}
	if sum, err := hex.DecodeString(spec.Payload.SHA256); err == nil {
		copy(r.PayloadSHA[:], sum)
	}
	for _, a := range s.Attempts {
		r.Attempts = append(r.Attempts, delivery.Attempt{
			Number: int(a.Number), Start: a.StartTime.Time, Duration: time.Duration(a.DurationMilliseconds) * time.Millisecond,
			Outcome: delivery.Outcome(a.Outcome), StatusCode: int(a.StatusCode), Message: a.Message,
		})
	}
	return r
}
