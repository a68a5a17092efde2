// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/garyclub/webhook-operator/api/v1alpha1"
	"github.com/garyclub/webhook-operator/internal/conditions"
	"github.com/garyclub/webhook-operator/internal/endpoint"
	"github.com/garyclub/webhook-operator/internal/reconcile"
)

const (
	// takeTimeout bounds how long Ready waits for connected dispatchers: one that hangs is no fault of the endpoint's.
	takeTimeout = 15 * time.Second
	// maxFailures is after how many errors in a row an endpoint that was never published goes out as held, so that one
	// that cannot be resolved does not keep the registry incomplete for everybody.
	maxFailures = 3
)

// publish hands the resolved endpoint to the dispatchers.
func (r *WebhookEndpointReconciler) publish(_ context.Context, w *work) error {
	p := w.endpoint
	p.Incarnation = incarnationOf(p, readTestMark(w.obj.Status.Test.Hash).salt)
	undeliverable, addressRefused := heldBy(w.condition(v1alpha1.ConditionAccepted))
	p.Hold = holdOf(holdFacts{
		suspended:      w.obj.Spec.Suspend,
		unresolved:     !w.resolved || undeliverable,
		keyMissing:     len(p.SigningKeys) == 0,
		addressRefused: addressRefused,
		gone:           slices.Contains(w.totals.Gone, p.Incarnation),
	})
	r.hand(w, p)
	return nil
}

// publishUnresolved is for an endpoint that an error keeps from being resolved. What dispatchers know of it stays; when
// they can know nothing, it goes out as held after a few times, since a missing one would lose its deliveries.
func (r *WebhookEndpointReconciler) publishUnresolved(w *work) {
	if w.note.failures++; w.note.revision != "" || w.note.failures < maxFailures {
		return
	}
	p := endpointFrom(w.obj)
	p.Incarnation = incarnationOf(p, "")
	p.Hold = endpoint.HoldUnresolved
	r.hand(w, p)
}

func (r *WebhookEndpointReconciler) hand(w *work, p *endpoint.Endpoint) {
	p.Revision = endpoint.Revision(p)
	first := w.note.revision == ""
	if w.note.revision != p.Revision {
		w.note.revision, w.note.since = p.Revision, w.now
	}
	if before := conditions.Get(w.Base.Status.Conditions, v1alpha1.ConditionReady); first &&
		before.Status == metav1.ConditionTrue && before.ObservedGeneration == w.obj.Generation {
		// After a restart of the manager: dispatchers come back one by one, and that is no news of the endpoint.
		w.note.since = time.Time{}
	}
	r.Registry.Set(p)
	w.note.failures = 0
}

// dispatchers owns status.dispatchers, and waits for the connected ones to take a new revision, for some time.
func (r *WebhookEndpointReconciler) dispatchers(_ context.Context, w *work) error {
	var connected, upToDate int
	if r.Dispatchers != nil {
		connected, upToDate = r.Dispatchers.Taken(w.ref.Namespace, w.endpoint.UID, w.note.revision)
	}
	w.obj.Status.Dispatchers = &v1alpha1.DispatchersStatus{Connected: int32(connected), UpToDate: int32(upToDate)}
	left := takeTimeout - w.now.Sub(w.note.since)
	if upToDate >= connected || left <= 0 {
		// Once all have it, the endpoint is not waiting again for one that connects later.
		w.note.since = time.Time{}
		return nil
	}
	w.waiting = true
	return reconcile.Waiting(left)
}
