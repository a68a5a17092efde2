// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"fmt"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/garyclub/webhook-operator/api/v1alpha1"
	"github.com/garyclub/webhook-operator/internal/delivery"
	"github.com/garyclub/webhook-operator/internal/egress"
	"github.com/garyclub/webhook-operator/internal/event"
	"github.com/garyclub/webhook-operator/internal/sample"
)

// test sends a test event on a change of where deliveries go, or on request, and shows what it came to. It owns
// TestDelivered.
func (p *pass) test() {
	spec, request := p.object.Spec.Test, p.object.Annotations[v1alpha1.AnnotationRequestedTest]
	if p.object.Status.Test == nil {
		p.object.Status.Test = &v1alpha1.TestStatus{}
	}
	status := p.object.Status.Test
	request = request[:min(len(request), 256)]
	requested := request != "" && request != status.Requested
	kind := event.Type(spec.Event)
	if kind == "" {
		kind = p.resolved.Events[0]
	}
	of := placeHash(p.resolved)
	if requested {
		text, _, _ := strings.Cut(request, "/")
		kind, of = event.Type(text), "request/"+request
		if !kind.Known() {
			status.Requested = request
			p.set(v1alpha1.ConditionTestDelivered, metav1.ConditionFalse, v1alpha1.ReasonUnknownEvent,
				"the annotation "+v1alpha1.AnnotationRequestedTest+" must be TYPE or TYPE/TOKEN, with the type call.completed, booking.created, contact.created or custom.<name>")
			return
		}
	}
	switch {
	case requested, spec.When != v1alpha1.TestOnRequest && status.Hash != of:
		p.runTest(of, kind, request, requested)
	case p.condition(v1alpha1.ConditionTestDelivered) == nil:
		p.set(v1alpha1.ConditionTestDelivered, metav1.ConditionUnknown, v1alpha1.ReasonNotRequested,
			"spec.test.when is OnRequest; ask for a test with the annotation "+v1alpha1.AnnotationRequestedTest)
	default:
		current := p.condition(v1alpha1.ConditionTestDelivered)
		p.set(current.Type, current.Status, current.Reason, current.Message) // holds for this generation too
	}
}

func (p *pass) runTest(of string, kind event.Type, request string, requested bool) {
	if p.unresolved != nil || p.noKey != nil || p.refused != nil {
		p.set(v1alpha1.ConditionTestDelivered, metav1.ConditionUnknown, v1alpha1.ReasonPending,
			"the test event is sent once the endpoint is accepted and has a signing key")
		return
	}
	p.testing = true
	name, prober := client.ObjectKeyFromObject(p.object), p.reconciler.Prober
	run := prober.tested(name, of)
	if run == nil {
		fresh, err := newTestRun(p, of, kind)
		if err != nil {
			p.set(v1alpha1.ConditionTestDelivered, metav1.ConditionFalse, v1alpha1.ReasonUnknownEvent, "there is no sample payload for this type")
			return
		}
		run = fresh
	}
	switch {
	case run.running:
	case run.delivery.State.Done():
		p.testDone(run, of, request, requested)
		return
	case run.delivery.Due.After(p.now):
		p.again(run.delivery.Due.Sub(p.now))
	default:
		if wait := prober.pace(egress.Host(p.resolved.URL), p.now); wait > 0 {
			p.again(wait)
		} else {
			prober.send(name, p.resolved, *run)
		}
	}
	message := "the test event is being sent"
	if n := len(run.delivery.Attempts); n > 0 {
		last := run.delivery.Attempts[n-1]
		message = fmt.Sprintf("attempt %d of %d: %s %s", last.Number, run.delivery.MaxAttempts, last.Outcome, last.Message)
	}
	p.set(v1alpha1.ConditionTestDelivered, metav1.ConditionUnknown, v1alpha1.ReasonPending, message)
}

func newTestRun(p *pass, of string, kind event.Type) (*testRun, error) {
	payload := sample.Payload(kind, p.now, sample.NewCallID())
	e, err := event.Parse(p.object.Namespace, payload, p.now)
	if err != nil {
		return nil, err
	}
	e.ID = event.NewID()
	return &testRun{of: of, event: e, delivery: delivery.Delivery{Ref: p.resolved.Ref, UID: p.resolved.UID, EventID: e.ID,
		Trigger: delivery.TriggerTest, State: delivery.Pending, Accepted: p.now, Due: p.now,
		Deadline: p.now.Add(p.resolved.Retry.Deadline), MaxAttempts: p.resolved.Retry.MaxRetries + 1}}, nil
}

func (p *pass) testDone(run *testRun, of, request string, requested bool) {
	p.testing = false
	d, status := run.delivery, p.object.Status.Test
	last := d.Attempts[len(d.Attempts)-1]
	at := metav1.NewTime(d.Completed)
	*status = v1alpha1.TestStatus{Requested: status.Requested, Hash: status.Hash, Time: &at, Event: string(run.event.Type),
		Outcome: v1alpha1.AttemptOutcome(last.Outcome), StatusCode: int32(last.StatusCode),
		DurationMilliseconds: last.Duration.Milliseconds(), Message: last.Message}
	if requested {
		status.Requested = request
	} else {
		status.Hash = of
	}
	if d.State == delivery.Delivered {
		p.set(v1alpha1.ConditionTestDelivered, metav1.ConditionTrue, v1alpha1.ReasonDelivered,
			fmt.Sprintf("the test event %s was answered %d", run.event.Type, last.StatusCode))
	} else {
		p.set(v1alpha1.ConditionTestDelivered, metav1.ConditionFalse, string(last.Outcome),
			fmt.Sprintf("the test event %s failed after %d attempts: %s", run.event.Type, d.AttemptCount, last.Message))
	}
	p.recordTest(run)
}

// recordTest leaves the record to the recorder; a test has no place in a dispatcher's queue.
func (p *pass) recordTest(run *testRun) {
	r := delivery.Record{Delivery: run.delivery, EventType: run.event.Type, EventTime: run.event.Time, CallID: run.event.CallID,
		AgentID: run.event.AgentID, PayloadBytes: len(run.event.Payload), PayloadSHA: run.event.SHA256}
	_ = p.reconciler.Recorder.Offer(context.Background(), p.object.Namespace, r, func(bool) {}) // a full recorder leaves a test out
}
