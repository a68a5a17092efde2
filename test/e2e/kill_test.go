// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"bytes"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/garyclub/webhook-operator/api/v1alpha1"
	"github.com/garyclub/webhook-operator/internal/fixture/receiver"
)

func TestKilledDispatcherDeliversAllThatWasAccepted(t *testing.T) {
	n := newTenant(t, "kill-dispatcher")
	const events = 1000
	slow := receiver.Step{Delay: 500 * time.Millisecond}
	r := receive(t, receiver.Options{Test: &receiver.Step{}, Script: []receiver.Step{slow}})
	n.endpoint("a", r, func(s *v1alpha1.WebhookEndpointSpec) { s.MaxInFlight = 8 })
	n.start()
	n.ready("a")
	accepted := map[string][]byte{} // by webhook-id
	for i := range events {
		body := call("call.completed", fmt.Sprintf("call_kill_%d", i))
		accepted[n.accept(body).ID] = body
	}
	n.Kill()
	before := len(eventRequests(r))
	if before > events/2 {
		t.Fatalf("%d of %d events were delivered before the kill: too few waited", before, events)
	}
	r.Script(receiver.Step{})
	restarted := time.Now()
	n.restart()
	n.arrived(r, before+1, soon)
	t.Logf("going again after %s; %d of %d had come before the kill", time.Since(restarted), before, events)

	seen := map[string]int{}
	n.eventually(2*soon, func() error {
		seen = map[string]int{}
		for _, q := range eventRequests(r) {
			seen[q.Header.Get("Webhook-Id")]++
		}
		if len(seen) < events {
			return fmt.Errorf("%d of %d events have arrived", len(seen), events)
		}
		return nil
	})
	n.counted("a", events, 0)
	duplicates := 0
	for _, q := range eventRequests(r) {
		body, known := accepted[q.Header.Get("Webhook-Id")]
		if !known || !bytes.Equal(body, q.Body) {
			t.Errorf("a request has an id that was not given, or the body of another event: %s", q.Header.Get("Webhook-Id"))
		}
	}
	for id, times := range seen {
		duplicates += times - 1
		if times > 2 {
			t.Errorf("event %s came %d times after one kill", id, times)
		}
	}
	t.Logf("%d duplicates", duplicates)
	if duplicates > 8 {
		t.Errorf("%d events came twice, want at most what was in flight: 8", duplicates)
	}
}

func TestDeliveriesGoOnWithoutTheManager(t *testing.T) {
	n := newTenant(t, "kill-manager")
	r := receive(t, receiver.Options{})
	n.endpoint("a", r, func(s *v1alpha1.WebhookEndpointSpec) {
		s.History = v1alpha1.HistorySpec{Succeeded: 100, Failed: 100, TTLSecondsAfterFinished: 3600}
	})
	n.start()
	n.ready("a")
	tests := r.Count()
	n.accept(call("call.completed", "call_0"))
	n.counted("a", 1, 0)
	sys.KillManager()
	for i := range 49 {
		n.accept(call("call.completed", fmt.Sprintf("call_%d", i+1)))
	}
	n.arrived(r, 50, soon)
	// The dispatcher too is started anew, and knows its endpoints from its disk.
	n.Kill()
	n.restart()
	n.accept(call("call.completed", "call_50"))
	n.arrived(r, 51, soon)
	if err := sys.StartManager(t.Context()); err != nil {
		t.Fatal(err)
	}
	n.finished("a", v1alpha1.DeliveryDelivered, 51, 2*soon)
	n.counted("a", 51, 0)
	n.ready("a")
	if got := r.Count() - len(eventRequests(r)); got != tests {
		t.Errorf("%d test events, want %d: a restart of the manager is no change", got, tests)
	}
}

// A sidecar that ends while no manager leads: its last counters are not lost with its queue.
func TestADispatcherThatEndsWaitsForTheNextLeader(t *testing.T) {
	n := newTenant(t, "end-without-leader", "--drain-timeout=30s")
	r := receive(t, receiver.Options{})
	n.endpoint("a", r)
	n.start()
	n.ready("a")
	sys.KillManager()
	for i := range 20 {
		n.accept(call("call.completed", fmt.Sprintf("call_%d", i)))
	}
	n.arrived(r, 20, soon)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		n.Terminate(time.Minute)
	}()
	// Its lease is the dead one's for some time yet.
	if err := sys.StartManager(t.Context()); err != nil {
		t.Fatal(err)
	}
	<-ended
	n.counted("a", 20, 0)
}

func TestDeliveriesGoOnWithoutTheAPIServer(t *testing.T) {
	n := newTenant(t, "kill-apiserver")
	r := receive(t, receiver.Options{})
	n.endpoint("a", r, func(s *v1alpha1.WebhookEndpointSpec) {
		s.History = v1alpha1.HistorySpec{Succeeded: 100, Failed: 100, TTLSecondsAfterFinished: 3600}
	})
	n.start()
	n.ready("a")
	if err := sys.KillAPIServer(); err != nil {
		t.Fatal(err)
	}
	if err := sys.KillEtcd(); err != nil {
		t.Fatal(err)
	}
	for i := range 50 {
		n.accept(call("call.completed", fmt.Sprintf("call_%d", i)))
	}
	n.arrived(r, 50, soon)
	if err := sys.StartEtcd(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := sys.StartAPIServer(t.Context()); err != nil {
		t.Fatal(err)
	}
	// A manager that could not renew its lease has ended; a kubelet would start it again.
	if err := sys.EnsureManager(t.Context()); err != nil {
		t.Fatal(err)
	}
	n.finished("a", v1alpha1.DeliveryDelivered, 50, 2*soon)
	n.counted("a", 50, 0)
}

func TestADispatcherThatNeverSawAManagerLosesNothing(t *testing.T) {
	n := newTenant(t, "no-manager")
	n.restart() // without a CA to trust, and without endpoints
	a := n.accept(call("call.completed", "call_early"), "Idempotency-Key", "early")
	if a.Deliveries != nil {
		t.Errorf("answer %s, want deliveries null: no list of endpoints has come", a.text)
	}
	n.Kill()
	n.restart()
	if again := n.accept(call("call.completed", "call_early"), "Idempotency-Key", "early"); again.ID != a.ID {
		t.Errorf("the same key gave the ids %s and %s", a.ID, again.ID)
	}
	r := receive(t, receiver.Options{})
	n.endpoint("a", r)
	n.accepted("a")
	if err := n.Trust(t.Context()); err != nil {
		t.Fatal(err)
	}
	q := n.arrived(r, 1, 2*soon)
	if len(q) != 1 || q[0].Header.Get("Webhook-Id") != a.ID {
		t.Errorf("%d requests, the first with id %s, want one with %s", len(q), q[0].Header.Get("Webhook-Id"), a.ID)
	}
	n.counted("a", 1, 0)
}

func TestEndpointDeletedWhileItsDeliveriesWait(t *testing.T) {
	n := newTenant(t, "deleted")
	r, other := receive(t, receiver.Options{Test: &receiver.Step{}, Script: []receiver.Step{{Status: 500}}}), receive(t, receiver.Options{})
	n.endpoint("a", r, func(s *v1alpha1.WebhookEndpointSpec) { s.Retry = retry(3) })
	n.endpoint("b", other)
	n.start()
	n.ready("a")
	n.ready("b")
	n.accept(call("call.completed", "call_deleted"))
	n.arrived(r, 1, soon)
	if err := sys.Client.Delete(t.Context(), n.get("a")); err != nil {
		t.Fatal(err)
	}
	// Replaced within the minute, as GitOps tools do: its deliveries go on under the new object.
	mended := receive(t, receiver.Options{})
	n.endpoint("a", mended, onRequest)
	q := n.arrived(mended, 1, 2*soon)
	if q[0].Header.Get("Webhook-Id") != eventRequests(r)[0].Header.Get("Webhook-Id") {
		t.Error("the delivery that waited did not go to the endpoint that replaced its own")
	}
	if a := n.accept(call("call.completed", "call_replaced")); a.code != http.StatusAccepted || *a.Deliveries != 2 {
		t.Errorf("answer %s, want two deliveries", a.text)
	}
	n.arrived(mended, 2, soon)
}
