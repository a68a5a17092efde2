// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/time/rate"
	corev1 "k8s.io/api/core/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/metrics"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"github.com/garyclub/webhook-operator/api/v1alpha1"
)

// maxConcurrentReconciles is more than the work needs: one that waits for its write may not hold up the next.
const maxConcurrentReconciles = 16

// minHashKey is what HMAC-SHA-256 can make use of.
const minHashKey = 32

// Options connect the reconciler.
type Options struct {
	Registry Registry
	Prober   *Prober
	// Recorder, Dispatchers and Counters may be nil.
	Recorder    Recorder
	Dispatchers Dispatchers
	Counters    Counters
	// HashKey makes status.test.hash, of at least 32 bytes, the same for all replicas and restarts. When it was lost and
	// is another one, each endpoint counts as changed: it is not ready until it was tested once more. Those tests go out as
	// any others do, by a few workers and a second apart for each host, so no receiver gets them all at once.
	HashKey []byte
	// Changed delivers the endpoints that something outside the API server has news about: the prober, the dispatchers
	// and the counters.
	Changed source.Source
	// Now is time.Now by default.
	Now func() time.Time

	// StatusWrites paces status writes that tell of another health: 10 a second by default, in bursts of 100.
	StatusWrites *rate.Limiter
	// CounterWrites paces those of counters alone: 8 a second by default, in bursts of 20.
	CounterWrites *rate.Limiter
	// CounterInterval is how long an endpoint's counters wait at the least between two writes; 10 s by default.
	CounterInterval time.Duration
	// WriteContext marks status writes for the manager's write budget; it may be nil.
	WriteContext func(context.Context) context.Context
	// Registerer takes the metrics; controller-runtime's by default.
	Registerer prometheus.Registerer
}

func (o *Options) complete() error {
	if o.Registry == nil || o.Prober == nil || o.Changed == nil {
		return errors.New("controllers: Registry, Prober and Changed are needed")
	}
	if len(o.HashKey) < minHashKey {
		return fmt.Errorf("controllers: HashKey has %d bytes, and needs %d", len(o.HashKey), minHashKey)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.StatusWrites == nil {
		o.StatusWrites = rate.NewLimiter(10, 100)
	}
	if o.CounterWrites == nil {
		o.CounterWrites = rate.NewLimiter(8, 20)
	}
	if o.CounterInterval == 0 {
		o.CounterInterval = 10 * time.Second
	}
	if o.Registerer == nil {
		o.Registerer = metrics.Registry
	}
	return nil
}

// SetupWithManager adds the reconciler and its indexes to a manager whose cache has CacheOptions. The prober is started
// by whoever made it, on the leader.
func (r *WebhookEndpointReconciler) SetupWithManager(mgr ctrl.Manager) error {
	if err := r.complete(); err != nil {
		return err
	}
	r.metrics = NewMetrics(r.Registerer)
	r.Prober.recorder, r.Prober.metrics = r.Recorder, r.metrics
	if err := addIndexes(context.Background(), mgr.GetFieldIndexer()); err != nil {
		return err
	}
	// Own status writes are no reason to look again.
	relevant := predicate.Or[client.Object](predicate.GenerationChangedPredicate{}, predicate.AnnotationChangedPredicate{})
	return ctrl.NewControllerManagedBy(mgr).
		For(&v1alpha1.WebhookEndpoint{}, builder.WithPredicates(relevant)).
		Watches(&corev1.Secret{}, handler.EnqueueRequestsFromMapFunc(endpointsOf(mgr.GetClient()))).
		WatchesRawSource(r.Changed).
		WithOptions(controller.Options{MaxConcurrentReconciles: maxConcurrentReconciles}).
		Complete(r)
}
