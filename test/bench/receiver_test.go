// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/garyclub/webhook-operator/internal/fixture/pki"
	"github.com/garyclub/webhook-operator/internal/sign"
)

func newReceiving() *receiving {
	r := &receiving{buffers: sync.Pool{New: func() any { return new([]byte) }}}
	r.begin(&account{Arrivals: newArrivals(Load{Groups: 1, Fanout: 1})})
	return r
}

// ask asks the receiver as the runner does.
func ask(t *testing.T, r *receiving, method, path string, body any) *httptest.ResponseRecorder {
	t.Helper()
	content, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	w := httptest.NewRecorder()
	r.control().ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), method, path, bytes.NewReader(content)))
	return w
}

// The bare loop is a sender like another: the receiver finds nothing wrong with it.
func TestBareLoopDeliversEverythingOnceSigned(t *testing.T) {
	for name, http2 := range map[string]bool{"HTTP/1.1": false, "HTTP/2": true} {
		t.Run(name, func(t *testing.T) {
			ca := pki.NewCA("test")
			r, key := newReceiving(), sign.FormatKey(sign.NewKey())
			server := httptest.NewUnstartedServer(nil)
			server.Config = r.server("", ca.Leaf([]string{"127.0.0.1"}), http2)
			server.TLS, server.EnableHTTP2 = server.Config.TLSConfig, http2
			server.StartTLS()
			defer server.Close()
			load := flow(2*verifyEvery + 1)
			load.HTTP2 = http2
			if w := ask(t, r, http.MethodPost, "/orders", Orders{Load: load, Key: key}); w.Code != http.StatusOK {
				t.Fatal(w.Body)
			}
			caFile := filepath.Join(t.TempDir(), "ca.crt")
			if err := os.WriteFile(caFile, ca.PEM(), 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := climb(CeilingOptions{Load: load, URL: server.URL, CAFile: caFile, Key: key}); err != nil {
				t.Fatal(err)
			}
			var so Arrived
			if err := json.Unmarshal(ask(t, r, http.MethodGet, "/arrived?unique=1&warm=0", nil).Body.Bytes(), &so); err != nil {
				t.Fatal(err)
			}
			if so.Unique != int64(load.Events) || so.Duplicates != 0 || so.Wrong != 0 || so.Latency.Count != uint64(load.Events) {
				t.Errorf("%+v, want %d deliveries", so, load.Events)
			}
			if so.Connections < 1 || so.Connections > ceilingConnections {
				t.Errorf("%d connections", so.Connections)
			}
		})
	}
}

func TestAnotherSignatureIsWrong(t *testing.T) {
	r, load := newReceiving(), flow(1)
	ask(t, r, http.MethodPost, "/orders", Orders{Load: load, Key: sign.FormatKey(sign.NewKey())})
	q := httptest.NewRequestWithContext(t.Context(), http.MethodPost, pathOf(0), bytes.NewReader(newBody(load.BodyBytes)))
	q.Header.Set(sign.HeaderID, "evt_0")
	q.Header.Set(sign.HeaderSignature, sign.Signature([][]byte{sign.NewKey()}, "evt_0", "", newBody(load.BodyBytes)))
	w := httptest.NewRecorder()
	r.ServeHTTP(w, q)
	if so := r.account.Load().Arrived(); w.Code != http.StatusBadRequest || so.Wrong != 1 || so.Unique != 0 {
		t.Errorf("answered %d, %+v; want one that is wrong", w.Code, so)
	}
}

func TestOrdersNeedAKey(t *testing.T) {
	if w := ask(t, newReceiving(), http.MethodPost, "/orders", Orders{Load: flow(1), Key: "none"}); w.Code != http.StatusBadRequest {
		t.Errorf("answered %d, want 400", w.Code)
	}
}

func TestAnswersAboutDeliveries(t *testing.T) {
	got, err := readDeliveries([]byte(`{"events":[{"id":"evt_1","deliveries":2},{"id":"evt_2","deliveries":null}]}`))
	if err != nil || len(got) != 2 || got[0] != 2 || got[1] != 0 {
		t.Errorf("%v, %v; want 2 and 0", got, err)
	}
}

func TestNothingLeft(t *testing.T) {
	const waiting, flying = "webhook_dispatcher_queue_waiting_deliveries ", "webhook_dispatcher_queue_in_flight_deliveries "
	for name, tc := range map[string]struct {
		metrics  string
		wantLeft bool
	}{
		"nothing":                 {"# TYPE a gauge\n" + waiting + "0\n" + flying + "0\n", false},
		"one that waits":          {waiting + "1\n" + flying + "0\n", true},
		"one in flight":           {waiting + "0\n" + flying + "1\n", true},
		"metrics that are others": {"go_goroutines 7\n", true},
	} {
		t.Run(name, func(t *testing.T) {
			typed := "# TYPE webhook_dispatcher_queue_waiting_deliveries gauge\n# TYPE webhook_dispatcher_queue_in_flight_deliveries gauge\n"
			g, err := readGauges([]byte(typed + tc.metrics))
			if err != nil {
				t.Fatal(err)
			}
			if left := g.nothingLeft(); (left != nil) != tc.wantLeft {
				t.Errorf("left %v", left)
			}
		})
	}
}
