// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"fmt"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

// unfinished are the dispatcher's gauges that are 0 when all is delivered. What waits to be recorded is not among them:
// that is paced by the budget of writes, and behind by design.
var unfinished = []string{"webhook_dispatcher_queue_waiting_deliveries", "webhook_dispatcher_queue_in_flight_deliveries"}

const outboxRecords = "webhook_dispatcher_queue_outbox_records"

// gauges are a dispatcher's metrics that have one value.
type gauges map[string]float64

func readGauges(metrics []byte) (gauges, error) {
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(bytes.NewReader(metrics))
	if err != nil {
		return nil, err
	}
	g := gauges{}
	for name, family := range families {
		if m := family.GetMetric(); len(m) == 1 && m[0].GetGauge() != nil {
			g[name] = m[0].GetGauge().GetValue()
		}
	}
	return g, nil
}

// nothingLeft is an error that says what is not delivered yet.
func (g gauges) nothingLeft() error {
	for _, name := range unfinished {
		if n, ok := g[name]; !ok || n != 0 {
			return fmt.Errorf("%s is %v", name, n)
		}
	}
	return nil
}
