// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"fmt"

	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/garyclub/webhook-operator/api/v1alpha1"
)

// secretNameIndex finds the endpoints that refer to a Secret, whatever for.
const secretNameIndex = "webhooks.gary.club/secret-names"

// secretNames are all Secrets that an endpoint refers to; the generated signing key among them, so that its loss is
// noticed.
func secretNames(obj *v1alpha1.WebhookEndpoint) []string {
	seen := map[string]bool{}
	var names []string
	add := func(name string) {
		if !seen[name] {
			seen[name] = true
			names = append(names, name)
		}
	}
	s := obj.Spec
	if s.URLFrom != nil {
		add(s.URLFrom.SecretKeyRef.Name)
	}
	for _, h := range s.Headers {
		if h.ValueFrom != nil {
			add(h.ValueFrom.SecretKeyRef.Name)
		}
	}
	if s.TLS != nil && s.TLS.CASecretRef != nil {
		add(s.TLS.CASecretRef.Name)
	}
	if s.TLS != nil && s.TLS.ClientCertificateSecretRef != nil {
		add(s.TLS.ClientCertificateSecretRef.Name)
	}
	if s.Signing.SecretRef != nil {
		add(s.Signing.SecretRef.Name)
	} else {
		add(signingSecretName(obj.Name))
	}
	return names
}

func addIndexes(ctx context.Context, indexer client.FieldIndexer) error {
	err := indexer.IndexField(ctx, &v1alpha1.WebhookEndpoint{}, secretNameIndex, func(o client.Object) []string {
		obj, ok := o.(*v1alpha1.WebhookEndpoint)
		if !ok {
			return nil
		}
		return secretNames(obj)
	})
	if err != nil {
		return fmt.Errorf("index endpoints by Secret: %w", err)
	}
	return nil
}

// endpointsOf maps a Secret to the endpoints that refer to it.
func endpointsOf(reader client.Reader) handler.MapFunc {
	return func(ctx context.Context, secret client.Object) []reconcile.Request {
		all := &v1alpha1.WebhookEndpointList{}
		// Reads the cache, which fails for want of an index only.
		if err := reader.List(ctx, all, client.InNamespace(secret.GetNamespace()), client.MatchingFields{secretNameIndex: secret.GetName()}); err != nil {
			return nil
		}
		requests := make([]reconcile.Request, 0, len(all.Items))
		for i := range all.Items {
			requests = append(requests, reconcile.Request{NamespacedName: client.ObjectKeyFromObject(&all.Items[i])})
		}
		return requests
	}
}
