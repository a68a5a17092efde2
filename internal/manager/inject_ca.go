// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package manager

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	"k8s.io/apimachinery/pkg/fields"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/garyclub/webhook-operator/controllers"
)

// +kubebuilder:rbac:groups=admissionregistration.k8s.io,resources=mutatingwebhookconfigurations,resourceNames=webhook-manager,verbs=list;watch;patch

// injectConfiguration is the object in config/webhook, ownWebhooks are the webhooks in it.
const injectConfiguration = "webhook-manager"

var ownWebhooks = []string{"inject.webhooks.gary.club", "redelivery.webhooks.gary.club"}

// caCheck is how long the configuration may lack a new CA. A look costs nothing: the object is in the cache.
const caCheck = 5 * time.Second

// cacheOptions watch one MutatingWebhookConfiguration and no other: the manager may not even read those.
func (a *assembly) cacheOptions() cache.Options {
	o := controllers.CacheOptions(a.options.Namespaces)
	o.ByObject[&admissionregistrationv1.MutatingWebhookConfiguration{}] = cache.ByObject{
		Field: fields.OneTermEqualSelector("metadata.name", injectConfiguration)}
	return o
}

// caInjector keeps the manager's CA in the webhook's configuration, so that the API server trusts the injection. It works
// on the leader alone.
type caInjector struct {
	client client.Client
	bundle func() []byte
}

// SetupWithManager adds it to a manager whose cache has cacheOptions.
func (c *caInjector) SetupWithManager(mgr ctrl.Manager) error {
	return ctrl.NewControllerManagedBy(mgr).
		Named("inject-ca").
		For(&admissionregistrationv1.MutatingWebhookConfiguration{}).
		Complete(c)
}

// Reconcile writes nothing but the bundle. The rest of the object is its owner's.
func (c *caInjector) Reconcile(ctx context.Context, request ctrl.Request) (ctrl.Result, error) {
	found := &admissionregistrationv1.MutatingWebhookConfiguration{}
	if err := c.client.Get(ctx, request.NamespacedName, found); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err) // the watch tells of a new one
	}
	trusting := found.DeepCopy()
	if !trust(trusting, c.bundle()) {
		return ctrl.Result{RequeueAfter: caCheck}, nil
	}
	// Webhooks are merged by their names: one that another writer adds meanwhile stays.
	if err := c.client.Patch(ctx, trusting, client.StrategicMergeFrom(found)); err != nil {
		return ctrl.Result{}, fmt.Errorf("put the CA into the webhook configuration: %w", err)
	}
	return ctrl.Result{RequeueAfter: caCheck}, nil
}

// trust says whether it changed anything.
func trust(o *admissionregistrationv1.MutatingWebhookConfiguration, bundle []byte) bool {
	changed := false
	for i := range o.Webhooks {
		w := &o.Webhooks[i]
		if slices.Contains(ownWebhooks, w.Name) && len(bundle) > 0 && !bytes.Equal(w.ClientConfig.CABundle, bundle) {
			w.ClientConfig.CABundle, changed = bundle, true
		}
	}
	return changed
}
