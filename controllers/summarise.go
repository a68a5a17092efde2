// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/garyclub/webhook-operator/api/v1alpha1"
	"github.com/garyclub/webhook-operator/internal/conditions"
	"github.com/garyclub/webhook-operator/internal/endpoint"
)

// proof says whether the endpoint has answered since the place of its deliveries changed. A test that fails later takes
// nothing away from it: that is what TestDelivered and Delivering tell of.
type proof int

const (
	proofNotNeeded proof = iota // spec.test.when is OnRequest
	proofPending
	proofByTest
	proofByDelivery
	proofFailed
)

// readyFacts are all that decides Ready.
type readyFacts struct {
	generation            int64
	accepted, signingKey  metav1.Condition
	suspended, gone       bool
	stalled               bool // a step said that only a person can help
	waiting               bool // for dispatchers
	connected, upToDate   int32
	proof                 proof
	testMessage, testPend string
}

// ready is the pure summary. stalled says that nothing goes on that could mend it.
func ready(f readyFacts) (c metav1.Condition, stalled bool) {
	no := func(reason, message string) metav1.Condition {
		return conditions.False(v1alpha1.ConditionReady, reason, message)
	}
	switch {
	case f.accepted.Status != metav1.ConditionTrue:
		return no(v1alpha1.ReasonNotAccepted, f.accepted.Message), f.stalled
	case f.signingKey.Status != metav1.ConditionTrue:
		return no(v1alpha1.ReasonSigningKeyMissing, f.signingKey.Message), f.stalled
	case f.gone:
		return no(v1alpha1.ReasonGone, goneMessage), true
	case f.proof == proofPending && !f.suspended:
		return no(v1alpha1.ReasonTestPending, f.testPend), false
	case f.proof == proofFailed && !f.suspended:
		return no(v1alpha1.ReasonTestFailed, f.testMessage+"; deliveries go on, and one that succeeds makes the endpoint ready"), true
	case f.waiting:
		return no(v1alpha1.ReasonWaitingForDispatchers,
			fmt.Sprintf("%d of %d connected dispatchers have taken the latest change", f.upToDate, f.connected)), false
	case f.accepted.ObservedGeneration != f.generation || f.signingKey.ObservedGeneration != f.generation:
		// No path leads here; if one ever does, it shall not say that a new spec is in force.
		return no(v1alpha1.ReasonNotAccepted, "the latest change is being looked at"), false
	case f.suspended:
		// What was asked for is in force. Tools that wait for Ready would wait for ever otherwise.
		return conditions.True(v1alpha1.ConditionReady, v1alpha1.ReasonSuspended, "spec.suspend is true: deliveries wait"), false
	case f.proof == proofByDelivery:
		return conditions.True(v1alpha1.ConditionReady, v1alpha1.ReasonReady, "a delivery has succeeded since the test event failed"), false
	case f.proof == proofNotNeeded:
		return conditions.True(v1alpha1.ConditionReady, v1alpha1.ReasonReady, "accepted and signed; test events are sent on request only"), false
	}
	return conditions.True(v1alpha1.ConditionReady, v1alpha1.ReasonReady, "a test event was delivered to where deliveries go"), false
}

// proofOf is the pure decision whether the endpoint has answered.
func proofOf(obj *v1alpha1.WebhookEndpoint, place string) proof {
	m, d := readTestMark(obj.Status.Test.Hash), obj.Status.Deliveries
	here := m.place == place
	switch {
	case here && m.delivered:
		return proofByTest
	case obj.Spec.Test.When == v1alpha1.TestOnRequest:
		return proofNotNeeded
	case here && d != nil && d.LastSuccessTime != nil && d.LastSuccessTime.Unix() > m.since:
		return proofByDelivery
	case !here || m.due:
		return proofPending
	}
	return proofFailed
}

// summarise owns Ready, Reconciling, Stalled and observedGeneration.
func summarise(w *work) {
	if w.verdict.Err != nil {
		summariseError(w)
		return
	}
	status := &w.obj.Status
	test := w.condition(v1alpha1.ConditionTestDelivered)
	c, stalled := ready(readyFacts{
		generation: w.obj.Generation,
		accepted:   w.condition(v1alpha1.ConditionAccepted), signingKey: w.condition(v1alpha1.ConditionSigningKeyReady),
		suspended: w.obj.Spec.Suspend, gone: w.endpoint.Hold == endpoint.HoldGone, stalled: w.verdict.Stalled != nil,
		waiting: w.waiting, connected: status.Dispatchers.Connected, upToDate: status.Dispatchers.UpToDate,
		proof: proofOf(w.obj, w.place), testMessage: testFailure(status.Test), testPend: test.Message,
	})
	w.set(c)
	setProgress(w, c, stalled)
	status.ObservedGeneration = w.obj.Generation
}

// setProgress sets Reconciling or Stalled, never both, and neither when the endpoint is ready.
func setProgress(w *work, c metav1.Condition, stalled bool) {
	list := &w.obj.Status.Conditions
	kind, other := v1alpha1.ConditionReconciling, v1alpha1.ConditionStalled
	if stalled {
		kind, other = other, kind
	}
	conditions.Delete(list, other)
	if c.Status == metav1.ConditionTrue {
		conditions.Delete(list, kind)
		return
	}
	w.set(conditions.True(kind, c.Reason, c.Message))
}

// summariseError leaves the status as it is when an error kept the steps from a judgement, unless it is about an older
// generation: that one is no longer what the spec says.
func summariseError(w *work) {
	w.obj.Status = *w.Base.Status.DeepCopy()
	if w.obj.Status.ObservedGeneration == w.obj.Generation {
		return
	}
	c := conditions.Unknown(v1alpha1.ConditionReady, v1alpha1.ReasonNotAccepted, "the latest change could not be looked at yet; it is tried again")
	w.set(c)
	setProgress(w, c, false)
	w.obj.Status.ObservedGeneration = w.obj.Generation
}

func testFailure(t *v1alpha1.TestStatus) string {
	if t.Message != "" {
		return fmt.Sprintf("a test event of type %s failed: %s", t.Event, t.Message)
	}
	return fmt.Sprintf("a test event of type %s failed: %s", t.Event, t.Outcome)
}
