// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/garyclub/webhook-operator/api/v1alpha1"
	"github.com/garyclub/webhook-operator/internal/fixture/receiver"
	"github.com/garyclub/webhook-operator/internal/fixture/system"
)

// What one of several endpoints, or one of several namespaces, does costs the others little and loses them nothing.
// These tests measure, so they are not parallel.

// series are the latencies of events that were posted one after the other.
type series struct {
	ingest, delivery []time.Duration
}

func at(all []time.Duration, part float64) time.Duration {
	sorted := slices.Sorted(slices.Values(all))
	return sorted[min(len(sorted)-1, int(part*float64(len(sorted))))]
}

func (s series) String() string {
	return fmt.Sprintf("ingest p50 %s p95 %s, delivery p50 %s p95 %s", at(s.ingest, 0.5), at(s.ingest, 0.95), at(s.delivery, 0.5), at(s.delivery, 0.95))
}

// samples is how many events a series has; interval is the time between them.
const (
	samples  = 200
	interval = 10 * time.Millisecond
)

// measure posts a series of events for the endpoint behind r and waits until all of them have come.
func (n *tenant) measure(r *receiver.Receiver, name string) (s series) {
	n.t.Helper()
	posted, before := map[string]time.Time{}, len(eventRequests(r))
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for i := range samples {
		<-tick.C
		id := fmt.Sprintf("call_%s_%d", name, i)
		begin := time.Now()
		n.accept(call("booking.created", id))
		s.ingest = append(s.ingest, time.Since(begin))
		posted[id] = begin
	}
	for _, q := range n.arrived(r, before+samples, soon)[before:] {
		var body struct {
			Call struct {
				ID string `json:"id"`
			} `json:"call"`
		}
		if err := json.Unmarshal(q.Body, &body); err != nil {
			n.t.Fatal(err)
		}
		if begin, ok := posted[body.Call.ID]; ok {
			s.delivery = append(s.delivery, q.Time.Sub(begin))
			delete(posted, body.Call.ID)
		}
	}
	if len(posted) > 0 {
		n.t.Errorf("%s: %d events have not come", name, len(posted))
	}
	return s
}

// within compares a series with the quiet one. The bounds leave room for a machine that is busy with other things; an
// endpoint that waited for another one's timeout, or for its backlog, would wait for seconds.
func (s series) within(t *testing.T, name string, quiet series) {
	t.Helper()
	const factor, floor = 10, 250 * time.Millisecond
	for what, pair := range map[string][2]time.Duration{
		"ingest p50": {at(s.ingest, 0.5), at(quiet.ingest, 0.5)}, "ingest p95": {at(s.ingest, 0.95), at(quiet.ingest, 0.95)},
		"delivery p50": {at(s.delivery, 0.5), at(quiet.delivery, 0.5)}, "delivery p95": {at(s.delivery, 0.95), at(quiet.delivery, 0.95)},
	} {
		t.Logf("%s: %s %s, quiet %s, ratio %.2f", name, what, pair[0], pair[1], float64(pair[0])/float64(pair[1]))
		if pair[0] > max(factor*pair[1], floor) {
			t.Errorf("%s: %s is %s, quiet it was %s", name, what, pair[0], pair[1])
		}
	}
}

func of(event v1alpha1.EventType) func(*v1alpha1.WebhookEndpointSpec) {
	return func(s *v1alpha1.WebhookEndpointSpec) { s.Events = []v1alpha1.EventType{event} }
}

// large is an event of about so many bytes.
func large(event, id string, size int) []byte {
	return fmt.Appendf(nil, `{"event":%q,"timestamp":"2026-02-15T14:32:00Z","call":{"id":%q},"summary":%q}`, event, id, strings.Repeat("x", size))
}

// batch posts events that must be accepted, as many as 100 in one request.
func (n *tenant) batch(event string, from, count int) {
	var body bytes.Buffer
	for i := range count {
		fmt.Fprintf(&body, `{"event":%q,"timestamp":"2026-02-15T14:32:00Z","call":{"id":"call_%d"}}`+"\n", event, from+i)
	}
	a, err := post(n.t.Context(), n.EventsURL(), "application/x-ndjson", body.Bytes())
	if err != nil || a.code != http.StatusAccepted {
		n.t.Errorf("a batch: answer %d %s, error %v", a.code, a.text, err)
	}
}

func TestOneEndpointDoesNotHoldUpAnother(t *testing.T) {
	// The flood, with 1 KiB for each event, is less than the 4 MiB of its endpoint's share.
	const hanging, flooding, filling, size = 300, 3000, 60, 100 << 10
	n := newTenant(t, "isolation", "--queue-max-bytes=16777216")
	quiet := receive(t, receiver.Options{})
	hangs := receive(t, receiver.Options{Test: &receiver.Step{}, Script: []receiver.Step{{Hang: true}}})
	flooded, full := receive(t, receiver.Options{}), receive(t, receiver.Options{})
	n.endpoint("quiet", quiet, of("booking.created"))
	// No delivery comes to its last attempt within the test.
	n.endpoint("hangs", hangs, of("call.completed"), onRequest, func(s *v1alpha1.WebhookEndpointSpec) { s.Retry = retry(300) })
	n.endpoint("flooded", flooded, of("contact.created"), onRequest)
	n.endpoint("full", full, of("custom.full"), onRequest, func(s *v1alpha1.WebhookEndpointSpec) { s.Suspend = true })
	n.start()
	n.ready("quiet")
	n.upToDate("hangs", "flooded", "full")
	n.measure(quiet, "warm")
	base := n.measure(quiet, "quiet")
	t.Logf("quiet: %s", base)

	for i := range hanging / 100 {
		n.batch("call.completed", 100*i, 100)
	}
	n.arrived(hangs, 1, soon)
	n.measure(quiet, "hangs").within(t, "beside one that hangs", base)

	for i := range filling {
		n.accept(large("custom.full", fmt.Sprint("call_full_", i), size))
	}
	n.measure(quiet, "full").within(t, "beside one whose share is full", base)

	var flood sync.WaitGroup
	flood.Go(func() {
		for i := range flooding / 100 {
			n.batch("contact.created", 100*i, 100)
		}
	})
	n.measure(quiet, "flood").within(t, "beside one that is flooded", base)
	flood.Wait()
	n.arrived(flooded, flooding, time.Minute)

	// Nothing is lost and none of the others' deliveries failed. An endpoint's share is a quarter of the queue; a delivery
	// holds its payload and 1 KiB.
	held := int64(4<<20) / int64(len(large("custom.full", "call_full_10", size))+1024)
	n.counted("quiet", 5*samples, 0)
	n.counted("flooded", flooding, 0)
	n.eventually(soon, func() error {
		c := n.get("full").Status.Deliveries
		if c == nil || c.Succeeded != 0 || c.Pending != held || c.Failed != filling-held {
			return fmt.Errorf("the endpoint with a full share has %+v, want %d pending and %d failed", c, held, filling-held)
		}
		return nil
	})
	n.eventually(soon, func() error {
		c := n.get("hangs").Status.Deliveries
		if c == nil || c.Pending != hanging || c.Failed != 0 || c.Succeeded != 0 {
			return fmt.Errorf("the endpoint that hangs has %+v, want %d pending", c, hanging)
		}
		return nil
	})
	if got := len(eventRequests(quiet)); got != 5*samples {
		t.Errorf("the quiet receiver got %d requests, want %d", got, 5*samples)
	}
	// What was held for the full endpoint goes out when it may.
	n.change("full", func(p *v1alpha1.WebhookEndpoint) { p.Spec.Suspend = false })
	n.counted("full", held, filling-held)
}

func TestOneNamespaceDoesNotFillAGatewayForAnother(t *testing.T) {
	const endpoints, size = 5, 100 << 10
	greedy, modest := newTenant(t, "quota-greedy"), newTenant(t, "quota-modest")
	receivers := make([]*receiver.Receiver, endpoints)
	for i := range receivers {
		receivers[i] = receive(t, receiver.Options{})
		greedy.endpoint(fmt.Sprint("e", i), receivers[i], of("custom.greedy"), onRequest, func(s *v1alpha1.WebhookEndpointSpec) { s.Suspend = true })
	}
	r := receive(t, receiver.Options{})
	modest.endpoint("one", r)
	bindProducer(t, "quota-greedy", "quota-greedy")
	bindProducer(t, "quota-modest", "quota-modest")
	// A share of 1.6 MiB, and 0.4 MiB for an endpoint.
	g := startGateway(t, system.FirstGateway, "--queue-max-bytes=16777216", "--namespace-share=0.1",
		"--namespace-events-per-second=1", "--namespace-burst=1000")
	modest.ready("one")
	for i := range endpoints {
		greedy.upToDate(fmt.Sprint("e", i))
	}
	token := producerToken(t, "quota-greedy", "producer", v1alpha1.EventsAudience)
	admitted(t, g, "", token, call("custom.other", "call_known"))
	other := producerToken(t, "quota-modest", "producer", v1alpha1.EventsAudience)
	admitted(t, g, "", other, call("custom.other", "call_known"))

	accepted := 0
	greedy.eventually(soon, func() error {
		a := send(t, g, "", token, large("custom.greedy", fmt.Sprint("call_greedy_", accepted), size))
		switch {
		case a.code == http.StatusServiceUnavailable && strings.Contains(a.text, "namespace-share") && strings.Contains(a.Detail, "--namespace-share"):
			return nil
		case a.code == http.StatusAccepted:
			accepted++
		default:
			t.Fatalf("answer %d %s", a.code, a.text)
		}
		return fmt.Errorf("%d events were accepted", accepted)
	})
	if accepted != 3 {
		t.Errorf("%d events of 5 times 101 KiB were accepted, want 3", accepted)
	}
	if got := metric(t, g.MetricsURL(), `webhook_gateway_quota_refused_total{quota="share"}`); got != 1 {
		t.Errorf("%v requests are counted as refused, want 1", got)
	}
	for i := range 20 {
		if a := send(t, g, "", other, call("call.completed", fmt.Sprint("call_modest_", i))); a.code != http.StatusAccepted {
			t.Errorf("the other namespace: answer %d %s", a.code, a.text)
		}
	}
	modest.arrived(r, 20, soon)
	modest.counted("one", 20, 0)

	// The other quota: events a second.
	var burst bytes.Buffer
	for i := range 1000 {
		fmt.Fprintf(&burst, `{"event":"custom.other","timestamp":"2026-02-15T14:32:00Z","call":{"id":"call_%d"}}`+"\n", i)
	}
	if a := send(t, g, "", other, burst.Bytes(), "Content-Type", "application/x-ndjson"); a.code != http.StatusTooManyRequests || !strings.Contains(a.text, "namespace-rate") {
		t.Errorf("beyond the rate: answer %d %s, want 429", a.code, a.text)
	}

	// With the greedy one's deliveries gone there is room again, and nothing of it was lost.
	for i := range endpoints {
		greedy.change(fmt.Sprint("e", i), func(p *v1alpha1.WebhookEndpoint) { p.Spec.Suspend = false })
	}
	for i, r := range receivers {
		greedy.arrived(r, accepted, soon)
		greedy.counted(fmt.Sprint("e", i), int64(accepted), 0)
	}
	greedy.eventually(soon, func() error {
		if a := send(t, g, "", token, large("custom.greedy", "call_again", size)); a.code != http.StatusAccepted {
			return fmt.Errorf("answer %d %s", a.code, a.text)
		}
		return nil
	})
}
