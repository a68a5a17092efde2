// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"fmt"
	"strings"
	"time"
	"unicode"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/garyclub/webhook-operator/api/v1alpha1"
	"github.com/garyclub/webhook-operator/internal/egress"
	"github.com/garyclub/webhook-operator/internal/endpoint"
	"github.com/garyclub/webhook-operator/internal/event"
)

// resolve turns the spec and the Secrets that it names into an endpoint. It owns half of Accepted: the references.
func (p *pass) resolve(ctx context.Context) error {
	spec := &p.object.Spec
	p.resolved = &endpoint.Endpoint{
		Ref: endpoint.Ref{Namespace: p.object.Namespace, Name: p.object.Name}, UID: string(p.object.UID),
		Generation: p.object.Generation, URL: spec.URL, Agents: spec.Agents,
		Timeout: time.Duration(spec.TimeoutSeconds) * time.Second, MaxInFlight: int(spec.MaxInFlight),
		Retry: endpoint.Retry{MaxRetries: int(spec.Retry.MaxRetries),
			InitialBackoff: time.Duration(spec.Retry.InitialBackoffSeconds) * time.Second,
			MaxBackoff:     time.Duration(spec.Retry.MaxBackoffSeconds) * time.Second,
			Deadline:       time.Duration(spec.Retry.DeadlineSeconds) * time.Second},
	}
	for _, t := range spec.Events {
		p.resolved.Events = append(p.resolved.Events, event.Type(t))
	}
	for _, c := range spec.SuccessCodes {
		p.resolved.SuccessCodes = append(p.resolved.SuccessCodes, string(c))
	}
	for _, step := range []func(context.Context) (*problem, error){p.resolveURL, p.resolveHeaders, p.resolveTLS} {
		found, err := step(ctx)
		if err != nil {
			return err
		}
		if found != nil {
			p.unresolved = found
			return nil
		}
	}
	return nil
}

func (p *pass) resolveURL(ctx context.Context) (*problem, error) {
	from := p.object.Spec.URLFrom
	if from == nil {
		return nil, nil
	}
	value, found, err := p.secretValue(ctx, from.SecretKeyRef)
	if found != nil || err != nil {
		return found, err
	}
	url := strings.TrimSpace(string(value))
	if egress.Host(url) == "" || strings.Contains(url, "#") || len(url) > 2048 || strings.ContainsFunc(url, unicode.IsSpace) {
		return &problem{reason: v1alpha1.ReasonInvalidURL, message: fmt.Sprintf("entry %q of Secret %q is not an absolute https URL without user information and fragment: correct the Secret", from.SecretKeyRef.Key, from.SecretKeyRef.Name)}, nil
	}
	p.resolved.URL = url
	return nil, nil
}

func (p *pass) resolveHeaders(ctx context.Context) (*problem, error) {
	for _, h := range p.object.Spec.Headers {
		header := endpoint.Header{Name: h.Name}
		if h.Value != nil {
			header.Value = *h.Value
		}
		if h.ValueFrom != nil {
			value, found, err := p.secretValue(ctx, h.ValueFrom.SecretKeyRef)
			if found != nil || err != nil {
				return found, err
			}
			header.Value = strings.TrimSpace(string(value))
			if strings.ContainsFunc(header.Value, unicode.IsControl) {
				return &problem{reason: v1alpha1.ReasonInvalidHeader, message: fmt.Sprintf("entry %q of Secret %q holds control characters and cannot be a header value: correct the Secret", h.ValueFrom.SecretKeyRef.Key, h.ValueFrom.SecretKeyRef.Name)}, nil
			}
		}
		p.resolved.Headers = append(p.resolved.Headers, header)
	}
	return nil, nil
}

func (p *pass) resolveTLS(ctx context.Context) (*problem, error) {
	spec := p.object.Spec.TLS
	if spec == nil {
		return nil, nil
	}
	p.resolved.TLS.ServerName = spec.ServerName
	if ref := spec.CASecretRef; ref != nil {
		value, found, err := p.secretValue(ctx, v1alpha1.SecretKeyReference{Name: ref.Name, Key: ref.Key})
		if found != nil || err != nil {
			return found, err
		}
		p.resolved.TLS.CABundle = value
	}
	if ref := spec.ClientCertificateSecretRef; ref != nil {
		secret, found, err := p.secret(ctx, ref.Name)
		if found != nil || err != nil {
			return found, err
		}
		p.resolved.TLS.ClientCert, p.resolved.TLS.ClientKey = secret.Data[corev1.TLSCertKey], secret.Data[corev1.TLSPrivateKeyKey]
		if len(p.resolved.TLS.ClientCert) == 0 {
			return &problem{reason: v1alpha1.ReasonSecretKeyNotFound, message: fmt.Sprintf("Secret %q has no entry %q: create it with kubectl create secret tls", ref.Name, corev1.TLSCertKey)}, nil
		}
	}
	if egress.CheckTLS(p.resolved.TLS) != nil {
		return &problem{reason: v1alpha1.ReasonInvalidTLS, message: "the CA bundle or the client certificate is not valid PEM, or its key does not fit: correct the Secrets that spec.tls names"}, nil
	}
	return nil, nil
}

func (p *pass) secretValue(ctx context.Context, ref v1alpha1.SecretKeyReference) ([]byte, *problem, error) {
	secret, found, err := p.secret(ctx, ref.Name)
	if found != nil || err != nil {
		return nil, found, err
	}
	value, ok := secret.Data[ref.Key]
	if !ok || len(value) == 0 {
		return nil, &problem{reason: v1alpha1.ReasonSecretKeyNotFound, message: fmt.Sprintf("Secret %q has no entry %q: add it or correct the reference", ref.Name, ref.Key)}, nil
	}
	return value, nil, nil
}

// secret reads a labelled Secret from the cache. What is not there is asked for once more, live and by metadata alone,
// to tell a missing Secret from one without the label.
func (p *pass) secret(ctx context.Context, name string) (*corev1.Secret, *problem, error) {
	key := client.ObjectKey{Namespace: p.object.Namespace, Name: name}
	secret := &corev1.Secret{}
	err := p.reconciler.Get(ctx, key, secret)
	if err == nil {
		return secret, nil, nil
	}
	if !apierrors.IsNotFound(err) {
		return nil, nil, err
	}
	there := &metav1.PartialObjectMetadata{}
	there.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("Secret"))
	err = p.reconciler.Live.Get(ctx, key, there)
	switch {
	case apierrors.IsNotFound(err):
		return nil, &problem{reason: v1alpha1.ReasonSecretNotFound, message: fmt.Sprintf("Secret %q does not exist in namespace %q: create it with the label %s=true", name, key.Namespace, v1alpha1.LabelCredentials)}, nil
	case err != nil:
		return nil, nil, err
	case there.Labels[v1alpha1.LabelCredentials] == "true":
		p.again(time.Second) // the cache is about to have it
	}
	return nil, &problem{reason: v1alpha1.ReasonSecretNotLabelled, message: fmt.Sprintf("Secret %q may not be used for webhooks yet: kubectl label secret %s --namespace %s %s=true", name, name, key.Namespace, v1alpha1.LabelCredentials)}, nil
}

// endpointsOfSecret maps a Secret to the endpoints that refer to it.
func (r *WebhookEndpointReconciler) endpointsOfSecret(ctx context.Context, secret client.Object) []reconcile.Request {
	list := &v1alpha1.WebhookEndpointList{}
	if err := r.List(ctx, list, client.InNamespace(secret.GetNamespace())); err != nil {
		return nil // the cache is closing
	}
	var requests []reconcile.Request
	for i := range list.Items {
		if refersTo(&list.Items[i], secret.GetName()) {
			requests = append(requests, reconcile.Request{NamespacedName: client.ObjectKeyFromObject(&list.Items[i])})
		}
	}
	return requests
}

func refersTo(object *v1alpha1.WebhookEndpoint, secret string) bool {
	spec := &object.Spec
	if spec.URLFrom != nil && spec.URLFrom.SecretKeyRef.Name == secret || signingSecret(object) == secret {
		return true
	}
	for _, h := range spec.Headers {
		if h.ValueFrom != nil && h.ValueFrom.SecretKeyRef.Name == secret {
			return true
		}
	}
	t := spec.TLS
	return t != nil && (t.CASecretRef != nil && t.CASecretRef.Name == secret ||
		t.ClientCertificateSecretRef != nil && t.ClientCertificateSecretRef.Name == secret)
}
