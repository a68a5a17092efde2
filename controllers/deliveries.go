// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/garyclub/webhook-operator/api/v1alpha1"
	"github.com/garyclub/webhook-operator/internal/conditions"
	"github.com/garyclub/webhook-operator/internal/endpoint"
	"github.com/garyclub/webhook-operator/internal/reconcile"
)

// deliveries owns Delivering and status.deliveries.
func (r *WebhookEndpointReconciler) deliveries(_ context.Context, w *work) error {
	if w.obj.Status.Deliveries == nil {
		w.obj.Status.Deliveries = &v1alpha1.DeliveriesStatus{}
	}
	if w.known {
		count(w.obj.Status.Deliveries, w.totals)
	}
	known := w.condition(v1alpha1.ConditionDelivering).Reason == v1alpha1.ReasonNoDispatcher
	alone, left := w.note.aloneFor(w.obj.Status.Dispatchers.Connected, known, w.now)
	w.set(delivering(w.endpoint.Hold, alone, w.obj.Status.Deliveries))
	if left > 0 {
		return reconcile.Waiting(left)
	}
	return nil
}

// aloneTime is how long no dispatcher is connected before that is news: after a restart of the manager they come back one
// by one, and in a rolling update there is none for a moment.
const aloneTime = time.Minute

// aloneFor says whether the endpoint has been without a dispatcher for aloneTime, and otherwise when to look again; zero
// when one is connected. known says that the status tells of it already: to a new leader it is no news.
func (n *note) aloneFor(connected int32, known bool, now time.Time) (alone bool, left time.Duration) {
	if connected > 0 {
		n.alone = time.Time{}
		return false, 0
	}
	if n.alone.IsZero() {
		n.alone = now
		if known {
			n.alone = now.Add(-aloneTime)
		}
	}
	left = aloneTime - now.Sub(n.alone)
	return left <= 0, max(left, 0)
}

// count takes the totals over. None but pending goes backwards: a ledger that was restored from an older state shows
// what is shown already until it has caught up.
func count(d *v1alpha1.DeliveriesStatus, t Totals) {
	d.Succeeded = max(d.Succeeded, t.Succeeded)
	d.Failed = max(d.Failed, t.Failed)
	d.Lost = max(d.Lost, t.Lost)
	d.Unrecorded = max(d.Unrecorded, t.Unrecorded)
	d.Pending = max(t.Pending, 0)
	d.LastSuccessTime = later(d.LastSuccessTime, t.LastSuccess)
	d.LastFailureTime = later(d.LastFailureTime, t.LastFailure)
}

// later keeps whole seconds, as the API does: otherwise each reconciliation would find a difference to write.
func later(known *metav1.Time, reported time.Time) *metav1.Time {
	reported = reported.UTC().Truncate(time.Second)
	if reported.Unix() <= 0 || known != nil && !reported.After(known.Time) {
		return known
	}
	t := metav1.NewTime(reported)
	return &t
}

// delivering is the pure judgement of what the dispatchers report.
func delivering(hold endpoint.Hold, alone bool, d *v1alpha1.DeliveriesStatus) metav1.Condition {
	const kind = v1alpha1.ConditionDelivering
	switch hold {
	case endpoint.HoldSuspended:
		return conditions.False(kind, v1alpha1.ReasonSuspended, "spec.suspend is true: deliveries wait until it is false, or their deadline")
	case endpoint.HoldGone:
		return conditions.False(kind, v1alpha1.ReasonGone, goneMessage)
	case endpoint.HoldUnresolved, endpoint.HoldAddressRefused:
		return conditions.False(kind, v1alpha1.ReasonHeld, "deliveries wait, see Accepted")
	case endpoint.HoldSigningKeyMissing:
		return conditions.False(kind, v1alpha1.ReasonHeld, "deliveries wait, see SigningKeyReady")
	}
	switch {
	case alone:
		return conditions.Unknown(kind, v1alpha1.ReasonNoDispatcher,
			"no dispatcher is connected that could deliver: label the pods that produce the events with "+v1alpha1.LabelInject+`: "true", or install the gateway`)
	case d.LastSuccessTime == nil && d.LastFailureTime == nil:
		return conditions.Unknown(kind, v1alpha1.ReasonNoDeliveriesYet, "no delivery has ended yet")
	case d.LastSuccessTime == nil || d.LastFailureTime != nil && d.LastFailureTime.After(d.LastSuccessTime.Time):
		return conditions.False(kind, v1alpha1.ReasonFailing, "the latest delivery failed for good: see its DeliveryAttempt")
	}
	return conditions.True(kind, v1alpha1.ReasonDelivering, "the latest delivery succeeded")
}

const goneMessage = "the receiver answered 410 Gone: deliveries wait until the spec or the URL changes, or a requested test event succeeds"
