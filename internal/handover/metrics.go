// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package handover

import "github.com/prometheus/client_golang/prometheus"

// sourceMetrics count what leaves a queue.
type sourceMetrics struct {
	moved       prometheus.Counter
	deadLetters prometheus.Counter
	faults      prometheus.Counter
}

func newSourceMetrics(r prometheus.Registerer) *sourceMetrics {
	m := &sourceMetrics{
		moved: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "webhook_dispatcher_handed_over_total",
			Help: "Deliveries that a gateway has taken.",
		}),
		deadLetters: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "webhook_dispatcher_dead_letters_handed_over_total",
			Help: "Dead letters that a gateway has taken.",
		}),
		faults: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "webhook_dispatcher_hand_over_faults_total",
			Help: "Times that a hand-over was broken off.",
		}),
	}
	if r != nil {
		r.MustRegister(m.moved, m.deadLetters, m.faults)
	}
	return m
}

// sinkMetrics count what a gateway was asked to take.
type sinkMetrics struct {
	parcels map[Verdict]prometheus.Counter
	refused *prometheus.CounterVec
}

// The reasons of a refusal.
const (
	refusedUnauthenticated = "unauthenticated"
	refusedForeign         = "foreign-namespace"
	refusedInvalid         = "invalid"
	refusedFull            = "queue-full"
	refusedBusy            = "busy"
	refusedNotReady        = "not-ready"
	refusedUnavailable     = "unavailable"
)

func newSinkMetrics(r prometheus.Registerer) *sinkMetrics {
	parcels := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "webhook_gateway_taken_over_total",
		Help: "Deliveries that dispatchers have handed over, by what became of them.",
	}, []string{"result"})
	m := &sinkMetrics{parcels: map[Verdict]prometheus.Counter{}, refused: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "webhook_gateway_take_over_refused_total",
		Help: "Hand-overs refused, by reason.",
	}, []string{"reason"})}
	for verdict, result := range map[Verdict]string{
		Added: "added", Present: "present", Failed: "failed", ShareFull: "share-full", Unknown: "unknown-endpoint", Invalid: "invalid",
	} {
		m.parcels[verdict] = parcels.WithLabelValues(result)
	}
	for _, reason := range []string{refusedUnauthenticated, refusedForeign, refusedInvalid, refusedFull, refusedBusy,
		refusedNotReady, refusedUnavailable} {
		m.refused.WithLabelValues(reason)
	}
	if r != nil {
		r.MustRegister(parcels, m.refused)
	}
	return m
}
