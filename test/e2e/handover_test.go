// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"bytes"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/garyclub/webhook-operator/api/v1alpha1"
	"github.com/garyclub/webhook-operator/internal/fixture/receiver"
	"github.com/garyclub/webhook-operator/internal/fixture/system"
)

const takenOver = `webhook_gateway_taken_over_total{result="added"}`

// unavailable is a receiver that answers 503 until it is mended.
func unavailable(t *testing.T) *receiver.Receiver {
	t.Helper()
	return receive(t, receiver.Options{Test: &receiver.Step{}, Script: []receiver.Step{{Status: http.StatusServiceUnavailable}}})
}

func mend(r *receiver.Receiver) { r.Script(receiver.Step{}) }

// backlog posts so many events, and waits until each has had one attempt.
func (n *tenant) backlog(r *receiver.Receiver, events int) {
	n.t.Helper()
	for left := events; left > 0; left -= 1000 {
		var batch bytes.Buffer
		for i := range min(left, 1000) {
			batch.WriteString(oneLine(string(call("call.completed", fmt.Sprintf("call_%s_%d_%d", n.namespace, left, i)))))
			batch.WriteByte('\n')
		}
		a, err := post(n.t.Context(), n.EventsURL(), "application/x-ndjson", batch.Bytes())
		if err != nil || a.code != http.StatusAccepted {
			n.t.Fatalf("answer %d %s, error %v", a.code, a.text, err)
		}
	}
	n.arrived(r, events, soon)
}

// drain sends the signal of a preStop.
func (n *tenant) drain() {
	n.t.Helper()
	if err := syscall.Kill(n.PID(), syscall.SIGUSR1); err != nil {
		n.t.Fatal(err)
	}
}

// handingOver drains, and returns once the gateway has something, with how much it had before.
func (n *tenant) handingOver(g *system.Gateway) (before float64) {
	n.t.Helper()
	before = metric(n.t, g.MetricsURL(), takenOver)
	n.drain()
	n.eventually(soon, func() error {
		if metric(n.t, g.MetricsURL(), takenOver) == before {
			return fmt.Errorf("nothing was handed over")
		}
		return nil
	})
	return before
}

// metric is the value of one that is exposed; 0 while it is not.
func metric(t *testing.T, url, name string) float64 {
	t.Helper()
	text, err := get(short(t), url)
	if err != nil {
		return 0
	}
	for line := range strings.Lines(text) {
		if value, found := strings.CutPrefix(line, name+" "); found {
			n, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
	}
	return 0
}

// delivered waits until so many events were answered 200, and returns how many of them more than once.
func (n *tenant) delivered(r *receiver.Receiver, events int) (duplicates int) {
	n.t.Helper()
	n.eventually(2*soon, func() error {
		seen := map[string]int{}
		for _, q := range eventRequests(r) {
			if q.Status == http.StatusOK {
				seen[q.Header.Get("Webhook-Id")]++
			}
		}
		duplicates = 0
		for _, times := range seen {
			duplicates += times - 1
		}
		if len(seen) != events {
			return fmt.Errorf("%d of %d events were delivered", len(seen), events)
		}
		return nil
	})
	return duplicates
}

func (n *tenant) noPending(endpoint string) {
	n.t.Helper()
	n.eventually(2*soon, func() error {
		if c := n.get(endpoint).Status.Deliveries; c == nil || c.Pending != 0 || c.Failed != 0 || c.Lost != 0 {
			return fmt.Errorf("counters %+v, want nothing pending, failed or lost", c)
		}
		return nil
	})
}

// ended is the line that a dispatcher's log ends with.
func ended(t *testing.T, log string) string {
	t.Helper()
	text, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	last := ""
	for line := range strings.Lines(string(text)) {
		if strings.Contains(line, "dispatcher has stopped") {
			last = line
		}
	}
	return last
}

func TestHandOverGoesOnWhereTheSidecarEnded(t *testing.T) {
	n := newTenant(t, "hand-over")
	r := unavailable(t)
	n.endpoint("a", r, func(s *v1alpha1.WebhookEndpointSpec) { s.Retry = retry(15) })
	n.start()
	n.ready("a")
	g := startGateway(t, system.FirstGateway)
	const events = 5
	n.backlog(r, events)
	n.drain()
	n.eventually(soon, func() error {
		if got := metric(t, g.MetricsURL(), takenOver); got != events {
			return fmt.Errorf("the gateway has taken %v of %d", got, events)
		}
		return nil
	})
	n.accept(call("call.completed", "call_after_the_signal")) // events still come in, and are handed over at the end
	n.Stop()
	if line := ended(t, n.Log()); !strings.Contains(line, `"waiting":0`) || !strings.Contains(line, `"handedOver":6`) {
		t.Errorf("the sidecar's log ends with %s", line)
	}
	mend(r)
	if duplicates := n.delivered(r, events+1); duplicates != 0 {
		t.Errorf("%d events were delivered twice", duplicates)
	}
	for _, a := range n.finished("a", v1alpha1.DeliveryDelivered, events+1, soon) {
		if a.Status.AttemptCount != 2 || len(a.Status.Attempts) != 2 || a.Status.Attempts[0].StatusCode != 503 {
			t.Errorf("%s: %d attempts, %+v; want the one before the hand-over and one after", a.Name, a.Status.AttemptCount, a.Status.Attempts)
		}
	}
	n.counted("a", events+1, 0)
}

func TestSidecarKilledWhileItHandsOver(t *testing.T) {
	n := newTenant(t, "kill-source")
	r := unavailable(t)
	n.endpoint("a", r, func(s *v1alpha1.WebhookEndpointSpec) { s.Retry = retry(10) })
	n.start()
	n.ready("a")
	g := startGateway(t, system.FirstGateway)
	const events = 1500
	n.backlog(r, events)
	before := n.handingOver(g)
	n.Kill()
	t.Logf("%v of %d were handed over before the kill", metric(t, g.MetricsURL(), takenOver)-before, events)
	mend(r)
	n.restart()
	duplicates := n.delivered(r, events)
	t.Logf("%d duplicates", duplicates)
	if duplicates > 256 {
		t.Errorf("%d events came twice, want at most what was under way: one message", duplicates)
	}
	n.noPending("a")
}

func TestGatewayKilledWhileItTakesOver(t *testing.T) {
	n := newTenant(t, "kill-sink")
	r := unavailable(t)
	n.endpoint("a", r, func(s *v1alpha1.WebhookEndpointSpec) { s.Retry = retry(10) })
	n.start()
	n.ready("a")
	g := startGateway(t, system.FirstGateway)
	const events = 1500
	n.backlog(r, events)
	n.handingOver(g)
	g.Kill()
	mend(r)
	if err := g.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	duplicates := n.delivered(r, events)
	t.Logf("%d duplicates", duplicates)
	n.noPending("a")
	n.Stop()
	if line := ended(t, n.Log()); !strings.Contains(line, `"waiting":0`) {
		t.Errorf("the sidecar's log ends with %s", line)
	}
}

func TestWithoutAGatewayTheEndSaysWhatIsLeft(t *testing.T) {
	n := newTenant(t, "no-gateway")
	r := unavailable(t)
	n.endpoint("a", r, func(s *v1alpha1.WebhookEndpointSpec) { s.Retry = retry(60) })
	n.start()
	n.ready("a")
	n.backlog(r, 3)
	n.drain()
	begin := time.Now()
	n.Stop()
	t.Logf("the end took %s", time.Since(begin))
	if line := ended(t, n.Log()); !strings.Contains(line, `"waiting":3`) || !strings.Contains(line, `"handedOver":0`) {
		t.Errorf("the sidecar's log ends with %s", line)
	}
}

func TestGatewayThatEndsHandsOverToAnother(t *testing.T) {
	n := newTenant(t, "scale")
	r := unavailable(t)
	n.endpoint("a", r, func(s *v1alpha1.WebhookEndpointSpec) { s.Retry = retry(4) })
	bindProducer(t, "scale", "scale")
	first, second := startGateway(t, system.FirstGateway), startGateway(t, "webhook-gateway-1")
	n.condition("a", v1alpha1.ConditionReady, "True", v1alpha1.ReasonReady)
	n.upToDate("a")
	token := producerToken(t, "scale", "producer", v1alpha1.EventsAudience)
	const events = 5
	for i := range events {
		admitted(t, second, "", token, call("call.completed", fmt.Sprintf("call_scale_%d", i)))
	}
	n.arrived(r, events, soon)
	before := metric(t, first.MetricsURL(), takenOver)
	second.Stop()
	if got := metric(t, first.MetricsURL(), takenOver) - before; got != events {
		t.Errorf("the gateway that stays has taken %v of %d", got, events)
	}
	if line := ended(t, second.Log()); !strings.Contains(line, `"waiting":0`) {
		t.Errorf("the log of the gateway that ended ends with %s", line)
	}
	mend(r)
	if duplicates := n.delivered(r, events); duplicates != 0 {
		t.Errorf("%d events were delivered twice", duplicates)
	}
	n.counted("a", events, 0)
}
