// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/garyclub/webhook-operator/api/v1alpha1"
	"github.com/garyclub/webhook-operator/internal/sign"
)

const (
	signingSuffix  = "-webhook-signing"
	managedByLabel = "app.kubernetes.io/managed-by"
	managedBy      = "webhook-operator"
	maxNameBytes   = 253
)

// signingSecretName is the name of a generated key's Secret: the same for an endpoint of the same name, so that one
// that was deleted and created again goes on with the key that receivers know.
func signingSecretName(endpointName string) string {
	if len(endpointName)+len(signingSuffix) <= maxNameBytes {
		return endpointName + signingSuffix
	}
	hash := "-" + shortHash("name", endpointName)
	cut := strings.TrimRight(endpointName[:maxNameBytes-len(signingSuffix)-len(hash)], ".-")
	return cut + hash + signingSuffix
}

// resolveSigningKey finds the key, or makes one when the spec refers to none. Deliveries are held without one.
func (r *WebhookEndpointReconciler) resolveSigningKey(ctx context.Context, secrets *secretReader, w *work) error {
	name, reason, message := signingSecretName(w.obj.Name), v1alpha1.ReasonGenerated, ""
	var secret *corev1.Secret
	var err error
	if ref := w.obj.Spec.Signing.SecretRef; ref != nil {
		name, reason = ref.Name, v1alpha1.ReasonReferenced
		secret, err = secrets.get(ctx, name, "spec.signing.secretRef")
	} else {
		secret, err = r.generatedSecret(ctx, secrets, w, name)
	}
	if err != nil {
		return err
	}
	keys, err := parseSigningKeys(secret)
	if err != nil {
		return err
	}
	w.endpoint.SigningKeys = keys
	w.obj.Status.Signing = &v1alpha1.SigningStatus{SecretName: name, Keys: int32(len(keys))}
	message = fmt.Sprintf("requests are signed with the key in Secret %q", name)
	if len(keys) > 1 {
		message += ", and with the key before it until previous-signing-key is removed"
	}
	w.set(keyCondition(reason, message))
	return nil
}

func parseSigningKeys(secret *corev1.Secret) ([][]byte, error) {
	var keys [][]byte
	for _, entry := range []string{v1alpha1.KeySigningKey, v1alpha1.KeyPreviousSigningKey} {
		text, ok := secret.Data[entry]
		if !ok && entry == v1alpha1.KeyPreviousSigningKey {
			continue
		}
		if !ok {
			return nil, &refusal{reason: v1alpha1.ReasonSecretKeyNotFound,
				message: fmt.Sprintf("Secret %q has no entry %q: add it (%v)", secret.Name, entry, sign.ErrKeyForm)}
		}
		key, err := sign.ParseKey(string(text))
		if err != nil {
			return nil, &refusal{reason: v1alpha1.ReasonInvalidSigningKey, stalled: true,
				message: fmt.Sprintf("entry %q of Secret %q is no signing key: %v", entry, secret.Name, err)}
		}
		keys = append(keys, key)
	}
	return keys, nil
}

// generatedSecret returns the Secret of that name, making it when there is none. One that exists is used, whoever made
// it: the label says that it may be.
func (r *WebhookEndpointReconciler) generatedSecret(ctx context.Context, secrets *secretReader, w *work, name string) (*corev1.Secret, error) {
	const field = "this endpoint"
	secret, err := secrets.get(ctx, name, field)
	var refused *refusal
	if errors.As(err, &refused) && refused.reason == v1alpha1.ReasonSecretNotFound {
		secret, err = r.createKey(ctx, w, name)
		if apierrors.IsAlreadyExists(err) {
			secret, err = secrets.get(ctx, name, field)
		}
	}
	if err != nil {
		return nil, err
	}
	return r.followDeletionPolicy(ctx, w.obj, secret)
}

func (r *WebhookEndpointReconciler) createKey(ctx context.Context, w *work, name string) (*corev1.Secret, error) {
	secret := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: w.obj.Namespace, Name: name, Labels: map[string]string{
			v1alpha1.LabelCredentials: credentialsValue, managedByLabel: managedBy}},
		Type: corev1.SecretTypeOpaque,
		Data: map[string][]byte{v1alpha1.KeySigningKey: []byte(sign.FormatKey(sign.NewKey()))},
	}
	if w.obj.Spec.Signing.DeletionPolicy == v1alpha1.DeletionPolicyDelete {
		secret.OwnerReferences = []metav1.OwnerReference{ownerOf(w.obj)}
	}
	if err := r.Create(ctx, secret); err != nil {
		return nil, fmt.Errorf("create Secret %q: %w", name, err)
	}
	if before := w.obj.Status.Signing; before != nil && before.SecretName == name {
		r.Events.Eventf(w.obj, secret, corev1.EventTypeWarning, "SigningKeyReplaced", "CreateSigningKey",
			"the Secret %s with the signing key was missing; a new key was made, which the receiver needs", name)
	} else {
		r.Events.Eventf(w.obj, secret, corev1.EventTypeNormal, "SigningKeyGenerated", "CreateSigningKey",
			"a signing key was made in Secret %s; the receiver needs its entry signing-key", name)
	}
	return secret, nil
}

// followDeletionPolicy adds or removes the owner reference of a Secret that the manager made. With Retain a reference
// that is left over from Delete would take the key along.
func (r *WebhookEndpointReconciler) followDeletionPolicy(ctx context.Context, obj *v1alpha1.WebhookEndpoint, secret *corev1.Secret) (*corev1.Secret, error) {
	if secret.Labels[managedByLabel] != managedBy {
		return secret, nil
	}
	// A reference to an endpoint of this name that is gone would have the key collected.
	others := slices.DeleteFunc(slices.Clone(secret.OwnerReferences), func(o metav1.OwnerReference) bool {
		return o.Kind == endpointKind && o.Name == obj.Name
	})
	want := others
	if obj.Spec.Signing.DeletionPolicy == v1alpha1.DeletionPolicyDelete {
		want = append(want, ownerOf(obj))
	}
	if sameUIDs(want, secret.OwnerReferences) {
		return secret, nil
	}
	patched := secret.DeepCopy()
	patched.OwnerReferences = want
	patch := client.MergeFromWithOptions(secret, client.MergeFromWithOptimisticLock{})
	if err := r.Patch(ctx, patched, patch); err != nil {
		return nil, fmt.Errorf("change owner of Secret %q: %w", secret.Name, err)
	}
	return patched, nil
}

func sameUIDs(a, b []metav1.OwnerReference) bool {
	return slices.EqualFunc(a, b, func(x, y metav1.OwnerReference) bool { return x.UID == y.UID })
}

const endpointKind = "WebhookEndpoint"

// ownerOf does not block the owner's deletion, which would need a right of its own.
func ownerOf(obj *v1alpha1.WebhookEndpoint) metav1.OwnerReference {
	return metav1.OwnerReference{APIVersion: v1alpha1.GroupVersion.String(), Kind: endpointKind, Name: obj.Name, UID: types.UID(obj.UID)}
}
