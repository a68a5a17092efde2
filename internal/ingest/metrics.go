// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package ingest

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/garyclub/webhook-operator/internal/event"
)

// metrics hold every child, so that all of them are there at zero and none is looked up per event.
type metrics struct {
	accepted  map[string]prometheus.Counter
	unmatched map[string]prometheus.Counter
	repeated  prometheus.Counter
	rejected  map[kind]prometheus.Counter
	bodyBytes prometheus.Counter
	duration  prometheus.Histogram
}

func newMetrics(r prometheus.Registerer, underWay func() float64) *metrics {
	accepted := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "webhook_dispatcher_ingest_events_total",
		Help: "Events taken in, repeats not included.",
	}, []string{"type"})
	unmatched := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "webhook_dispatcher_ingest_unmatched_total",
		Help: "Events taken in that no endpoint asks for.",
	}, []string{"type"})
	rejected := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "webhook_dispatcher_ingest_rejected_total",
		Help: "Requests refused, by reason.",
	}, []string{"reason"})
	m := &metrics{
		accepted:  map[string]prometheus.Counter{},
		unmatched: map[string]prometheus.Counter{},
		rejected:  map[kind]prometheus.Counter{},
		repeated: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "webhook_dispatcher_ingest_repeated_total",
			Help: "Events whose idempotency key was known, answered as before.",
		}),
		bodyBytes: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "webhook_dispatcher_ingest_body_bytes_total",
			Help: "Bytes of request bodies read.",
		}),
		duration: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "webhook_dispatcher_ingest_request_duration_seconds",
			Help:    "Time from a request's header to its answer.",
			Buckets: []float64{.00025, .0005, .001, .002, .003, .005, .01, .025, .05, .1, .25, 1, 5, 15},
		}),
	}
	for _, t := range append(event.Types(), "custom.any") {
		m.accepted[t.Class()] = accepted.WithLabelValues(t.Class())
		m.unmatched[t.Class()] = unmatched.WithLabelValues(t.Class())
	}
	for k := range answers {
		m.rejected[k] = rejected.WithLabelValues(string(k))
	}
	r.MustRegister(accepted, unmatched, rejected, m.repeated, m.bodyBytes, m.duration,
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "webhook_dispatcher_ingest_requests_in_flight",
			Help: "Requests under way.",
		}, underWay))
	return m
}
