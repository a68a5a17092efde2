// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package deliver

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/garyclub/webhook-operator/internal/delivery"
)

// Metrics are the stage's figures.
type Metrics struct {
	attempts  *prometheus.CounterVec
	durations prometheus.Histogram
	retries   prometheus.Counter
	inFlight  prometheus.Gauge
	faults    prometheus.Counter
}

// NewMetrics registers them, all label values at zero.
func NewMetrics(r prometheus.Registerer) *Metrics {
	m := &Metrics{
		attempts: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "webhook_dispatcher_attempts_total",
			Help: "Requests sent, by what they came to."}, []string{"outcome"}),
		durations: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "webhook_dispatcher_attempt_duration_seconds",
			Help:    "Time from connecting to the last byte of the answer.",
			Buckets: []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30}}),
		retries: prometheus.NewCounter(prometheus.CounterOpts{Name: "webhook_dispatcher_retries_total",
			Help: "Requests that were not the first of their delivery."}),
		inFlight: prometheus.NewGauge(prometheus.GaugeOpts{Name: "webhook_dispatcher_attempts_in_flight",
			Help: "Requests under way."}),
		faults: prometheus.NewCounter(prometheus.CounterOpts{Name: "webhook_dispatcher_queue_faults_total",
			Help: "Leases, reads of events and settlements that the queue failed; each is repeated."}),
	}
	for _, o := range delivery.Outcomes() {
		m.attempts.WithLabelValues(string(o))
	}
	r.MustRegister(m.attempts, m.durations, m.retries, m.inFlight, m.faults)
	return m
}

func (m *Metrics) observe(a delivery.Attempt) {
	m.attempts.WithLabelValues(string(a.Outcome)).Inc()
	m.durations.Observe(a.Duration.Seconds())
	if a.Number > 1 {
		m.retries.Inc()
	}
}
