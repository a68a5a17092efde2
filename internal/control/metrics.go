// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package control

import "github.com/prometheus/client_golang/prometheus"

// The closed label values.
const (
	streamEndpoints    = "endpoints"
	streamReport       = "report"
	streamRedeliveries = "redeliveries"

	resultOK              = "ok"
	resultUnauthenticated = "unauthenticated"
	resultUnavailable     = "unavailable"

	resultRecorded = "recorded"
	resultLeftOut  = "left_out"
	resultInvalid  = "invalid"
)

type serverMetrics struct {
	streams         *prometheus.GaugeVec
	endpointsSent   prometheus.Counter
	records         *prometheus.CounterVec
	authentications *prometheus.CounterVec
}

func newServerMetrics(r prometheus.Registerer) *serverMetrics {
	m := &serverMetrics{
		streams: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "webhook_manager_control_streams", Help: "Open streams of dispatchers.",
		}, []string{"stream"}),
		endpointsSent: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "webhook_manager_control_endpoints_sent_total", Help: "Endpoints sent to dispatchers, resumed ones not included.",
		}),
		records: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "webhook_manager_control_records_total", Help: "Records that dispatchers reported, by what became of them.",
		}, []string{"result"}),
		authentications: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "webhook_manager_control_authentications_total", Help: "Calls of dispatchers by the verdict on their token.",
		}, []string{"result"}),
	}
	for _, s := range []string{streamEndpoints, streamReport, streamRedeliveries} {
		m.streams.WithLabelValues(s)
	}
	for _, s := range []string{resultRecorded, resultLeftOut, resultInvalid} {
		m.records.WithLabelValues(s)
	}
	for _, s := range []string{resultOK, resultUnauthenticated, resultUnavailable} {
		m.authentications.WithLabelValues(s)
	}
	if r != nil {
		r.MustRegister(m.streams, m.endpointsSent, m.records, m.authentications)
	}
	return m
}

type clientMetrics struct {
	connected  prometheus.Gauge
	reconnects prometheus.Counter
	endpoints  prometheus.Gauge
}

func newClientMetrics(r prometheus.Registerer) *clientMetrics {
	m := &clientMetrics{
		connected: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "webhook_dispatcher_control_connected", Help: "1 while the manager streams endpoints to this dispatcher.",
		}),
		reconnects: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "webhook_dispatcher_control_reconnects_total", Help: "Streams of endpoints that ended and were begun again.",
		}),
		endpoints: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "webhook_dispatcher_control_endpoints", Help: "Endpoints in the list that was taken last.",
		}),
	}
	if r != nil {
		r.MustRegister(m.connected, m.reconnects, m.endpoints)
	}
	return m
}
