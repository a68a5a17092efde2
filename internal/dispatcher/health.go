// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package dispatcher

import (
	"context"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/garyclub/webhook-operator/internal/queue"
)

// health serves /healthz, /readyz and /metrics on the pod's address; events are not taken here.
type health struct {
	server   *http.Server
	listener net.Listener
}

func newHealth(ctx context.Context, address string, gatherer prometheus.Gatherer, alive, ready func() error) (*health, error) {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(gatherer, promhttp.HandlerOpts{MaxRequestsInFlight: 4}))
	mux.HandleFunc("GET /healthz", verdict(alive))
	mux.HandleFunc("GET /readyz", verdict(ready))
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second, MaxHeaderBytes: 16 << 10}
	return &health{server, listener}, nil
}

// verdict answers 200, or 503 with the reason.
func verdict(judge func() error) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		if err := judge(); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
		}
	}
}

func (h *health) serve() { _ = h.server.Serve(h.listener) } // ends with stop

func (h *health) stop(ctx context.Context) { _ = h.server.Shutdown(ctx) }

// registerQueue exposes the queue's figures; they are read when they are asked for.
func registerQueue(r prometheus.Registerer, q queue.Queue) {
	gauge := func(name, help string, value func(queue.Stats) float64) {
		r.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "webhook_dispatcher_queue_" + name, Help: help},
			func() float64 { return value(q.Stats()) }))
	}
	gauge("waiting_deliveries", "Deliveries that wait for an attempt.", func(s queue.Stats) float64 { return float64(s.Waiting) })
	gauge("in_flight_deliveries", "Deliveries with an attempt under way.", func(s queue.Stats) float64 { return float64(s.InFlight) })
	gauge("unmatched_events", "Events that wait for the first list of endpoints.", func(s queue.Stats) float64 { return float64(s.Unmatched) })
	gauge("dead_letters", "Failed deliveries whose payload is kept.", func(s queue.Stats) float64 { return float64(s.DeadLetters) })
	gauge("outbox_records", "Records that the manager has not taken yet.", func(s queue.Stats) float64 { return float64(s.Outbox) })
	gauge("live_bytes", "Bytes of what waits.", func(s queue.Stats) float64 { return float64(s.LiveBytes) })
	gauge("dead_letter_bytes", "Bytes of dead letters.", func(s queue.Stats) float64 { return float64(s.DeadBytes) })
	gauge("disk_bytes", "Bytes on disk, log and compaction included.", func(s queue.Stats) float64 { return float64(s.DiskBytes) })
	gauge("max_bytes", "Live bytes at which new events are answered 503.", func(s queue.Stats) float64 { return float64(s.MaxBytes) })
	gauge("idempotency_keys", "Idempotency keys remembered.", func(s queue.Stats) float64 { return float64(s.IdempotencyKeys) })
	gauge("oldest_idempotency_key_seconds", "Age of the oldest idempotency key.", func(s queue.Stats) float64 { return s.OldestKeyAge.Seconds() })
	gauge("oldest_due_seconds", "How long the delivery that is due the longest has been so; 0 when none is due.",
		func(s queue.Stats) float64 { return s.OldestDue.Seconds() })
}
