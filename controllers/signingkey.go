// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"fmt"
	"hash/crc32"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/garyclub/webhook-operator/api/v1alpha1"
	"github.com/garyclub/webhook-operator/internal/sign"
)

// signingKey finds or makes the signing key. It owns SigningKeyReady.
func (p *pass) signingKey(ctx context.Context) error {
	name := signingSecret(p.object)
	generated := p.object.Spec.Signing.SecretRef == nil
	secret, found, err := p.secret(ctx, name)
	if err != nil {
		return err
	}
	if found != nil && generated && found.reason == v1alpha1.ReasonSecretNotFound {
		secret, err = p.makeKey(ctx, name)
		if err != nil {
			return err
		}
		found = nil
	}
	if found == nil {
		found = p.readKeys(secret)
	}
	p.noKey = found
	if found != nil {
		p.object.Status.Signing = nil
		p.set(v1alpha1.ConditionSigningKeyReady, metav1.ConditionFalse, found.reason, found.message)
		return nil
	}
	p.object.Status.Signing = &v1alpha1.SigningStatus{SecretName: name, Keys: int32(len(p.resolved.SigningKeys))}
	reason, message := v1alpha1.ReasonReferenced, "requests are signed with the key of the referenced Secret"
	if generated {
		reason, message = v1alpha1.ReasonGenerated, "requests are signed with the key that was made for this endpoint"
	}
	p.set(v1alpha1.ConditionSigningKeyReady, metav1.ConditionTrue, reason, message)
	return nil
}

func (p *pass) readKeys(secret *corev1.Secret) *problem {
	for _, entry := range []string{v1alpha1.KeySigningKey, v1alpha1.KeyPreviousSigningKey} {
		text, ok := secret.Data[entry]
		if !ok && entry == v1alpha1.KeyPreviousSigningKey {
			continue
		}
		key, err := sign.ParseKey(string(text))
		if err != nil {
			return &problem{reason: v1alpha1.ReasonInvalidSigningKey, message: fmt.Sprintf("entry %q of Secret %q: %s", entry, secret.Name, err)}
		}
		p.resolved.SigningKeys = append(p.resolved.SigningKeys, key)
	}
	return nil
}

// makeKey creates the Secret under a name that follows from the endpoint's, so that a repeat finds it.
func (p *pass) makeKey(ctx context.Context, name string) (*corev1.Secret, error) {
	secret := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: p.object.Namespace, Name: name, Labels: map[string]string{
			v1alpha1.LabelCredentials: "true", "app.kubernetes.io/managed-by": "webhook-operator"}},
		Data: map[string][]byte{v1alpha1.KeySigningKey: []byte(sign.FormatKey(sign.NewKey()))},
	}
	if p.object.Spec.Signing.DeletionPolicy == v1alpha1.DeletionPolicyDelete {
		secret.OwnerReferences = []metav1.OwnerReference{{APIVersion: v1alpha1.GroupVersion.String(), Kind: "WebhookEndpoint",
			Name: p.object.Name, UID: p.object.UID}}
	}
	if err := p.reconciler.Create(ctx, secret); err != nil && !apierrors.IsAlreadyExists(err) {
		return nil, fmt.Errorf("make the signing key: %w", err)
	} else if err != nil {
		return nil, fmt.Errorf("the signing key was made a moment ago: %w", err)
	}
	return secret, nil
}

// signingSecret is the name of the Secret with the signing key.
func signingSecret(object *v1alpha1.WebhookEndpoint) string {
	if ref := object.Spec.Signing.SecretRef; ref != nil {
		return ref.Name
	}
	const suffix = "-webhook-signing"
	return shortened(object.Name, 253-len(suffix)) + suffix
}

func crc(s string) uint32 { return crc32.ChecksumIEEE([]byte(s)) }
