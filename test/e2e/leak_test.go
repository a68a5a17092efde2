// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"

	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/garyclub/webhook-operator/api/v1alpha1"
)

// What payloads, headers and URLs of the tests have in them, and no log, Event, status or metric may have.
const (
	markPhone  = "+15551234567"
	markMail   = "sarah@example.com"
	markName   = "Sarah Johnson"
	markText   = "teeth whitening"
	markHeader = "credential-of-the-receiver"
	markPath   = "path-of-the-receiver"
	markQuery  = "query-of-the-receiver"
)

// findLeaks looks through all that the system has said: its logs, its Events, its statuses and its metrics.
func findLeaks(ctx context.Context) error {
	secrets, err := allSecrets(ctx)
	if err != nil {
		return err
	}
	said, err := allSaid(ctx)
	if err != nil {
		return err
	}
	var found []error
	for where, text := range said {
		if len(text) == 0 {
			found = append(found, fmt.Errorf("%s is empty: nothing was looked through", where))
		}
		for name, secret := range secrets {
			if at := strings.Index(text, secret); at >= 0 {
				found = append(found, fmt.Errorf("%s has the %s: %q", where, name, text[max(0, at-80):at]))
			}
		}
	}
	return errors.Join(found...)
}

// allSecrets are the marks, and every key and token that was made or given.
func allSecrets(ctx context.Context) (map[string]string, error) {
	all := map[string]string{"phone number": markPhone, "mail address": markMail, "name": markName, "summary": markText,
		"header value": markHeader, "URL path": markPath, "URL query": markQuery}
	for i, token := range sys.Tokens() {
		// The signature: the rest is no secret, and alike in all.
		all[fmt.Sprintf("token %d", i)] = token[strings.LastIndexByte(token, '.')+1:]
	}
	list := &corev1.SecretList{}
	if err := sys.Client.List(ctx, list); err != nil {
		return nil, err
	}
	for _, s := range list.Items {
		for _, entry := range []string{v1alpha1.KeySigningKey, v1alpha1.KeyPreviousSigningKey} {
			if key := string(s.Data[entry]); len(key) > 20 {
				all["signing key of "+s.Namespace+"/"+s.Name] = strings.TrimPrefix(key, "whsec_")
			}
		}
	}
	retired.Range(func(key, where any) bool {
		all[fmt.Sprintf("key that was in %s", where)] = strings.TrimPrefix(key.(string), "whsec_")
		return true
	})
	return all, nil
}

// left has, by UID, the statuses of endpoints whose tests have ended.
var left sync.Map

// retired has, by key, the Secrets whose keys tests have replaced or deleted.
var retired sync.Map

func allSaid(ctx context.Context) (map[string]string, error) {
	said := map[string]string{}
	for _, name := range sys.Logs() {
		text, err := os.ReadFile(name)
		if err != nil {
			return nil, err
		}
		said[name] = string(text)
	}
	for _, url := range sys.MetricsURLs() {
		text, err := get(ctx, url)
		if err != nil {
			continue // a dispatcher that its test has stopped
		}
		said[url] = text
	}
	if said[sys.MetricsURL()] == "" {
		return nil, errors.New("the manager's metrics cannot be read")
	}
	endpoints, attempts, events := &v1alpha1.WebhookEndpointList{}, &v1alpha1.DeliveryAttemptList{}, &eventsv1.EventList{}
	orders := &v1alpha1.RedeliveryList{}
	for _, list := range []client.ObjectList{endpoints, attempts, events, orders} {
		if err := sys.Client.List(ctx, list); err != nil {
			return nil, err
		}
	}
	var statuses []any
	left.Range(func(_, status any) bool {
		statuses = append(statuses, status)
		return true
	})
	for i := range endpoints.Items {
		statuses = append(statuses, endpoints.Items[i].Status)
	}
	for kind, what := range map[string]any{"endpoint statuses": statuses, "delivery attempts": attempts.Items, "events": events.Items,
		"redeliveries": orders.Items} {
		text, err := yaml.Marshal(what)
		if err != nil {
			return nil, err
		}
		said[kind] = string(text)
	}
	return said, nil
}

func get(ctx context.Context, url string) (string, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return "", err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return "", err
	}
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(response.Body)
	return string(text), err
}
