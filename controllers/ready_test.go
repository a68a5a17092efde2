// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"errors"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/garyclub/webhook-operator/api/v1alpha1"
	"github.com/garyclub/webhook-operator/internal/conditions"
	"github.com/garyclub/webhook-operator/internal/endpoint"
	"github.com/garyclub/webhook-operator/internal/reconcile"
)

// Facts of an endpoint whose test was delivered, at generation 3.
func goodFacts() readyFacts {
	good := metav1.Condition{Status: metav1.ConditionTrue, ObservedGeneration: 3}
	return readyFacts{generation: 3, accepted: good, signingKey: good, proof: proofByTest}
}

var bad = metav1.Condition{Status: metav1.ConditionFalse, ObservedGeneration: 3, Message: "why"}

func TestReady(t *testing.T) {
	for name, tc := range map[string]struct {
		change      func(*readyFacts)
		want        string // the reason
		wantMessage string
		wantStalled bool
	}{
		"all is well":                         {func(*readyFacts) {}, "Ready", "a test event was delivered to where deliveries go", false},
		"a delivery succeeded":                {func(f *readyFacts) { f.proof = proofByDelivery }, "Ready", "a delivery has succeeded since the test event failed", false},
		"no proof is asked for":               {func(f *readyFacts) { f.proof = proofNotNeeded }, "Ready", "accepted and signed; test events are sent on request only", false},
		"suspended is what was asked for":     {func(f *readyFacts) { f.suspended, f.proof = true, proofPending }, "Suspended", "spec.suspend is true: deliveries wait", false},
		"suspended, and its test had failed":  {func(f *readyFacts) { f.suspended, f.proof = true, proofFailed }, "Suspended", "", false},
		"suspended, not with all dispatchers": {func(f *readyFacts) { f.suspended, f.waiting = true, true }, "WaitingForDispatchers", "", false},
		"suspended, and not accepted":         {func(f *readyFacts) { f.suspended, f.accepted = true, bad }, "NotAccepted", "", false},
		"not accepted":                        {func(f *readyFacts) { f.accepted, f.gone = bad, true }, "NotAccepted", "why", false},
		"not accepted for good":               {func(f *readyFacts) { f.accepted, f.stalled = bad, true }, "NotAccepted", "why", true},
		"not looked at yet":                   {func(f *readyFacts) { f.accepted = metav1.Condition{Status: metav1.ConditionUnknown} }, "NotAccepted", "", false},
		"never looked at":                     {func(f *readyFacts) { f.accepted = metav1.Condition{} }, "NotAccepted", "", false},
		"no key":                              {func(f *readyFacts) { f.signingKey, f.waiting = bad, true }, "SigningKeyMissing", "why", false},
		"a key that is none":                  {func(f *readyFacts) { f.signingKey, f.stalled = bad, true }, "SigningKeyMissing", "why", true},
		"gone":                                {func(f *readyFacts) { f.gone = true }, "Gone", goneMessage, true},
		"a test is under way":                 {func(f *readyFacts) { f.proof, f.testPend, f.waiting = proofPending, "soon", true }, "TestPending", "soon", false},
		"the test failed": {func(f *readyFacts) { f.proof, f.testMessage = proofFailed, "answered 500" }, "TestFailed",
			"answered 500; deliveries go on, and one that succeeds makes the endpoint ready", true},
		"dispatchers are behind": {func(f *readyFacts) { f.waiting, f.connected, f.upToDate = true, 4, 3 }, "WaitingForDispatchers",
			"3 of 4 connected dispatchers have taken the latest change", false},
		"accepted at another generation": {func(f *readyFacts) { f.accepted.ObservedGeneration = 2 }, "NotAccepted", "", false},
		"a key of another generation":    {func(f *readyFacts) { f.signingKey.ObservedGeneration = 2 }, "NotAccepted", "", false},
	} {
		t.Run(name, func(t *testing.T) {
			f := goodFacts()
			tc.change(&f)
			c, stalled := ready(f)
			if c.Reason != tc.want || stalled != tc.wantStalled || tc.wantMessage != "" && c.Message != tc.wantMessage {
				t.Errorf("%s %q, stalled %t", c.Reason, c.Message, stalled)
			}
			if (c.Status == metav1.ConditionTrue) != (tc.want == "Ready" || tc.want == "Suspended") || c.Status == metav1.ConditionTrue && stalled {
				t.Errorf("status %s with reason %s, stalled %t", c.Status, c.Reason, stalled)
			}
		})
	}
}

func TestProof(t *testing.T) {
	at, later := metav1.Unix(1000, 0), metav1.Unix(1001, 0)
	failed := testMark{place: "here", since: 1000}
	delivered := testMark{place: "here", since: 1000, delivered: true}
	due := testMark{place: "here", since: 1000, due: true}
	succeeded := func(at *metav1.Time) *v1alpha1.DeliveriesStatus {
		return &v1alpha1.DeliveriesStatus{LastSuccessTime: at}
	}
	for name, tc := range map[string]struct {
		when       v1alpha1.TestPolicy
		mark       testMark
		outcome    v1alpha1.AttemptOutcome // of the latest test
		deliveries *v1alpha1.DeliveriesStatus
		want       proof
	}{
		"never tested":                       {want: proofPending},
		"delivered here":                     {mark: delivered, outcome: "Delivered", want: proofByTest},
		"delivered here, on request":         {when: v1alpha1.TestOnRequest, mark: delivered, outcome: "Delivered", want: proofByTest},
		"delivered here, and a later failed": {mark: delivered, outcome: "Rejected", want: proofByTest},
		"delivered here, and due again":      {mark: testMark{place: "here", delivered: true, due: true}, outcome: "Rejected", want: proofByTest},
		"delivered elsewhere":                {mark: testMark{place: "there", delivered: true}, outcome: "Delivered", deliveries: succeeded(&later), want: proofPending},
		"never tested, on request":           {when: v1alpha1.TestOnRequest, want: proofNotNeeded},
		"failed, on request":                 {when: v1alpha1.TestOnRequest, mark: failed, outcome: "Rejected", want: proofNotNeeded},
		"failed":                             {mark: failed, outcome: "Rejected", deliveries: &v1alpha1.DeliveriesStatus{}, want: proofFailed},
		"failed, with a success before":      {mark: failed, outcome: "Rejected", deliveries: succeeded(&at), want: proofFailed},
		"failed, with a success since":       {mark: failed, outcome: "Rejected", deliveries: succeeded(&later), want: proofByDelivery},
		"failed, due again":                  {mark: due, outcome: "Rejected", deliveries: succeeded(&at), want: proofPending},
		"due again, with a success since":    {mark: due, outcome: "Rejected", deliveries: succeeded(&later), want: proofByDelivery},
		"never tested, with a success":       {deliveries: succeeded(&later), want: proofPending},
	} {
		t.Run(name, func(t *testing.T) {
			obj := &v1alpha1.WebhookEndpoint{Status: v1alpha1.WebhookEndpointStatus{Deliveries: tc.deliveries,
				Test: &v1alpha1.TestStatus{Outcome: tc.outcome, Hash: tc.mark.text(), Time: &metav1.Time{Time: at.Add(time.Hour)}}}}
			obj.Spec.Test.When = tc.when
			if got := proofOf(obj, "here"); got != tc.want {
				t.Errorf("got %d, want %d", got, tc.want)
			}
		})
	}
}

// TestEverySummaryKeepsTheRules goes through all combinations of what decides Ready, from every progress before.
func TestEverySummaryKeepsTheRules(t *testing.T) {
	states := []metav1.ConditionStatus{metav1.ConditionTrue, metav1.ConditionFalse, metav1.ConditionUnknown, ""}
	for bits := range 1 << 12 {
		bit := func(n int) bool { return bits>>n&1 == 1 }
		obj := &v1alpha1.WebhookEndpoint{}
		obj.Generation = 2
		obj.Status = v1alpha1.WebhookEndpointStatus{ObservedGeneration: 1, Test: &v1alpha1.TestStatus{}, Dispatchers: &v1alpha1.DispatchersStatus{}}
		set := func(generation int64, kind string, status metav1.ConditionStatus) {
			if status != "" {
				conditions.Set(&obj.Status.Conditions, generation, metav1.Condition{Type: kind, Status: status, Reason: "Before"})
			}
		}
		set(1, v1alpha1.ConditionReady, states[bits&1])
		set(1, []string{v1alpha1.ConditionReconciling, v1alpha1.ConditionStalled}[bits>>1&1], states[0])
		set(1+int64(bits>>2&1), v1alpha1.ConditionAccepted, states[bits>>3&3])
		set(2, v1alpha1.ConditionSigningKeyReady, states[bits>>5&3])
		w := &work{obj: obj, endpoint: &endpoint.Endpoint{}, Patcher: reconcile.NewPatcher(nil, obj), waiting: bit(7), place: "here"}
		obj.Spec.Suspend = bit(8)
		if bit(9) {
			w.endpoint.Hold = endpoint.HoldGone
		}
		if bit(10) {
			obj.Spec.Test.When = v1alpha1.TestOnRequest
		}
		if bit(11) {
			w.verdict.Add(reconcile.Stalled("Any", "reason"))
		}
		if summarise(w); len(broken(obj)) > 0 || obj.Status.ObservedGeneration != 2 {
			t.Fatalf("bits %b: %v: %+v", bits, broken(obj), obj.Status.Conditions)
		}
	}
}

func TestAnErrorLeavesTheStatusUnlessItIsAboutAnOlderGeneration(t *testing.T) {
	for name, tc := range map[string]struct {
		generation int64
		want       string
	}{
		"the same generation": {1, "True/Ready"},
		"a new one":           {2, "Unknown/NotAccepted"},
	} {
		t.Run(name, func(t *testing.T) {
			obj := &v1alpha1.WebhookEndpoint{}
			obj.Generation, obj.Status.ObservedGeneration, obj.Status.Host = tc.generation, 1, "before.test"
			for _, kind := range []string{v1alpha1.ConditionReady, v1alpha1.ConditionAccepted, v1alpha1.ConditionSigningKeyReady} {
				conditions.Set(&obj.Status.Conditions, 1, conditions.True(kind, "Ready", ""))
			}
			w := &work{obj: obj, Patcher: reconcile.NewPatcher(nil, obj)}
			obj.Status.Host = "half-done.test"
			obj.Status.Conditions[1].Status = metav1.ConditionFalse
			w.verdict.Err = errors.New("no API server")
			summarise(w)
			c := conditionOf(obj, v1alpha1.ConditionReady)
			if got := string(c.Status) + "/" + c.Reason; got != tc.want || obj.Status.Host != "before.test" || len(broken(obj)) > 0 {
				t.Errorf("%s, host %s, broken %v", got, obj.Status.Host, broken(obj))
			}
			if obj.Status.ObservedGeneration != tc.generation || time.Since(c.LastTransitionTime.Time) > time.Minute {
				t.Errorf("status is %+v", obj.Status)
			}
		})
	}
}
