// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package dispatcher

import (
	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/garyclub/webhook-operator/internal/delivery"
	"github.com/garyclub/webhook-operator/internal/queue"
)

// ends counts the deliveries that ended, however they did, and logs those that no attempt logs.
type ends struct {
	total *prometheus.CounterVec
	log   logr.Logger
}

// newEnds registers the counter, all label values at zero.
func newEnds(r prometheus.Registerer, log logr.Logger) *ends {
	e := &ends{log: log, total: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "webhook_dispatcher_deliveries_ended_total",
		Help: "Deliveries ended, with or without an attempt, by state and reason; the reason of a success is Delivered.",
	}, []string{"state", "reason"})}
	for _, o := range delivery.Outcomes() {
		state := delivery.Failed
		if o == delivery.OutcomeDelivered {
			state = delivery.Delivered
		}
		e.total.WithLabelValues(state.String(), string(o))
	}
	for _, reason := range []string{delivery.ReasonDeadlineExceeded, delivery.ReasonQueueFull, delivery.ReasonEndpointDeleted} {
		e.total.WithLabelValues(delivery.Failed.String(), reason)
	}
	r.MustRegister(e.total)
	return e
}

// note is called after the sync of what ended.
func (e *ends) note(all []queue.Ended) {
	for _, how := range all {
		reason := how.Reason
		if how.State == delivery.Delivered {
			reason = string(delivery.OutcomeDelivered)
		}
		e.total.WithLabelValues(how.State.String(), reason).Add(float64(how.Count))
		if !how.Attempted {
			e.log.Info("deliveries failed without an attempt", "namespace", how.Ref.Namespace, "endpoint", how.Ref.Name,
				"reason", reason, "deliveries", how.Count)
		}
	}
}
