// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	ctrlevent "sigs.k8s.io/controller-runtime/pkg/event"

	"github.com/garyclub/webhook-operator/internal/egress"
	"github.com/garyclub/webhook-operator/internal/endpoint"
	"github.com/garyclub/webhook-operator/internal/fixture/egresstable"
)

// The manager's two ways out are held to the table that deliveries are held to.

func TestEgressCasesOfTestEvents(t *testing.T) {
	egresstable.Run(t, func(t *testing.T, o egress.Options, p *endpoint.Endpoint) *egress.Error {
		b, changed := proberOf(t, o)
		subject := subjectOf(p)
		b.Test(subject, order("change", 0))
		<-changed
		report, done := b.Report(subject.Ref, subject.UID)
		if !done || report.Delivery.AttemptCount != 1 {
			t.Fatalf("the test event is not done after its one attempt: %+v", report.Delivery)
		}
		last := report.Last()
		if last.StatusCode != 0 {
			return nil // the receiver was reached, whatever it answered
		}
		return &egress.Error{Outcome: last.Outcome, Message: last.Message}
	}, true)
}

func TestEgressCasesOfInspections(t *testing.T) {
	egresstable.Run(t, func(t *testing.T, o egress.Options, p *endpoint.Endpoint) *egress.Error {
		b, changed := proberOf(t, o)
		subject := subjectOf(p)
		b.Inspect(subject)
		<-changed
		seen := b.Inspect(subject)
		if !seen.Known {
			t.Fatalf("there is no verdict: %+v", seen)
		}
		return seen.Failure
	}, false)
}

func subjectOf(p *endpoint.Endpoint) *endpoint.Endpoint {
	subject := labEndpoint("a")
	subject.URL, subject.TLS = p.URL, p.TLS
	return subject
}

// proberOf runs a prober with the real way out until the end of the test.
func proberOf(t *testing.T, o egress.Options) (*Prober, <-chan ctrlevent.GenericEvent) {
	t.Helper()
	network, changed := egress.New(o), make(chan ctrlevent.GenericEvent, 10)
	b := NewProber(network, changed)
	b.recorder, b.metrics = &recorder{}, NewMetrics(prometheus.NewRegistry())
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	ended := make(chan error, 1)
	go func() { ended <- b.Start(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		network.Close()
	})
	return b, changed
}
