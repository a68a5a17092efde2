// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"net/http"
	"strings"
	"testing"
	"time"

	. "github.com/onsi/gomega"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/garyclub/webhook-operator/api/v1alpha1"
	"github.com/garyclub/webhook-operator/internal/endpoint"
	"github.com/garyclub/webhook-operator/internal/fixture/receiver"
)

func TestASuspendedEndpointIsHeldUntilItGoesOn(t *testing.T) {
	s := newStand(t)
	r := s.receiver("a.test", receiver.Options{})
	s.create("a", urlAt("a.test", r))
	s.untilReady("a")
	s.change("a", func(o *v1alpha1.WebhookEndpoint) { o.Spec.Suspend = true })
	s.untilHold("a", endpoint.HoldSuspended)
	s.Expect(s.untilCondition("a", v1alpha1.ConditionReady, metav1.ConditionTrue, v1alpha1.ReasonSuspended)).To(ContainSubstring("spec.suspend"))
	s.Expect(s.untilCondition("a", v1alpha1.ConditionDelivering, metav1.ConditionFalse, v1alpha1.ReasonSuspended)).To(ContainSubstring("deliveries wait"))
	s.untilCondition("a", v1alpha1.ConditionAccepted, metav1.ConditionTrue, v1alpha1.ReasonAccepted)
	s.Eventually(s.events).Should(ContainSubstring("a Normal Suspended: "))

	s.change("a", func(o *v1alpha1.WebhookEndpoint) { o.Spec.Suspend = false })
	s.untilHold("a", endpoint.HoldNone)
	s.untilReady("a")
	s.Expect(r.Count()).To(Equal(1))
}

func TestADeliveryThatSucceedsMendsAFailedTest(t *testing.T) {
	s := newStand(t)
	r := s.receiver("a.test", receiver.Options{Script: []receiver.Step{{Status: 500, Body: "hush-body"}}})
	s.create("a", urlAt("a.test", r), requesting("call.completed"))
	s.Expect(s.untilCondition("a", v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonTestFailed)).
		To(Equal("a test event of type call.completed failed: answered 500; deliveries go on, and one that succeeds makes the endpoint ready"))
	s.untilCondition("a", v1alpha1.ConditionTestDelivered, metav1.ConditionFalse, v1alpha1.ReasonRejected)
	s.untilHold("a", endpoint.HoldNone)
	s.Eventually(s.events).Should(ContainSubstring("a Warning TestFailed: "))

	o := s.get("a")
	at := o.Status.Test.Time.Add(time.Second)
	s.ledger.set(string(o.UID), Totals{Succeeded: 1, Pending: 2, LastSuccess: at})
	s.poke("a")
	o = s.untilReady("a")
	s.Expect(o.Status.Deliveries).To(And(HaveField("Succeeded", int64(1)), HaveField("Pending", int64(2))))
	s.untilCondition("a", v1alpha1.ConditionDelivering, metav1.ConditionTrue, v1alpha1.ReasonDelivering)
	s.untilCondition("a", v1alpha1.ConditionTestDelivered, metav1.ConditionFalse, v1alpha1.ReasonRejected)

	s.clock.forward(15 * time.Second) // counters alone are written at intervals
	s.ledger.set(string(o.UID), Totals{Succeeded: 1, Failed: 1, LastSuccess: at, LastFailure: at.Add(time.Second)})
	s.poke("a")
	s.Expect(s.untilCondition("a", v1alpha1.ConditionDelivering, metav1.ConditionFalse, v1alpha1.ReasonFailing)).To(ContainSubstring("DeliveryAttempt"))
	s.untilReady("a")
	s.Eventually(s.events).Should(ContainSubstring("a Warning Failing: 1 delivery failed for good"))

	s.change("a", requesting("call.completed/fails too"))
	o = s.untilRequested("a", "call.completed/fails too")
	s.Expect(conditionOf(o, v1alpha1.ConditionTestDelivered).Reason).To(Equal(v1alpha1.ReasonRejected))
	s.Expect(conditionOf(o, v1alpha1.ConditionReady).Status).To(Equal(metav1.ConditionTrue), "a delivery has shown before that the place answers")
}

func TestDeliveriesThatFailBetweenOthersAreToldOf(t *testing.T) {
	s := newStand(t)
	r := s.receiver("a.test", receiver.Options{})
	o := s.create("a", urlAt("a.test", r))
	s.untilReady("a")
	at := time.Now()
	for n, failed := range []int64{2, 2, 5} {
		s.ledger.set(string(o.UID), Totals{Succeeded: int64(100 * (n + 1)), Failed: failed, LastSuccess: at.Add(time.Duration(n) * time.Second), LastFailure: at})
		s.clock.forward(15 * time.Second) // counters alone are written at intervals
		s.poke("a")
		s.until("a", func(g Gomega, o *v1alpha1.WebhookEndpoint) {
			g.Expect(o.Status.Deliveries.Succeeded).To(Equal(int64(100 * (n + 1))))
		})
		s.untilCondition("a", v1alpha1.ConditionDelivering, metav1.ConditionTrue, v1alpha1.ReasonDelivering)
	}
	// The second look saw none fail; the third's Event joined the first's series.
	s.Eventually(s.events).Should(ContainSubstring("a Warning DeliveriesFailed: 2 deliveries failed for good since the last look: kubectl get deliveryattempts -n " +
		s.namespace + " --field-selector spec.endpointRef.name=a,status.outcome=Failed"))
	s.Expect(strings.Count(s.events(), "DeliveriesFailed")).To(Equal(1))
}

func TestCountersAreWrittenAtIntervals(t *testing.T) {
	s := newStand(t)
	r := s.receiver("a.test", receiver.Options{})
	s.create("a", urlAt("a.test", r))
	o := s.untilReady("a")
	s.untilCondition("a", v1alpha1.ConditionDelivering, metav1.ConditionUnknown, v1alpha1.ReasonNoDeliveriesYet)
	before := s.wire.statusWrites("a")
	for n := range int64(20) {
		s.ledger.set(string(o.UID), Totals{Succeeded: n, LastSuccess: time.Now()})
		s.poke("a")
	}
	s.Eventually(func() int { return len(s.changed) }).Should(BeZero())
	s.Consistently(func() int { return s.wire.statusWrites("a") }, "300ms").Should(Equal(before), "within the interval")
	s.clock.forward(10*time.Second + 2*time.Second) // and its spread
	s.poke("a")
	s.until("a", func(g Gomega, o *v1alpha1.WebhookEndpoint) {
		g.Expect(o.Status.Deliveries.Succeeded).To(Equal(int64(19)))
	})
	s.Expect(s.wire.statusWrites("a")).To(Equal(before + 1))
}

func TestA410HoldsDeliveriesUntilSomethingChanges(t *testing.T) {
	s := newStand(t)
	r := s.receiver("a.test", receiver.Options{})
	s.secret("it", true, "url", urlAt("a.test", r))
	o := s.create("a", "", urlFrom("it"))
	s.untilReady("a")
	var gone []string
	answer410 := func() {
		p := s.untilHold("a", endpoint.HoldNone)
		gone = append(gone, p.Incarnation)
		s.ledger.set(string(o.UID), Totals{Failed: int64(len(gone)), LastFailure: time.Now(), Gone: gone})
		s.poke("a")
		s.untilHold("a", endpoint.HoldGone)
		s.Expect(s.untilCondition("a", v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonGone)).To(ContainSubstring("410"))
		s.untilCondition("a", v1alpha1.ConditionDelivering, metav1.ConditionFalse, v1alpha1.ReasonGone)
		s.untilCondition("a", v1alpha1.ConditionStalled, metav1.ConditionTrue, v1alpha1.ReasonGone)
	}
	for _, tc := range []struct {
		name string
		mend func()
	}{
		{"a new generation", func() {
			s.change("a", func(o *v1alpha1.WebhookEndpoint) { o.Spec.DisplayName = "another" })
		}},
		{"another URL in the Secret", func() {
			s.secret("it", true, "url", urlAt("a.test", r)+"&more")
		}},
		{"a requested test that succeeds", func() {
			r.Script(receiver.Step{Status: 410}, receiver.Step{})
			s.change("a", requesting("call.completed/fails"))
			s.untilRequested("a", "call.completed/fails")
			s.untilHold("a", endpoint.HoldGone)
			s.change("a", requesting("call.completed/succeeds"))
		}},
	} {
		answer410()
		tc.mend()
		t.Log(tc.name)
		s.untilHold("a", endpoint.HoldNone)
		s.untilReady("a")
	}
	s.start()
	s.Expect(s.untilPublished("a", func(*endpoint.Endpoint) bool { return true }).Hold).To(Equal(endpoint.HoldNone), "another manager remembers the test")
}

func TestANewLeaderPublishesNothingBeforeItKnowsThe410s(t *testing.T) {
	s := newStand(t)
	r := s.receiver("a.test", receiver.Options{})
	o := s.create("a", urlAt("a.test", r))
	s.untilReady("a")
	s.ledger.set(string(o.UID), Totals{Failed: 1, LastFailure: time.Now(), Gone: []string{s.untilHold("a", endpoint.HoldNone).Incarnation}})
	s.poke("a")
	s.untilCondition("a", v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonGone)
	before := s.get("a").ResourceVersion

	s.ledger.load(false)
	s.start()
	s.Eventually(s.ledger.askedTooEarly).Should(BeNumerically(">=", 3), "it looks again")
	list, _, _ := s.registry.View(s.namespace)
	s.Expect(list).To(BeEmpty())
	s.Expect(s.get("a").ResourceVersion).To(Equal(before))

	s.ledger.load(true)
	s.Expect(s.untilPublished("a", func(*endpoint.Endpoint) bool { return true }).Hold).To(Equal(endpoint.HoldGone), "the first word of the new leader")
}

func TestReadyWaitsForConnectedDispatchersWithinABound(t *testing.T) {
	s := newStand(t)
	s.dispatchers.connect(2)
	r := s.receiver("a.test", receiver.Options{})
	s.create("a", urlAt("a.test", r))
	s.Expect(s.untilCondition("a", v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonWaitingForDispatchers)).
		To(Equal("0 of 2 connected dispatchers have taken the latest change"))
	s.untilCondition("a", v1alpha1.ConditionReconciling, metav1.ConditionTrue, v1alpha1.ReasonWaitingForDispatchers)
	s.dispatchers.take(s.untilHold("a", endpoint.HoldNone).Revision)
	s.poke("a")
	o := s.untilReady("a")
	s.Expect(o.Status.Dispatchers).To(Equal(&v1alpha1.DispatchersStatus{Connected: 2, UpToDate: 2}))

	// One that connects later is no news of the endpoint.
	s.change("a", func(o *v1alpha1.WebhookEndpoint) { o.Spec.MaxInFlight = 4 })
	s.untilCondition("a", v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonWaitingForDispatchers)
	s.clock.forward(takeTimeout)
	s.poke("a")
	o = s.untilReady("a")
	s.Expect(o.Status.Dispatchers).To(Equal(&v1alpha1.DispatchersStatus{Connected: 2}), "the bound has passed")

	// After a restart dispatchers come back one by one.
	s.dispatchers.connect(0)
	s.start()
	s.untilHold("a", endpoint.HoldNone)
	s.dispatchers.connect(1)
	for range 5 {
		s.poke("a")
	}
	s.Consistently(func() metav1.ConditionStatus {
		return conditionOf(s.get("a"), v1alpha1.ConditionReady).Status
	}, "300ms").Should(Equal(metav1.ConditionTrue))
}

func TestAnAPIServerThatRefusesSecretsLeavesNoEndpointUnknown(t *testing.T) {
	s := newStand(t)
	r := s.receiver("a.test", receiver.Options{})
	s.create("b", urlAt("a.test", r))
	s.untilReady("b")
	s.wire.refusing(func(q *http.Request) bool {
		return q.Method == http.MethodGet && strings.HasSuffix(q.URL.Path, "/secrets/unlabelled")
	})
	s.create("a", urlAt("a.test", r), headerFrom("unlabelled"))
	s.untilHold("a", endpoint.HoldUnresolved)
	s.Expect(s.untilCondition("a", v1alpha1.ConditionReady, metav1.ConditionUnknown, v1alpha1.ReasonNotAccepted)).To(ContainSubstring("it is tried again"))
	s.untilCondition("a", v1alpha1.ConditionReconciling, metav1.ConditionTrue, v1alpha1.ReasonNotAccepted)

	// What was published before stays: deliveries go on by it.
	s.change("b", headerFrom("unlabelled"))
	s.untilCondition("b", v1alpha1.ConditionReady, metav1.ConditionUnknown, v1alpha1.ReasonNotAccepted)
	s.untilHold("b", endpoint.HoldNone)

	s.wire.refusing(nil)
	for _, name := range []string{"a", "b"} {
		s.untilCondition(name, v1alpha1.ConditionAccepted, metav1.ConditionFalse, v1alpha1.ReasonSecretNotFound)
	}
	s.secret("unlabelled", true, "value", "hush")
	s.untilReady("a")
	s.untilReady("b")
}
