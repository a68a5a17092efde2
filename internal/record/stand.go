// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package record

import (
	"github.com/garyclub/webhook-operator/api/v1alpha1"
	"github.com/garyclub/webhook-operator/internal/delivery"
)

// stand is how far a delivery has come, as a report or a record says it.
type stand struct {
	// ended: delivered or failed, as somebody saw who attempted it. lost: nobody did, since its queue is gone.
	ended, lost    bool
	hops, attempts int
	state          delivery.State // 0 for a record without a status
}

// lost says that a delivery's end was not seen but concluded.
func lost(r *delivery.Record) bool {
	return r.State == delivery.Failed && r.Reason == delivery.ReasonQueueLost
}

func standOf(r *delivery.Record) stand {
	s := stand{lost: lost(r), hops: r.Hops, attempts: r.AttemptCount, state: r.State}
	s.ended = r.State.Done() && !s.lost
	return s
}

func standOfObject(o *v1alpha1.DeliveryAttempt) stand {
	s := stand{hops: int(o.Status.HandOvers), attempts: int(o.Status.AttemptCount)}
	switch o.Status.Outcome {
	case v1alpha1.DeliveryPending:
		s.state = delivery.Pending
	case v1alpha1.DeliveryRetrying:
		s.state = delivery.Retrying
	case v1alpha1.DeliveryDelivered:
		s.state, s.ended = delivery.Delivered, true
	case v1alpha1.DeliveryFailed:
		s.state, s.lost = delivery.Failed, o.Status.Reason == delivery.ReasonQueueLost
		s.ended = !s.lost
	}
	return s
}

// newer says whether b comes after a in the life of a delivery, whatever the order they arrive in. Equal ones are not.
//
// An end that was seen stands, and comes after all else. Otherwise the queue that the delivery was handed over to last
// knows best, so that nobody declares it lost with a queue that it has left; and of one queue's reports the one with more
// attempts. That it was lost comes after what its queue had said, and before anything that the queue says of later.
func newer(b, a stand) bool {
	switch {
	case a.ended:
		return false // the first end stands
	case b.ended:
		return true
	case a.hops != b.hops:
		return b.hops > a.hops
	case a.attempts != b.attempts:
		return b.attempts > a.attempts
	case a.lost:
		return false
	}
	return b.lost || b.state > a.state
}

// supersedes says that there is nothing to write of b over the record a. One without a status was created by somebody
// who died before the second write.
func supersedes(a, b stand) bool {
	if a.state == 0 {
		return false
	}
	return a.ended || newer(a, b) || a == b && a.lost
}
