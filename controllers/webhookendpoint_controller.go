// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package controllers has one reconciler per kind. They judge configuration and summarise facts; the dispatcher
// delivers. Nothing here waits for the network: a prober looks at addresses and sends test events, and the reconciler
// looks at what it found.
package controllers

import (
	"context"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/tools/events"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"github.com/garyclub/webhook-operator/api/v1alpha1"
	"github.com/garyclub/webhook-operator/internal/delivery"
	"github.com/garyclub/webhook-operator/internal/endpoint"
)

// +kubebuilder:rbac:groups=webhooks.gary.club,resources=webhookendpoints,verbs=get;list;watch
// +kubebuilder:rbac:groups=webhooks.gary.club,resources=webhookendpoints/status,verbs=patch
// +kubebuilder:rbac:groups="",resources=secrets,verbs=get;list;watch;create
// +kubebuilder:rbac:groups=events.k8s.io,resources=events,verbs=create;patch

// Registry takes resolved endpoints; dispatchers are streamed from it.
type Registry interface {
	Set(p *endpoint.Endpoint)
	Remove(ref endpoint.Ref)
}

// Dispatchers knows who is connected, and who delivers by a revision.
type Dispatchers interface {
	Taken(namespace, uid, revision string) (connected, upToDate int)
}

// Totals are the sums over all queues about one endpoint.
type Totals struct {
	Succeeded, Failed, Pending, Lost, Unrecorded int64
	LastSuccess, LastFailure                     time.Time
	// Gone are the incarnations that answered 410.
	Gone []string
}

// Counters knows the totals; false before anything was reported.
type Counters interface {
	Totals(namespace, uid string) (Totals, bool)
}

// Recorder takes the records of test events.
type Recorder interface {
	Offer(ctx context.Context, namespace string, r delivery.Record, done func(recorded bool)) error
}

// Options connect the reconciler.
type Options struct {
	Registry    Registry
	Dispatchers Dispatchers
	Counters    Counters
	Recorder    Recorder
	Prober      *Prober
	Now         func() time.Time
	// Changed delivers the endpoints that something outside the API server has news about.
	Changed source.Source
}

// WebhookEndpointReconciler judges WebhookEndpoints.
type WebhookEndpointReconciler struct {
	client.Client
	// Live reads past the cache, which holds labelled Secrets only.
	Live   client.Reader
	Events events.EventRecorder
	Options
}

// SetupWithManager registers the watches: endpoints, and Secrets with the credentials label.
func (r *WebhookEndpointReconciler) SetupWithManager(mgr ctrl.Manager) error {
	return ctrl.NewControllerManagedBy(mgr).
		For(&v1alpha1.WebhookEndpoint{}).
		Watches(&corev1.Secret{}, handler.EnqueueRequestsFromMapFunc(r.endpointsOfSecret)).
		WatchesRawSource(r.Changed).
		WithOptions(controller.Options{MaxConcurrentReconciles: 4}).
		Complete(r)
}

// Reconcile brings one endpoint's status up to date and publishes what it resolved to.
func (r *WebhookEndpointReconciler) Reconcile(ctx context.Context, request ctrl.Request) (ctrl.Result, error) {
	object := &v1alpha1.WebhookEndpoint{}
	err := r.Get(ctx, request.NamespacedName, object)
	if apierrors.IsNotFound(err) || err == nil && !object.DeletionTimestamp.IsZero() {
		r.Registry.Remove(endpoint.Ref{Namespace: request.Namespace, Name: request.Name})
		r.Prober.Forget(request.NamespacedName)
		return ctrl.Result{}, nil
	}
	if err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	before := object.DeepCopy()
	pass := &pass{reconciler: r, object: object, now: r.Now()}
	err = pass.run(ctx)
	if !equality.Semantic.DeepEqual(before.Status, object.Status) {
		if patchErr := r.Status().Patch(ctx, object, client.MergeFrom(before)); patchErr != nil {
			return ctrl.Result{}, client.IgnoreNotFound(patchErr)
		}
		r.announce(before, object)
	}
	return ctrl.Result{RequeueAfter: pass.wait}, err
}
