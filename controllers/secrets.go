// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/garyclub/webhook-operator/api/v1alpha1"
)

// credentialsValue is the value of the credentials label.
const credentialsValue = "true"

// refusal is why something that the spec refers to cannot be used. Its message is for people and names objects only,
// never what is in them.
type refusal struct {
	reason  string
	message string
	// stalled: a Secret is there and wrong, so there is nothing to wait for but a person.
	stalled bool
}

// Error is the message.
func (r *refusal) Error() string { return r.message }

// secretReader reads Secrets of one namespace for one reconciliation. The cache holds labelled Secrets only; for
// others the API server is asked, which also covers a Secret that is too new for the cache.
type secretReader struct {
	cache, live client.Reader
	namespace   string
	read        map[string]*corev1.Secret
}

// get returns the Secret, or a *refusal when it is not there or not labelled. field is where the spec names it.
func (s *secretReader) get(ctx context.Context, name, field string) (*corev1.Secret, error) {
	if known := s.read[name]; known != nil {
		return known, nil
	}
	key := client.ObjectKey{Namespace: s.namespace, Name: name}
	secret := &corev1.Secret{}
	err := s.cache.Get(ctx, key, secret)
	if apierrors.IsNotFound(err) {
		secret, err = s.getLive(ctx, key, field)
	}
	if err != nil {
		return nil, err
	}
	s.read[name] = secret
	return secret, nil
}

// getLive looks at the metadata first: the content of an unlabelled Secret does not even come into memory.
func (s *secretReader) getLive(ctx context.Context, key client.ObjectKey, field string) (*corev1.Secret, error) {
	meta := &metav1.PartialObjectMetadata{}
	meta.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("Secret"))
	err := s.live.Get(ctx, key, meta)
	if apierrors.IsNotFound(err) {
		return nil, secretNotFound(key.Name, field)
	}
	if err != nil {
		return nil, fmt.Errorf("read metadata of Secret %q: %w", key.Name, err)
	}
	if meta.Labels[v1alpha1.LabelCredentials] != credentialsValue {
		return nil, secretNotLabelled(key.Name, field)
	}
	secret := &corev1.Secret{}
	if err := s.live.Get(ctx, key, secret); err != nil {
		return nil, fmt.Errorf("read Secret %q: %w", key.Name, err)
	}
	if secret.Labels[v1alpha1.LabelCredentials] != credentialsValue {
		return nil, secretNotLabelled(key.Name, field)
	}
	return secret, nil
}

// entry returns one entry of a Secret.
func (s *secretReader) entry(ctx context.Context, name, key, field string) ([]byte, error) {
	secret, err := s.get(ctx, name, field)
	if err != nil {
		return nil, err
	}
	value, ok := secret.Data[key]
	if !ok || len(value) == 0 {
		return nil, &refusal{reason: v1alpha1.ReasonSecretKeyNotFound,
			message: fmt.Sprintf("Secret %q, which %s refers to, has no entry %q: add it", name, field, key)}
	}
	return value, nil
}

func secretNotFound(name, field string) *refusal {
	return &refusal{reason: v1alpha1.ReasonSecretNotFound,
		message: fmt.Sprintf("Secret %q, which %s refers to, does not exist: create it, with the label %s: %q", name, field, v1alpha1.LabelCredentials, credentialsValue)}
}

func secretNotLabelled(name, field string) *refusal {
	return &refusal{reason: v1alpha1.ReasonSecretNotLabelled,
		message: fmt.Sprintf("Secret %q, which %s refers to, is not marked for use by endpoints: kubectl label secret %s %s=%s",
			name, field, name, v1alpha1.LabelCredentials, credentialsValue)}
}
