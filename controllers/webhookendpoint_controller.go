// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/events"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/garyclub/webhook-operator/api/v1alpha1"
	"github.com/garyclub/webhook-operator/internal/conditions"
	"github.com/garyclub/webhook-operator/internal/endpoint"
	"github.com/garyclub/webhook-operator/internal/reconcile"
)

// +kubebuilder:rbac:groups=webhooks.gary.club,resources=webhookendpoints,verbs=list;watch
// +kubebuilder:rbac:groups=webhooks.gary.club,resources=webhookendpoints/status,verbs=patch
// +kubebuilder:rbac:groups="",resources=secrets,verbs=get;list;watch;create;patch
// +kubebuilder:rbac:groups=events.k8s.io,resources=events,verbs=create;patch

// WebhookEndpointReconciler judges WebhookEndpoints.
type WebhookEndpointReconciler struct {
	client.Client
	// Live reads past the cache, which holds labelled Secrets only.
	Live   client.Reader
	Events events.EventRecorder
	Options

	metrics *Metrics
	notes   notes
}

// work is one endpoint in the hands of the steps.
type work struct {
	*reconcile.Patcher[*v1alpha1.WebhookEndpoint]
	obj  *v1alpha1.WebhookEndpoint
	ref  endpoint.Ref
	now  time.Time
	note *note
	// endpoint is what the steps resolve; nobody changes it once it is published.
	endpoint *endpoint.Endpoint
	// resolved says that URL, headers and TLS material are in order.
	resolved bool
	// place stands for where a test event goes.
	place   string
	totals  Totals
	known   bool // totals are
	waiting bool // for dispatchers to take the revision
	verdict reconcile.Verdict
}

func (w *work) set(c metav1.Condition) {
	conditions.Set(&w.obj.Status.Conditions, w.obj.Generation, c)
}

func (w *work) condition(kind string) metav1.Condition {
	return conditions.Get(w.obj.Status.Conditions, kind)
}

// countersWait is how soon a reconciliation looks again whether the counters are loaded. A new leader needs a moment.
const countersWait = 100 * time.Millisecond

// Reconcile is the table of contents.
func (r *WebhookEndpointReconciler) Reconcile(ctx context.Context, request ctrl.Request) (result ctrl.Result, err error) {
	if r.Counters != nil && !r.Counters.Loaded() {
		// Without them the hold of a 410 is not known: the endpoint would go out without it, and so would deliveries.
		return ctrl.Result{RequeueAfter: countersWait}, nil
	}
	ref := endpoint.Ref{Namespace: request.Namespace, Name: request.Name}
	obj := &v1alpha1.WebhookEndpoint{}
	err = r.Get(ctx, request.NamespacedName, obj)
	if apierrors.IsNotFound(err) || err == nil && !obj.DeletionTimestamp.IsZero() {
		r.forget(ref)
		return ctrl.Result{}, nil
	}
	if err != nil {
		return ctrl.Result{}, err
	}
	w := r.begin(obj, ref)
	defer func() { result, err = r.finish(ctx, w) }()

	for _, step := range []func(context.Context, *work) error{
		r.resolveRefs, // SigningKeyReady, and Accepted when something is missing
		r.inspect,     // Accepted
		r.test,        // TestDelivered
		r.publish,     // to the dispatchers
		r.dispatchers, // who has taken it
		r.deliveries,  // Delivering
	} {
		if !w.verdict.Add(step(ctx, w)) {
			return ctrl.Result{}, nil
		}
	}
	return ctrl.Result{}, nil
}

func (r *WebhookEndpointReconciler) begin(obj *v1alpha1.WebhookEndpoint, ref endpoint.Ref) *work {
	w := &work{Patcher: reconcile.NewPatcher(r.Client, obj), obj: obj, ref: ref, now: r.Now(), note: r.notes.of(ref, string(obj.UID))}
	if r.Counters != nil {
		w.totals, w.known = r.Counters.Totals(ref.Namespace, string(obj.UID))
	}
	return w
}

// forget is what a deletion comes to: the registry drops the endpoint, and the dispatchers give its name a minute.
func (r *WebhookEndpointReconciler) forget(ref endpoint.Ref) {
	r.Registry.Remove(ref)
	r.Prober.Forget(ref)
	r.notes.drop(ref)
}

// finish summarises and writes the status, whatever the steps came to.
func (r *WebhookEndpointReconciler) finish(ctx context.Context, w *work) (ctrl.Result, error) {
	if w.verdict.Err != nil {
		r.publishUnresolved(w)
	}
	summarise(w)
	if err := r.write(ctx, w); err != nil && w.verdict.Err == nil {
		w.verdict.Err = err
	}
	if apierrors.IsConflict(w.verdict.Err) {
		// Read from a cache that is behind: what is new there comes by itself, and this covers the case that it came.
		w.verdict.Err = nil
		w.verdict.Wait(time.Second)
	}
	return w.verdict.Result()
}
