// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/garyclub/webhook-operator/api/v1alpha1"
	"github.com/garyclub/webhook-operator/internal/delivery"
	"github.com/garyclub/webhook-operator/internal/egress"
)

// Metrics are the package's figures.
type Metrics struct {
	inspections *prometheus.CounterVec
	tests       *prometheus.CounterVec
	unrecorded  prometheus.Counter
	delayed     *prometheus.CounterVec
}

// NewMetrics registers them, all label values at zero.
func NewMetrics(r prometheus.Registerer) *Metrics {
	m := &Metrics{
		inspections: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "webhook_manager_inspections_total",
			Help: "Looks at an endpoint's address and certificate, by what they came to."}, []string{"result"}),
		tests: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "webhook_manager_test_attempts_total",
			Help: "Requests with test events, by what they came to."}, []string{"outcome"}),
		unrecorded: prometheus.NewCounter(prometheus.CounterOpts{Name: "webhook_manager_test_records_dropped_total",
			Help: "Test events that the recorder did not take in time."}),
		delayed: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "webhook_manager_status_writes_delayed_total",
			Help: "Status writes that waited for the write budget, by what they were about."}, []string{"about"}),
	}
	for _, result := range inspectionResults {
		m.inspections.WithLabelValues(result)
	}
	for _, o := range delivery.Outcomes() {
		m.tests.WithLabelValues(string(o))
	}
	for _, about := range []string{aboutHealth, aboutCounters} {
		m.delayed.WithLabelValues(about)
	}
	r.MustRegister(m.inspections, m.tests, m.unrecorded, m.delayed)
	return m
}

// The values of the label about.
const (
	aboutHealth   = "health"
	aboutCounters = "counters"
)

const resultUnreachable = "Unreachable"

var inspectionResults = []string{v1alpha1.ReasonAccepted, v1alpha1.ReasonAddressRefused, v1alpha1.ReasonHostNotFound,
	v1alpha1.ReasonCertificateExpired, v1alpha1.ReasonCertificateUntrusted, v1alpha1.ReasonInvalidTLS,
	v1alpha1.ReasonInvalidURL, v1alpha1.ReasonTLSFailed, resultUnreachable}

func (m *Metrics) inspected(failure *egress.Error) {
	m.inspections.WithLabelValues(inspectionResult(failure)).Inc()
}

// inspectionResult is a reason of Accepted, or Unreachable for what is no verdict about the address.
func inspectionResult(failure *egress.Error) string {
	switch {
	case failure == nil:
		return v1alpha1.ReasonAccepted
	case errors.Is(failure, egress.ErrURL):
		return v1alpha1.ReasonInvalidURL
	case failure.Outcome == delivery.OutcomeAddressRefused:
		return v1alpha1.ReasonAddressRefused
	case errors.Is(failure, egress.ErrHostNotFound):
		return v1alpha1.ReasonHostNotFound
	case errors.Is(failure, egress.ErrExpired):
		return v1alpha1.ReasonCertificateExpired
	case errors.Is(failure, egress.ErrUntrusted), errors.Is(failure, egress.ErrWrongName):
		return v1alpha1.ReasonCertificateUntrusted
	case errors.Is(failure, egress.ErrTLSMaterial):
		return v1alpha1.ReasonInvalidTLS
	case failure.Outcome == delivery.OutcomeTLSFailed:
		return v1alpha1.ReasonTLSFailed
	}
	return resultUnreachable
}
