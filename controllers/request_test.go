// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"encoding/json"
	"strconv"
	"strings"
	"testing"

	. "github.com/onsi/gomega"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/garyclub/webhook-operator/api/v1alpha1"
	"github.com/garyclub/webhook-operator/internal/endpoint"
	"github.com/garyclub/webhook-operator/internal/fixture/receiver"
)

func onRequest(o *v1alpha1.WebhookEndpoint) { o.Spec.Test.When = v1alpha1.TestOnRequest }

func requesting(what string) func(*v1alpha1.WebhookEndpoint) {
	return func(o *v1alpha1.WebhookEndpoint) {
		o.Annotations = map[string]string{v1alpha1.AnnotationRequestedTest: what}
	}
}

// untilRequested waits until the status says that the request was handled.
func (s *stand) untilRequested(name, what string) *v1alpha1.WebhookEndpoint {
	s.t.Helper()
	return s.until(name, func(g Gomega, o *v1alpha1.WebhookEndpoint) { g.Expect(o.Status.Test.Requested).To(Equal(what)) })
}

func TestATestEventIsSentWhenThePlaceChangesAndOnlyThen(t *testing.T) {
	s := newStand(t)
	first, second := s.receiver("a.test", receiver.Options{}), s.receiver("b.test", receiver.Options{})
	s.create("a", urlAt("a.test", first))
	s.untilReady("a")

	for name, tc := range map[string]func(*v1alpha1.WebhookEndpoint){
		"displayName":    func(o *v1alpha1.WebhookEndpoint) { o.Spec.DisplayName = "another" },
		"events":         func(o *v1alpha1.WebhookEndpoint) { o.Spec.Events = []v1alpha1.EventType{"contact.created"} },
		"timeoutSeconds": func(o *v1alpha1.WebhookEndpoint) { o.Spec.TimeoutSeconds = 20 },
		"an annotation":  func(o *v1alpha1.WebhookEndpoint) { o.Annotations = map[string]string{"example.com/note": "x"} },
	} {
		s.change("a", tc)
		s.untilReady("a")
		s.Expect(first.Count()).To(Equal(1), name)
	}

	s.change("a", func(o *v1alpha1.WebhookEndpoint) { o.Spec.URL = urlAt("b.test", second) })
	s.until("a", func(g Gomega, o *v1alpha1.WebhookEndpoint) {
		g.Expect(o.Status.Host).To(Equal("b.test:" + port(second)))
	})
	s.untilReady("a")
	s.Expect(first.Count()).To(Equal(1))
	s.Expect(second.Count()).To(Equal(1))
	s.Expect(second.Requests()[0].Header.Get("Webhook-Id")).NotTo(Equal(first.Requests()[0].Header.Get("Webhook-Id")))

	s.secret("auth", true, "value", "Bearer hush-successor") // the credentials are part of the place
	s.Expect(second.Wait(t.Context(), 2)).To(Succeed())
	s.Expect(second.Requests()[1].Header.Get("Authorization")).To(Equal("Bearer hush-successor"))
	s.untilReady("a")
}

func TestAPersonRequestsTestEventsOfEachType(t *testing.T) {
	s := newStand(t)
	r := s.receiver("a.test", receiver.Options{})
	s.create("a", urlAt("a.test", r), onRequest)
	s.Expect(s.untilCondition("a", v1alpha1.ConditionTestDelivered, metav1.ConditionUnknown, v1alpha1.ReasonNotRequested)).
		To(ContainSubstring(v1alpha1.AnnotationRequestedTest))
	s.untilReady("a")
	s.Expect(r.Count()).To(BeZero(), "with OnRequest nothing is sent at creation")

	for i, kind := range []string{"call.completed", "booking.created", "contact.created", "custom.form_submitted"} {
		requested := kind + "/" + strconv.Itoa(i)
		s.change("a", requesting(requested))
		o := s.untilRequested("a", requested)
		s.Expect(o.Status.Test).To(And(HaveField("Event", kind), HaveField("Outcome", v1alpha1.AttemptOutcome("Delivered"))))
		s.Expect(s.untilCondition("a", v1alpha1.ConditionTestDelivered, metav1.ConditionTrue, v1alpha1.ReasonDelivered)).To(ContainSubstring(kind))
		var body struct{ Event, Timestamp string }
		s.Expect(json.Unmarshal(r.Requests()[i].Body, &body)).To(Succeed())
		s.Expect(body.Event).To(Equal(kind))
		s.verify(r.Requests()[i], s.key("a-webhook-signing"))
	}

	s.change("a", requesting("custom.form_submitted/3")) // what was asked for already
	s.change("a", func(o *v1alpha1.WebhookEndpoint) { o.Spec.DisplayName = "looked at once more" })
	s.untilReady("a")
	s.change("a", requesting("call.completed")) // without a token
	s.untilRequested("a", "call.completed")
	s.Expect(r.Count()).To(Equal(5))
}

func TestARequestThatCannotBeFulfilledSaysWhy(t *testing.T) {
	s := newStand(t)
	r := s.receiver("a.test", receiver.Options{})
	s.create("a", urlAt("a.test", r), onRequest)
	s.untilReady("a")
	for _, requested := range []string{"call.finished", "custom.", "call.completed/" + strings.Repeat("x", 65), strings.Repeat("é", 300)} {
		s.change("a", requesting(requested))
		message := s.untilCondition("a", v1alpha1.ConditionTestDelivered, metav1.ConditionFalse, v1alpha1.ReasonUnknownEvent)
		s.Expect(message).To(And(ContainSubstring("call.completed, booking.created, contact.created"), ContainSubstring("at most 64 characters")))
		s.untilRequested("a", truncated(requested, 256))
		s.untilReady("a")
	}
	s.Expect(r.Count()).To(BeZero())

	s.change("a", requesting("call.completed/mended"))
	s.untilRequested("a", "call.completed/mended")
	s.untilCondition("a", v1alpha1.ConditionTestDelivered, metav1.ConditionTrue, v1alpha1.ReasonDelivered)
}

func TestARequestThatFailsChangesTestDeliveredAlone(t *testing.T) {
	s := newStand(t)
	r := s.receiver("a.test", receiver.Options{Script: []receiver.Step{{}, {Status: 500}}})
	s.create("a", urlAt("a.test", r))
	s.untilReady("a")
	s.change("a", requesting("call.completed/fails"))
	o := s.untilRequested("a", "call.completed/fails")
	s.Expect(conditionOf(o, v1alpha1.ConditionTestDelivered).Reason).To(Equal(v1alpha1.ReasonRejected))
	s.Expect(conditionOf(o, v1alpha1.ConditionReady).Status).To(Equal(metav1.ConditionTrue), "the test before was delivered to the same place")

	s.start() // another manager remembers it too
	s.untilHold("a", endpoint.HoldNone)
	s.change("a", func(o *v1alpha1.WebhookEndpoint) { o.Spec.TimeoutSeconds = 20 }) // may be the cure: tested once more
	o = s.until("a", func(g Gomega, o *v1alpha1.WebhookEndpoint) { g.Expect(o.Generation).To(Equal(int64(2))) })
	s.Expect(r.Wait(t.Context(), 3)).To(Succeed())
	s.Expect(conditionOf(o, v1alpha1.ConditionReady).Status).To(Equal(metav1.ConditionTrue))

	other := s.receiver("b.test", receiver.Options{Script: []receiver.Step{{Status: 500}}})
	s.change("a", func(o *v1alpha1.WebhookEndpoint) { o.Spec.URL = urlAt("b.test", other) })
	s.untilCondition("a", v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonTestPending) // another place has to show it anew
}

func TestARequestedTestReachesASuspendedEndpoint(t *testing.T) {
	s := newStand(t)
	r := s.receiver("a.test", receiver.Options{})
	s.create("a", urlAt("a.test", r), func(o *v1alpha1.WebhookEndpoint) { o.Spec.Suspend = true })
	s.until("a", func(g Gomega, o *v1alpha1.WebhookEndpoint) {
		g.Expect(conditionOf(o, v1alpha1.ConditionTestDelivered).Message).To(Equal("the test event waits: the endpoint is suspended"))
	})
	s.change("a", requesting("call.completed"))
	s.untilRequested("a", "call.completed")
	s.untilCondition("a", v1alpha1.ConditionReady, metav1.ConditionTrue, v1alpha1.ReasonSuspended)
	s.untilHold("a", endpoint.HoldSuspended)
	s.Expect(r.Count()).To(Equal(1))

	// The place was tested, so that nothing is sent when it goes on.
	s.change("a", func(o *v1alpha1.WebhookEndpoint) { o.Spec.Suspend = false })
	s.untilReady("a")
	s.untilHold("a", endpoint.HoldNone)
	s.Expect(r.Count()).To(Equal(1))
}

func TestAFailedTestIsRepeatedByANewSpecAndSupersededByARequest(t *testing.T) {
	s := newStand(t)
	r := s.receiver("a.test", receiver.Options{Script: []receiver.Step{{Status: 404}}})
	s.create("a", urlAt("a.test", r))
	s.until("a", func(g Gomega, o *v1alpha1.WebhookEndpoint) {
		g.Expect(conditionOf(o, v1alpha1.ConditionTestDelivered).Message).To(Equal("attempt 1 of 4 with a test event failed: Rejected, answered 404; it is tried again"))
	})
	s.untilCondition("a", v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonTestPending)

	s.change("a", requesting("booking.created")) // does not wait for the retries
	s.Expect(s.untilCondition("a", v1alpha1.ConditionTestDelivered, metav1.ConditionFalse, v1alpha1.ReasonRejected)).
		To(Equal("a test event of type booking.created failed: answered 404"))
	s.untilCondition("a", v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonTestFailed)
	s.untilCondition("a", v1alpha1.ConditionStalled, metav1.ConditionTrue, v1alpha1.ReasonTestFailed)
	states := map[string]string{} // by delivery: none may look as if it were going on
	s.Eventually(func() map[string]string {
		for _, record := range s.records.all() {
			states[record.EventID] = record.State.String() + "/" + record.Reason
		}
		return states
	}).Should(And(HaveLen(2), ContainElement("Failed/Interrupted"), ContainElement("Failed/Rejected")))

	r.Script(receiver.Step{})
	s.change("a", func(o *v1alpha1.WebhookEndpoint) { o.Spec.TimeoutSeconds = 20 }) // may be the cure
	s.untilReady("a")
	s.Expect(r.Count()).To(Equal(3))
}
