// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package record

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/garyclub/webhook-operator/internal/delivery"
)

// Why a record was left out.
const (
	leftOutBudget   = "budget"   // the writes of the cluster are spent, and the endpoint's bucket is empty
	leftOutHistory  = "history"  // the endpoint has more failures waiting than its history keeps
	leftOutActive   = "active"   // too many records of unfinished deliveries; the finished delivery is recorded
	leftOutEndpoint = "endpoint" // the endpoint or its namespace is gone
	leftOutInvalid  = "invalid"  // the API server refuses it
	leftOutRefused  = "refused"  // the namespace's quota or an admission policy refuses it
)

// Why a record was deleted.
const (
	deletedHistory   = "history"
	deletedTTL       = "ttl"
	deletedNamespace = "namespace"
	deletedCluster   = "cluster"
)

// What went wrong with the ledger.
const (
	ledgerUnreadable = "unreadable"
	ledgerTooLarge   = "too_large"
	ledgerWrite      = "write"
	ledgerFolded     = "folded" // a queue that was folded into the page of its namespace reports again
)

// Metrics are the package's figures.
type Metrics struct {
	apiWrites  *prometheus.CounterVec
	apiWaiting *prometheus.GaugeVec

	records   *prometheus.CounterVec
	leftOut   *prometheus.CounterVec
	coalesced prometheus.Counter
	waiting   prometheus.Gauge
	errors    prometheus.Counter

	deletes *prometheus.CounterVec
	objects prometheus.Gauge
	backlog prometheus.Gauge

	ledgerWrites prometheus.Counter
	ledgerErrors *prometheus.CounterVec
	ledgerQueues prometheus.Gauge

	queuesLost     prometheus.Counter
	deliveriesLost prometheus.Counter
	queuesFolded   prometheus.Counter
}

// NewMetrics registers them, all label values at zero. A nil Registerer leaves them unregistered.
func NewMetrics(r prometheus.Registerer) *Metrics {
	m := &Metrics{
		apiWrites: counters("webhook_manager_api_writes_total",
			"Mutating requests to the API server, by share of the write budget.", "share", shareNames()...),
		apiWaiting: prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "webhook_manager_api_writes_waiting",
			Help: "Requests that wait for the write budget, by share."}, []string{"share"}),
		records: counters("webhook_manager_records_written_total",
			"Records written, by the state written.", "state", stateNames()...),
		leftOut: counters("webhook_manager_records_left_out_total", "Records that were not written, by reason.",
			"reason", leftOutBudget, leftOutHistory, leftOutActive, leftOutEndpoint, leftOutInvalid, leftOutRefused),
		coalesced: counter("webhook_manager_records_coalesced_total", "States that a newer one replaced before they were written."),
		waiting:   gauge("webhook_manager_records_waiting", "Reported states that were not answered yet."),
		errors:    counter("webhook_manager_record_errors_total", "Writes of records that failed and are repeated."),
		deletes: counters("webhook_manager_records_deleted_total", "Records deleted, by the limit that they were over.",
			"reason", deletedHistory, deletedTTL, deletedNamespace, deletedCluster),
		objects:      gauge("webhook_manager_records", "Records in the cluster."),
		backlog:      gauge("webhook_manager_records_deleting", "Records that wait for their deletion."),
		ledgerWrites: counter("webhook_manager_ledger_writes_total", "Writes of counters."),
		ledgerErrors: counters("webhook_manager_ledger_errors_total", "Failures of the ledger, by reason.",
			"reason", ledgerUnreadable, ledgerTooLarge, ledgerWrite, ledgerFolded),
		ledgerQueues: gauge("webhook_manager_ledger_queues", "Queues with counters in the ledger."),
		queuesLost: counter("webhook_manager_queues_lost_total",
			"Queues that went with their pods while deliveries waited there."),
		deliveriesLost: counter("webhook_manager_deliveries_lost_total", "Deliveries that waited in queues that were lost."),
		queuesFolded: counter("webhook_manager_ledger_queues_folded_total",
			"Queues whose counters went into those of their namespace, since they are gone."),
	}
	for _, s := range shareNames() {
		m.apiWaiting.WithLabelValues(s)
	}
	if r != nil {
		r.MustRegister(m.apiWrites, m.apiWaiting, m.records, m.leftOut, m.coalesced, m.waiting, m.errors,
			m.deletes, m.objects, m.backlog, m.ledgerWrites, m.ledgerErrors, m.ledgerQueues,
			m.queuesLost, m.deliveriesLost, m.queuesFolded)
	}
	return m
}

func stateNames() (all []string) {
	for _, s := range []delivery.State{delivery.Pending, delivery.Retrying, delivery.Delivered, delivery.Failed} {
		all = append(all, s.String())
	}
	return all
}

func counter(name, help string) prometheus.Counter {
	return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
}

func gauge(name, help string) prometheus.Gauge {
	return prometheus.NewGauge(prometheus.GaugeOpts{Name: name, Help: help})
}

func counters(name, help, label string, values ...string) *prometheus.CounterVec {
	v := prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, []string{label})
	for _, value := range values {
		v.WithLabelValues(value)
	}
	return v
}
