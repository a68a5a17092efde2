// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"sync"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/garyclub/webhook-operator/api/v1alpha1"
	"github.com/garyclub/webhook-operator/internal/endpoint"
)

// CacheOptions bound what the manager watches: of all Secrets those with the credentials label, of all ConfigMaps its
// own, of all pods those that are to have a dispatcher, and of these what trimPod leaves. No namespaces means all.
func CacheOptions(namespaces []string) cache.Options {
	o := cache.Options{ByObject: map[client.Object]cache.ByObject{
		&corev1.Secret{}:    {Label: labels.SelectorFromSet(labels.Set{v1alpha1.LabelCredentials: "true"})},
		&corev1.ConfigMap{}: {Field: fields.OneTermEqualSelector("metadata.name", v1alpha1.ConfigMapCA)},
		&corev1.Pod{}:       {Label: labels.SelectorFromSet(labels.Set{v1alpha1.LabelInject: "true"}), Transform: trimPod},
	}}
	if len(namespaces) > 0 {
		o.DefaultNamespaces = map[string]cache.Config{}
		for _, n := range namespaces {
			o.DefaultNamespaces[n] = cache.Config{}
		}
	}
	return o
}

// Barrier stands before the registry and tells when all endpoints that existed at the start have been resolved once.
// Before that no list of endpoints is complete, and a dispatcher must not drop what it lacks.
type Barrier struct {
	Registry
	// Complete is called once.
	Complete func()

	mu      sync.Mutex
	started bool
	early   map[endpoint.Ref]bool // resolved before the list of the start was read
	missing map[endpoint.Ref]bool
}

// Open reads the list of the start, when the cache has synced.
func (b *Barrier) Open(ctx context.Context, reader client.Reader) error {
	list := &v1alpha1.WebhookEndpointList{}
	if err := reader.List(ctx, list); err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.missing = make(map[endpoint.Ref]bool, len(list.Items))
	for i := range list.Items {
		if ref := (endpoint.Ref{Namespace: list.Items[i].Namespace, Name: list.Items[i].Name}); !b.early[ref] {
			b.missing[ref] = true
		}
	}
	b.started, b.early = true, nil
	b.check()
	return nil
}

// Set passes the endpoint on and notes that it is resolved.
func (b *Barrier) Set(p *endpoint.Endpoint) {
	b.Registry.Set(p)
	b.resolved(p.Ref)
}

// Remove passes the removal on; what is gone needs no resolving.
func (b *Barrier) Remove(ref endpoint.Ref) {
	b.Registry.Remove(ref)
	b.resolved(ref)
}

func (b *Barrier) resolved(ref endpoint.Ref) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.started {
		if b.early == nil {
			b.early = map[endpoint.Ref]bool{}
		}
		b.early[ref] = true
		return
	}
	if b.missing[ref] {
		delete(b.missing, ref)
		b.check()
	}
}

func (b *Barrier) check() {
	if len(b.missing) == 0 && b.Complete != nil {
		b.Complete()
		b.Complete = nil
	}
}
