// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/garyclub/webhook-operator/api/v1alpha1"
	"github.com/garyclub/webhook-operator/internal/fixture/receiver"
)

// hangTolerance is how much longer than the timeout an attempt at a receiver that hangs may take.
const hangTolerance = time.Second

// check compares what was shown with what the product's page says, and what the receivers saw.
func (d *demo) check(ctx context.Context) error {
	say("is it as the contract says?")
	var failures []error
	for _, c := range []struct {
		title string
		check func(context.Context) error
	}{
		{"each event matched the endpoints that ask for it", d.checkMatches},
		{"each delivery ended as its receiver's manner has it", d.checkRecords},
		{"each receiver got what was posted, byte for byte, signed, as often as its record says", d.checkRequests},
		{"nothing followed the redirect", d.checkRedirect},
		{"kubectl finds the failed deliveries, and says why", d.checkSelector},
	} {
		err := c.check(ctx)
		verdict := "yes"
		if err != nil {
			verdict = "NO: " + err.Error()
			failures = append(failures, err)
		}
		fmt.Printf("  %s: %s\n", c.title, verdict)
	}
	return errors.Join(failures...)
}

func (d *demo) checkMatches(context.Context) error {
	var wrong []error
	for i, p := range d.posted {
		if p.matches != events[i].matches {
			wrong = append(wrong, fmt.Errorf("%s matched %d endpoints, want %d", p.file, p.matches, events[i].matches))
		}
	}
	return errors.Join(wrong...)
}

func (d *demo) checkRecords(ctx context.Context) error {
	all, err := d.deliveries(ctx)
	if err != nil {
		return err
	}
	var wrong []error
	for _, m := range manners {
		found := 0
		for i := range all {
			if all[i].Spec.EndpointRef.Name == m.endpoint {
				found++
				wrong = append(wrong, m.judge(&all[i]))
			}
		}
		if found != m.deliveries {
			wrong = append(wrong, fmt.Errorf("%s has %d records, want %d", m.endpoint, found, m.deliveries))
		}
	}
	return errors.Join(wrong...)
}

func (m manner) judge(a *v1alpha1.DeliveryAttempt) error {
	s := a.Status
	if string(s.Outcome) != m.outcome || int(s.AttemptCount) != m.attempts || len(s.Attempts) != m.attempts ||
		int(s.LastStatusCode) != m.code || s.Reason != m.reason {
		return fmt.Errorf("%s: %s after %d attempts, code %d, reason %q; want %s after %d, code %d, reason %q", a.Name,
			s.Outcome, s.AttemptCount, s.LastStatusCode, s.Reason, m.outcome, m.attempts, m.code, m.reason)
	}
	for _, one := range s.Attempts {
		took := time.Duration(one.DurationMilliseconds) * time.Millisecond
		if one.Outcome == "TimedOut" && (took < 10*time.Second || took > 10*time.Second+hangTolerance) {
			return fmt.Errorf("%s: attempt %d timed out after %s, want 10 s", a.Name, one.Number, took)
		}
	}
	return nil
}

func (d *demo) checkRequests(ctx context.Context) error {
	var wrong []error
	for _, m := range manners {
		verifier, err := d.verifier(ctx, m.endpoint)
		if err != nil {
			return err
		}
		events := 0
		for _, r := range d.receivers.all[m.endpoint].Requests() {
			wrong = append(wrong, d.checkRequest(m.endpoint, verifier, r))
			if r.Header.Get("Webhook-Test") == "" {
				events++
			}
		}
		if events != m.deliveries*m.attempts {
			wrong = append(wrong, fmt.Errorf("%s got %d requests, want %d", m.endpoint, events, m.deliveries*m.attempts))
		}
	}
	return errors.Join(wrong...)
}

// verifier is the library that receivers use, with the key that they would be given.
func (d *demo) verifier(ctx context.Context, endpoint string) (*standardwebhooks.Webhook, error) {
	p := &v1alpha1.WebhookEndpoint{}
	if err := d.Client.Get(ctx, client.ObjectKey{Namespace: namespace, Name: endpoint}, p); err != nil {
		return nil, err
	}
	if p.Status.Signing == nil {
		return nil, fmt.Errorf("%s has no signing key", endpoint)
	}
	secret := &corev1.Secret{}
	key := client.ObjectKey{Namespace: namespace, Name: p.Status.Signing.SecretName}
	if err := d.Client.Get(ctx, key, secret); err != nil {
		return nil, err
	}
	return standardwebhooks.NewWebhook(string(secret.Data[v1alpha1.KeySigningKey]))
}

func (d *demo) checkRequest(endpoint string, verifier *standardwebhooks.Webhook, r receiver.Request) error {
	if err := verifier.Verify(r.Body, r.Header); err != nil {
		return fmt.Errorf("%s: signature: %w", endpoint, err)
	}
	if r.Method != http.MethodPost || r.Header.Get("Content-Type") != "application/json" {
		return fmt.Errorf("%s: %s with content type %q", endpoint, r.Method, r.Header.Get("Content-Type"))
	}
	if r.Header.Get("Webhook-Test") != "" {
		return nil
	}
	for _, p := range d.posted {
		if p.id == r.Header.Get("Webhook-Id") {
			if !bytes.Equal(p.body, r.Body) {
				return fmt.Errorf("%s: the body is not what was posted", endpoint)
			}
			return nil
		}
	}
	return fmt.Errorf("%s: a webhook-id that was not posted", endpoint)
}

func (d *demo) checkRedirect(context.Context) error {
	if n := d.receivers.elsewhere.Count(); n != 0 {
		return fmt.Errorf("the redirect's target got %d requests", n)
	}
	return nil
}

func (d *demo) checkSelector(ctx context.Context) error {
	out, err := d.Kubectl(ctx, "-n", namespace, "get", "deliveryattempts", "--field-selector=status.outcome=Failed,spec.endpointRef.name=onboarding-workflow", "--no-headers")
	if err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	if lines := strings.Split(strings.TrimSpace(out), "\n"); len(lines) != 1 || !strings.Contains(lines[0], "TimedOut") {
		return fmt.Errorf("kubectl shows %q", out)
	}
	return nil
}
