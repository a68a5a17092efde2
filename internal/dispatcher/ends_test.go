// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package dispatcher

import (
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/garyclub/webhook-operator/internal/delivery"
	"github.com/garyclub/webhook-operator/internal/endpoint"
	"github.com/garyclub/webhook-operator/internal/queue"
)

func TestEndsAreCountedAndLogged(t *testing.T) {
	var all logs
	registry := prometheus.NewRegistry()
	e := newEnds(registry, all.logger())
	series := func() map[string]float64 {
		families, err := registry.Gather()
		if err != nil {
			t.Fatal(err)
		}
		found := map[string]float64{}
		for _, m := range families[0].GetMetric() {
			found[m.GetLabel()[1].GetValue()+" "+m.GetLabel()[0].GetValue()] = m.GetCounter().GetValue()
		}
		return found
	}
	before := len(series())
	ref := endpoint.Ref{Namespace: "team", Name: "a"}
	e.note([]queue.Ended{
		{Ref: ref, State: delivery.Delivered, Attempted: true, Count: 3},
		{Ref: ref, State: delivery.Failed, Reason: string(delivery.OutcomeTimedOut), Attempted: true, Count: 2},
		{Ref: ref, State: delivery.Failed, Reason: delivery.ReasonQueueFull, Count: 7},
		{Ref: ref, State: delivery.Failed, Reason: delivery.ReasonInterrupted, Count: 1},
		{Ref: ref, State: delivery.Failed, Reason: delivery.ReasonDeadlineExceeded, Count: 1},
		{Ref: ref, State: delivery.Failed, Reason: delivery.ReasonEndpointDeleted, Count: 1},
	})
	got := series()
	if len(got) != before {
		t.Errorf("%d series at the start and %d later: all are to be there at zero", before, len(got))
	}
	for labels, want := range map[string]float64{"Delivered Delivered": 3, "Failed TimedOut": 2, "Failed QueueFull": 7, "Failed Gone": 0} {
		if n, ok := got[labels]; !ok || n != want {
			t.Errorf("%s is %v, want %v", labels, n, want)
		}
	}
	lines := all.with("without an attempt")
	if len(lines) != 4 {
		t.Errorf("logged %q, want a line for each that no attempt has logged", lines)
	}
	for _, want := range []string{`"namespace"="team"`, `"endpoint"="a"`, `"reason"="QueueFull"`, `"deliveries"=7`} {
		if !strings.Contains(lines[0], want) {
			t.Errorf("the line %s lacks %s", lines[0], want)
		}
	}
}
