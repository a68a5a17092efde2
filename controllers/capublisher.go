// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/handler"

	"github.com/garyclub/webhook-operator/api/v1alpha1"
)

// +kubebuilder:rbac:groups="",resources=configmaps,verbs=create
// +kubebuilder:rbac:groups="",resources=configmaps,resourceNames=webhooks-ca,verbs=get;list;watch;patch

// caCheck is how often the published CA is compared with the manager's, which rotates with weeks of overlap.
const caCheck = 5 * time.Minute

// CAPublisher keeps the manager's CA in a ConfigMap of each namespace that has endpoints, so that pods can mount it. It
// stays when the last endpoint goes: pods may still mount it.
type CAPublisher struct {
	client.Client
	// Bundle is what dispatchers are to trust, in PEM form; empty when it is not known yet.
	Bundle func() []byte
}

// SetupWithManager adds the publisher to a manager whose cache has CacheOptions.
func (r *CAPublisher) SetupWithManager(mgr ctrl.Manager) error {
	return ctrl.NewControllerManagedBy(mgr).
		Named("ca").
		Watches(&v1alpha1.WebhookEndpoint{}, handler.EnqueueRequestsFromMapFunc(configMapOf)).
		Watches(&corev1.ConfigMap{}, handler.EnqueueRequestsFromMapFunc(configMapOf)).
		Complete(r)
}

// configMapOf maps any object to its namespace's ConfigMap; the queue joins those of one namespace.
func configMapOf(_ context.Context, o client.Object) []ctrl.Request {
	return []ctrl.Request{{NamespacedName: types.NamespacedName{Namespace: o.GetNamespace(), Name: v1alpha1.ConfigMapCA}}}
}

// Reconcile brings the ConfigMap of one namespace up to date.
func (r *CAPublisher) Reconcile(ctx context.Context, request ctrl.Request) (ctrl.Result, error) {
	used := &v1alpha1.WebhookEndpointList{}
	if err := r.List(ctx, used, client.InNamespace(request.Namespace), client.Limit(1), client.UnsafeDisableDeepCopy); err != nil {
		return ctrl.Result{}, fmt.Errorf("list endpoints: %w", err)
	}
	if len(used.Items) == 0 {
		return ctrl.Result{}, nil
	}
	bundle := string(r.Bundle())
	if bundle == "" {
		return ctrl.Result{RequeueAfter: time.Second}, nil
	}
	if err := r.publish(ctx, request.NamespacedName, bundle); err != nil {
		return ctrl.Result{}, err
	}
	return ctrl.Result{RequeueAfter: caCheck}, nil
}

func (r *CAPublisher) publish(ctx context.Context, key types.NamespacedName, bundle string) error {
	published := &corev1.ConfigMap{}
	err := r.Get(ctx, key, published)
	if apierrors.IsNotFound(err) {
		return r.create(ctx, key, bundle)
	}
	if err != nil {
		return fmt.Errorf("read ConfigMap %s: %w", key.Name, err)
	}
	if published.Data[v1alpha1.KeyCA] == bundle {
		return nil
	}
	base := published.DeepCopy()
	if published.Data == nil {
		published.Data = map[string]string{}
	}
	published.Data[v1alpha1.KeyCA] = bundle
	if err := r.Patch(ctx, published, client.MergeFrom(base)); err != nil {
		return fmt.Errorf("repair ConfigMap %s: %w", key.Name, err)
	}
	return nil
}

func (r *CAPublisher) create(ctx context.Context, key types.NamespacedName, bundle string) error {
	fresh := &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Namespace: key.Namespace, Name: key.Name, Labels: map[string]string{managedByLabel: managedBy}},
		Data:       map[string]string{v1alpha1.KeyCA: bundle},
	}
	err := r.Create(ctx, fresh)
	if apierrors.IsAlreadyExists(err) || apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause) {
		return nil // the watch tells of the one; the other needs none
	}
	if err != nil {
		return fmt.Errorf("create ConfigMap %s: %w", key.Name, err)
	}
	return nil
}
