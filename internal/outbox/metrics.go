// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package outbox

import "github.com/prometheus/client_golang/prometheus"

type metrics struct {
	sent, acknowledged, leftOut prometheus.Counter
}

func newMetrics(r prometheus.Registerer) *metrics {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: "webhook_dispatcher_outbox_" + name, Help: help})
	}
	m := &metrics{
		sent:         counter("records_sent_total", "Records sent to the manager, repetitions included."),
		acknowledged: counter("records_acknowledged_total", "Records that the manager answered, left out ones included."),
		leftOut:      counter("records_left_out_total", "Records that the manager left out."),
	}
	if r != nil {
		r.MustRegister(m.sent, m.acknowledged, m.leftOut)
	}
	return m
}
