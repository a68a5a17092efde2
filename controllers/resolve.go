// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/garyclub/webhook-operator/api/v1alpha1"
	"github.com/garyclub/webhook-operator/internal/conditions"
	"github.com/garyclub/webhook-operator/internal/egress"
	"github.com/garyclub/webhook-operator/internal/endpoint"
	"github.com/garyclub/webhook-operator/internal/event"
	"github.com/garyclub/webhook-operator/internal/reconcile"
)

// secretRetry is how often a missing Secret is looked for without a watch event. The label brings it into the cache,
// which triggers by itself; this covers nothing but a lost event.
const secretRetry = 10 * time.Minute

const maxHeaderValueBytes = 8192

// resolveRefs reads everything that the spec refers to. It owns SigningKeyReady, and Accepted when something is missing
// or wrong; inspect owns Accepted otherwise.
func (r *WebhookEndpointReconciler) resolveRefs(ctx context.Context, w *work) error {
	secrets := &secretReader{cache: r.Client, live: r.Live, namespace: w.obj.Namespace, read: map[string]*corev1.Secret{}}
	w.endpoint = endpointFrom(w.obj)

	refused, err := asRefusal(resolvePlace(ctx, secrets, w.obj, w.endpoint))
	if err != nil {
		return err
	}
	if refused != nil {
		w.set(conditions.False(v1alpha1.ConditionAccepted, refused.reason, refused.message))
	}
	w.resolved = refused == nil
	w.obj.Status.Host = shownHost(w.endpoint.URL)

	keyRefused, err := asRefusal(r.resolveSigningKey(ctx, secrets, w))
	if err != nil {
		return err
	}
	if keyRefused != nil {
		w.obj.Status.Signing = nil
		w.set(conditions.False(v1alpha1.ConditionSigningKeyReady, keyRefused.reason, keyRefused.message))
	}
	w.place = placeOf(r.HashKey, w.endpoint)
	return refusalVerdict(refused, keyRefused)
}

// refusalVerdict says what is to happen next: nothing when a Secret's content is wrong, since the watch tells of a new
// one; a slow look when one is missing.
func refusalVerdict(refused ...*refusal) error {
	var verdict error
	for _, f := range refused {
		switch {
		case f != nil && f.stalled:
			return reconcile.Stalled(f.reason, f.message)
		case f != nil:
			verdict = reconcile.Waiting(secretRetry)
		}
	}
	return verdict
}

// asRefusal splits off what is no refusal: an error that is to be retried.
func asRefusal(err error) (*refusal, error) {
	if refused, ok := errors.AsType[*refusal](err); ok {
		return refused, nil
	}
	return nil, err
}

// endpointFrom is what the spec alone says.
func endpointFrom(obj *v1alpha1.WebhookEndpoint) *endpoint.Endpoint {
	s := obj.Spec
	p := &endpoint.Endpoint{
		Ref: endpoint.Ref{Namespace: obj.Namespace, Name: obj.Name}, UID: string(obj.UID), Generation: obj.Generation,
		Agents: s.Agents, Timeout: seconds(s.TimeoutSeconds), MaxInFlight: int(s.MaxInFlight),
		Retry: endpoint.Retry{MaxRetries: int(s.Retry.MaxRetries), InitialBackoff: seconds(s.Retry.InitialBackoffSeconds),
			MaxBackoff: seconds(s.Retry.MaxBackoffSeconds), Deadline: seconds(s.Retry.DeadlineSeconds)},
	}
	for _, t := range s.Events {
		p.Events = append(p.Events, event.Type(t))
	}
	for _, code := range s.SuccessCodes {
		p.SuccessCodes = append(p.SuccessCodes, string(code))
	}
	if s.TLS != nil {
		p.TLS.ServerName = s.TLS.ServerName
	}
	return p
}

func seconds(n int32) time.Duration { return time.Duration(n) * time.Second }

// resolvePlace fills in URL, headers and TLS material.
func resolvePlace(ctx context.Context, secrets *secretReader, obj *v1alpha1.WebhookEndpoint, p *endpoint.Endpoint) error {
	text, field := obj.Spec.URL, "spec.url"
	if from := obj.Spec.URLFrom; from != nil {
		field = "spec.urlFrom"
		value, err := secrets.entry(ctx, from.SecretKeyRef.Name, from.SecretKeyRef.Key, field)
		if err != nil {
			return aboutURL(err)
		}
		text = strings.TrimSpace(string(value))
	}
	if err := checkURL(text, field); err != nil {
		return err
	}
	p.URL = text
	if err := resolveHeaders(ctx, secrets, obj.Spec.Headers, p); err != nil {
		return err
	}
	return resolveTLS(ctx, secrets, obj.Spec.TLS, p)
}

// aboutURL gives what is missing the reasons that it has for the URL's Secret.
func aboutURL(err error) error {
	var refused *refusal
	if !errors.As(err, &refused) {
		return err
	}
	switch refused.reason {
	case v1alpha1.ReasonSecretNotFound:
		refused.reason = v1alpha1.ReasonURLSecretNotFound
	case v1alpha1.ReasonSecretKeyNotFound:
		refused.reason = v1alpha1.ReasonURLSecretKeyNotFound
	}
	return refused
}

func resolveHeaders(ctx context.Context, secrets *secretReader, headers []v1alpha1.Header, p *endpoint.Endpoint) error {
	for _, h := range headers {
		var text string
		if h.Value != nil {
			text = *h.Value
		}
		if h.ValueFrom != nil {
			field := fmt.Sprintf("header %q", h.Name)
			value, err := secrets.entry(ctx, h.ValueFrom.SecretKeyRef.Name, h.ValueFrom.SecretKeyRef.Key, field)
			if err != nil {
				return err
			}
			// kubectl create secret --from-file keeps the line break at the end of a file.
			text = strings.TrimSpace(string(value))
		}
		if len(text) > maxHeaderValueBytes || strings.ContainsFunc(text, notVisible) {
			return &refusal{reason: v1alpha1.ReasonInvalidHeader, stalled: true, message: fmt.Sprintf(
				"the value of header %q has more than 8192 characters, or others than visible ASCII characters and spaces", h.Name)}
		}
		p.Headers = append(p.Headers, endpoint.Header{Name: h.Name, Value: text})
	}
	return nil
}

func notVisible(r rune) bool { return r != '\t' && (r < ' ' || r > '~') }

func resolveTLS(ctx context.Context, secrets *secretReader, spec *v1alpha1.TLSSpec, p *endpoint.Endpoint) (err error) {
	if spec == nil {
		return nil
	}
	if ref := spec.CASecretRef; ref != nil {
		const field = "spec.tls.caSecretRef"
		if p.TLS.CABundle, err = secrets.entry(ctx, ref.Name, ref.Key, field); err != nil {
			return err
		}
		if egress.CheckTLS(endpoint.TLS{CABundle: p.TLS.CABundle}) != nil {
			return invalidTLS(ref.Name, field, "has no certificate in PEM form under "+ref.Key)
		}
	}
	if ref := spec.ClientCertificateSecretRef; ref != nil {
		const field = "spec.tls.clientCertificateSecretRef"
		if p.TLS.ClientCert, err = secrets.entry(ctx, ref.Name, "tls.crt", field); err != nil {
			return err
		}
		if p.TLS.ClientKey, err = secrets.entry(ctx, ref.Name, "tls.key", field); err != nil {
			return err
		}
		if egress.CheckTLS(endpoint.TLS{ClientCert: p.TLS.ClientCert, ClientKey: p.TLS.ClientKey}) != nil {
			return invalidTLS(ref.Name, field, "has no certificate and key in PEM form that belong together")
		}
	}
	return nil
}

func invalidTLS(name, field, what string) error {
	return &refusal{reason: v1alpha1.ReasonInvalidTLS, stalled: true,
		message: fmt.Sprintf("Secret %q, which %s refers to, %s", name, field, what)}
}

func keyCondition(reason, message string) metav1.Condition {
	return conditions.True(v1alpha1.ConditionSigningKeyReady, reason, message)
}
