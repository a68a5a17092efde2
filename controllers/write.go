// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"math/rand/v2"
	"time"

	"golang.org/x/time/rate"
	"k8s.io/apimachinery/pkg/api/equality"

	"github.com/garyclub/webhook-operator/api/v1alpha1"
	"github.com/garyclub/webhook-operator/internal/conditions"
)

// cacheLag is how long the cache gets to see our own write, which triggers no reconciliation.
const cacheLag = 50 * time.Millisecond

// write patches the status when it changed and the budget has room; otherwise it comes back. A later reconciliation
// judges anew, so what waits is never an old status.
func (r *WebhookEndpointReconciler) write(ctx context.Context, w *work) error {
	if w.note.replaced != "" && w.note.replaced == w.Base.ResourceVersion {
		// The cache does not have our last write yet, so there is nothing to compare with, and a patch would conflict.
		w.verdict.Wait(cacheLag)
		return nil
	}
	if equality.Semantic.DeepEqual(w.Base.Status, w.obj.Status) {
		w.note.slot.drop()
		return nil
	}
	limiter, interval, about := r.StatusWrites, time.Duration(0), aboutHealth
	if countersOnly(&w.Base.Status, &w.obj.Status) {
		limiter, interval, about = r.CounterWrites, r.CounterInterval, aboutCounters
	}
	if wait := w.note.slot.take(limiter, interval, about, w.now); wait > 0 {
		r.metrics.delayed.WithLabelValues(about).Inc()
		w.verdict.Wait(wait)
		return nil
	}
	if r.WriteContext != nil {
		ctx = r.WriteContext(ctx)
	}
	if err := w.PatchStatus(ctx, w.obj); err != nil {
		w.note.slot.drop()
		return err
	}
	w.note.slot.last = w.now
	if w.obj.ResourceVersion != w.Base.ResourceVersion {
		w.note.replaced = w.Base.ResourceVersion
	}
	r.tell(w)
	return nil
}

// countersOnly says whether the two differ in nothing but what changes with every delivery and every dispatcher.
func countersOnly(before, after *v1alpha1.WebhookEndpointStatus) bool {
	if before.Deliveries == nil {
		return false
	}
	a, b := before.DeepCopy(), after.DeepCopy()
	for _, s := range []*v1alpha1.WebhookEndpointStatus{a, b} {
		s.Deliveries, s.Dispatchers = nil, nil
		c := conditions.Get(s.Conditions, v1alpha1.ConditionDelivering)
		switch c.Reason {
		case v1alpha1.ReasonDelivering, v1alpha1.ReasonFailing, v1alpha1.ReasonNoDeliveriesYet:
			if c.ObservedGeneration == after.ObservedGeneration {
				conditions.Delete(&s.Conditions, v1alpha1.ConditionDelivering)
			}
		}
	}
	return equality.Semantic.DeepEqual(a, b)
}

// slot is an endpoint's turn to write. A turn that was reserved is kept, so that thousands of endpoints take theirs in
// order instead of asking again and again.
type slot struct {
	about string // of the reserved turn; empty when none is
	at    time.Time
	last  time.Time // of the last write
}

// take returns 0 when it is this endpoint's turn, or how long that takes.
func (s *slot) take(limiter *rate.Limiter, interval time.Duration, about string, now time.Time) time.Duration {
	// A turn for health serves counters too; the other way round it may be too late.
	if s.about == about || s.about == aboutHealth {
		if wait := s.at.Sub(now); wait > 0 {
			return wait
		}
		s.about = ""
		return 0
	}
	if early := s.last.Add(interval).Sub(now); early > 0 {
		// Spread, so that what changed together is not written together.
		return early + time.Duration(rand.Float64()*float64(interval)/5)
	}
	if wait := limiter.ReserveN(now, 1).DelayFrom(now); wait > 0 {
		s.about, s.at = about, now.Add(wait)
		return wait
	}
	return 0
}

func (s *slot) drop() { s.about = "" }
