// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/garyclub/webhook-operator/api/v1alpha1"
	"github.com/garyclub/webhook-operator/internal/fixture/receiver"
	"github.com/garyclub/webhook-operator/internal/fixture/system"
)

// noRetries has each delivery fail at its first attempt.
func noRetries(s *v1alpha1.WebhookEndpointSpec) {
	s.Retry = retry(1)
	s.Retry.MaxRetries = 0
}

func (n *tenant) order(name string, spec v1alpha1.RedeliverySpec) {
	n.t.Helper()
	o := &v1alpha1.Redelivery{ObjectMeta: metav1.ObjectMeta{Namespace: n.namespace, Name: name}, Spec: spec}
	o.Spec.EndpointRef.Name = "a"
	if err := sys.Client.Create(n.t.Context(), o); err != nil {
		n.t.Fatal(err)
	}
}

// complete waits until the order has ended, with that reason.
func (n *tenant) complete(name, reason string) (o *v1alpha1.Redelivery) {
	n.t.Helper()
	o = &v1alpha1.Redelivery{}
	n.eventually(3*soon, func() error {
		if err := sys.Client.Get(n.t.Context(), client.ObjectKey{Namespace: n.namespace, Name: name}, o); err != nil {
			return err
		}
		if c := meta.FindStatusCondition(o.Status.Conditions, v1alpha1.ConditionComplete); c == nil || c.Reason != reason {
			return fmt.Errorf("the order is %+v", o.Status)
		}
		return nil
	})
	return o
}

// byID are the requests answered with the code, by webhook-id.
func byID(r *receiver.Receiver, code int) map[string][]receiver.Request {
	all := map[string][]receiver.Request{}
	for _, q := range eventRequests(r) {
		if q.Status == code {
			id := q.Header.Get("Webhook-Id")
			all[id] = append(all[id], q)
		}
	}
	return all
}

// Failed deliveries are counted, limited, chosen by call, and sent again with their bytes and ids, once for each order.
func TestFailedDeliveriesAreSentAgain(t *testing.T) {
	n := newTenant(t, "redelivery")
	r := unavailable(t)
	n.endpoint("a", r, noRetries, func(s *v1alpha1.WebhookEndpointSpec) {
		s.History = v1alpha1.HistorySpec{Succeeded: 50, Failed: 50, TTLSecondsAfterFinished: 3600}
	})
	n.start()
	n.ready("a")
	n.backlog(r, 12)
	failed := n.finished("a", v1alpha1.DeliveryFailed, 12, soon)
	if until := failed[0].Status.RedeliverableUntilTime; until == nil || time.Until(until.Time) < 23*time.Hour {
		t.Errorf("redeliverable until %v", until)
	}
	refused := byID(r, http.StatusServiceUnavailable)
	mend(r)

	n.order("count", v1alpha1.RedeliverySpec{DryRun: true})
	if o := n.complete("count", v1alpha1.ReasonCounted); o.Status.Matched != 12 || o.Status.Redelivered != 0 {
		t.Errorf("a dry run ends with %+v", o.Status)
	}
	one := failed[3].Spec.Event
	n.order("one-call", v1alpha1.RedeliverySpec{CallIDs: []string{one.CallID}})
	n.complete("one-call", v1alpha1.ReasonRedelivered)
	n.delivered(r, 1)
	n.order("some", v1alpha1.RedeliverySpec{Limit: 5})
	if o := n.complete("some", v1alpha1.ReasonPartial); o.Status.Matched != 11 || o.Status.Redelivered != 5 {
		t.Errorf("a limited order ends with %+v", o.Status)
	}
	n.delivered(r, 6)
	n.order("rest", v1alpha1.RedeliverySpec{Since: &metav1.Time{Time: failed[0].CreationTimestamp.Add(-time.Hour)}})
	n.complete("rest", v1alpha1.ReasonRedelivered)
	if duplicates := n.delivered(r, 12); duplicates > 0 {
		t.Errorf("%d were delivered twice", duplicates)
	}
	n.order("again", v1alpha1.RedeliverySpec{})
	n.complete("again", v1alpha1.ReasonNothingMatched)

	verifier := n.verifier("a")
	for id, all := range byID(r, http.StatusOK) {
		if len(refused[id]) != 1 || string(all[0].Body) != string(refused[id][0].Body) {
			t.Errorf("%s came with other bytes than the first time", id)
		}
		if err := verifier.Verify(all[0].Body, all[0].Header); err != nil {
			t.Errorf("%s: %v", id, err)
		}
	}
	n.counted("a", 12, 12)
	n.recordsOf("rest", 6)
}

// recordsOf waits until that many records name the order, delivered at their first attempt.
func (n *tenant) recordsOf(order string, want int) {
	n.t.Helper()
	n.eventually(soon, func() error {
		list := &v1alpha1.DeliveryAttemptList{}
		if err := sys.Client.List(n.t.Context(), list, client.InNamespace(n.namespace)); err != nil {
			return err
		}
		found := 0
		for _, a := range list.Items {
			if a.Spec.Trigger == v1alpha1.TriggerRedelivery && a.Spec.Redelivery == order && a.Status.Outcome == v1alpha1.DeliveryDelivered && a.Status.AttemptCount == 1 {
				found++
			}
		}
		if found != want {
			return fmt.Errorf("%d records are of the order %s, want %d", found, order, want)
		}
		return nil
	})
}

// Both ends die while an order is carried out: it ends all the same, and nothing is sent twice for it but what was in flight.
func TestAnOrderOutlivesTheProcesses(t *testing.T) {
	n := newTenant(t, "redelivery-killed")
	r := unavailable(t)
	n.endpoint("a", r, noRetries)
	n.start()
	n.ready("a")
	const events = 600
	n.backlog(r, events)
	n.counted("a", 0, events)
	r.Script(receiver.Step{Delay: 20 * time.Millisecond})

	n.order("outage", v1alpha1.RedeliverySpec{})
	n.eventually(soon, func() error {
		if len(byID(r, http.StatusOK)) == 0 {
			return fmt.Errorf("nothing has come")
		}
		return nil
	})
	n.Kill()
	sys.KillManager()
	if err := sys.StartManager(t.Context()); err != nil {
		t.Fatal(err)
	}
	n.restart()
	o := n.complete("outage", v1alpha1.ReasonRedelivered)
	if o.Status.Matched != events || o.Status.Redelivered != events {
		t.Errorf("the order ends with %+v", o.Status)
	}
	if duplicates := n.delivered(r, events); duplicates > 16 { // spec.maxInFlight
		t.Errorf("%d were delivered twice", duplicates)
	}
	n.counted("a", events, events)
}

// deletePod removes the object that stands for the dispatcher's pod, which no kubelet runs.
func (n *tenant) deletePod() {
	n.t.Helper()
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: n.namespace, Name: "voice-agent-0"}}
	if err := sys.Client.Delete(n.t.Context(), pod); err != nil {
		n.t.Fatal(err)
	}
}

// A pod that is deleted hands its failed deliveries over too: the gateway sends them again.
func TestTheGatewaySendsAgainWhatAPodLeft(t *testing.T) {
	g := startGateway(t, system.FirstGateway)
	n := newTenant(t, "redelivery-gateway")
	r := unavailable(t)
	n.endpoint("a", r, noRetries)
	n.start()
	n.ready("a")
	n.backlog(r, 20)
	n.finished("a", v1alpha1.DeliveryFailed, 20, soon)
	n.Terminate(2 * soon)
	n.deletePod()
	mend(r)
	n.order("outage", v1alpha1.RedeliverySpec{})
	if o := n.complete("outage", v1alpha1.ReasonRedelivered); o.Status.Redelivered != 20 {
		t.Errorf("the order ends with %+v", o.Status)
	}
	if duplicates := n.delivered(r, 20); duplicates > 0 {
		t.Errorf("%d were delivered twice", duplicates)
	}
	if text, err := os.ReadFile(g.Log()); err != nil || !strings.Contains(string(text), "failed deliveries are sent again") {
		t.Errorf("the gateway does not say so in its log, %v", err)
	}
	n.counted("a", 20, 20)
}

// An order that comes with the change which it is meant for waits for it: nothing goes where the endpoint pointed before.
func TestAnOrderGoesWhereTheEndpointPointsNow(t *testing.T) {
	t.Parallel()
	n := newTenant(t, "redelivery-moved")
	before, after := unavailable(t), receive(t, receiver.Options{Test: &receiver.Step{}})
	n.endpoint("a", before, noRetries)
	n.start()
	n.ready("a")
	n.backlog(before, 30)
	n.finished("a", v1alpha1.DeliveryFailed, 30, soon)
	mend(before)
	n.change("a", func(p *v1alpha1.WebhookEndpoint) { p.Spec.URL = after.URL("/" + markPath + "?token=" + markQuery) })
	n.order("moved", v1alpha1.RedeliverySpec{})
	n.complete("moved", v1alpha1.ReasonRedelivered)
	if duplicates := n.delivered(after, 30); duplicates > 0 {
		t.Errorf("%d were delivered twice", duplicates)
	}
	if got := len(eventRequests(before)); got != 30 {
		t.Errorf("%d requests went where the endpoint pointed before", got-30)
	}
}
