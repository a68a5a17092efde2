// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/garyclub/webhook-operator/api/v1alpha1"
)

// +kubebuilder:rbac:groups="",resources=configmaps,verbs=get;list;watch;create;update

// caRefresh is how soon a rotated CA reaches the namespaces; it is in use weeks later.
const caRefresh = time.Hour

// CAPublisher keeps the manager's CA in the ConfigMap webhooks-ca of each namespace that has endpoints, so that pods can
// project it. Edits are repaired.
type CAPublisher struct {
	client.Client
	// Bundle is what dispatchers are to trust, in PEM form.
	Bundle func() []byte
}

// SetupWithManager registers the watches.
func (p *CAPublisher) SetupWithManager(mgr ctrl.Manager) error {
	byNamespace := handler.EnqueueRequestsFromMapFunc(func(_ context.Context, o client.Object) []reconcile.Request {
		return []reconcile.Request{{NamespacedName: client.ObjectKey{Namespace: o.GetNamespace(), Name: v1alpha1.ConfigMapCA}}}
	})
	builder := ctrl.NewControllerManagedBy(mgr).Named("ca").
		Watches(&v1alpha1.WebhookEndpoint{}, byNamespace).
		Watches(&corev1.ConfigMap{}, byNamespace)
	return builder.Complete(p)
}

// Reconcile publishes the CA into one namespace.
func (p *CAPublisher) Reconcile(ctx context.Context, request ctrl.Request) (ctrl.Result, error) {
	endpoints := &v1alpha1.WebhookEndpointList{}
	if err := p.List(ctx, endpoints, client.InNamespace(request.Namespace), client.Limit(1)); err != nil {
		return ctrl.Result{}, err
	}
	if len(endpoints.Items) == 0 {
		return ctrl.Result{}, nil
	}
	bundle := string(p.Bundle())
	published := &corev1.ConfigMap{}
	err := p.Get(ctx, request.NamespacedName, published)
	if apierrors.IsNotFound(err) {
		err = p.Create(ctx, &corev1.ConfigMap{
			ObjectMeta: metav1.ObjectMeta{Namespace: request.Namespace, Name: request.Name,
				Labels: map[string]string{"app.kubernetes.io/managed-by": "webhook-operator"}},
			Data: map[string]string{v1alpha1.KeyCA: bundle},
		})
		if apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause) {
			return ctrl.Result{}, nil
		}
		return ctrl.Result{RequeueAfter: caRefresh}, err
	}
	if err != nil {
		return ctrl.Result{}, err
	}
	if published.Data[v1alpha1.KeyCA] != bundle {
		published = published.DeepCopy()
		published.Data = map[string]string{v1alpha1.KeyCA: bundle}
		err = p.Update(ctx, published)
	}
	return ctrl.Result{RequeueAfter: caRefresh}, err
}
