// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/garyclub/webhook-operator/api/v1alpha1"
)

// takeLimit bounds how long Ready waits for dispatchers to take a new revision.
const takeLimit = 15 * time.Second

// dispatchers shows who is connected and who delivers by this revision.
func (p *pass) dispatchers() {
	connected, upToDate := p.reconciler.Dispatchers.Taken(p.object.Namespace, p.resolved.UID, p.resolved.Revision)
	p.object.Status.Dispatchers = &v1alpha1.DispatchersStatus{Connected: int32(connected), UpToDate: int32(upToDate)}
	p.behind = upToDate < connected
}

// deliveries shows the counters. It owns Delivering.
func (p *pass) deliveries() {
	totals, known := p.reconciler.Counters.Totals(p.object.Namespace, string(p.object.UID))
	status := p.object.Status.Deliveries
	if status == nil {
		status = &v1alpha1.DeliveriesStatus{}
		p.object.Status.Deliveries = status
	}
	if known {
		// Never backwards, also when a ledger could not be read.
		status.Succeeded = max(status.Succeeded, totals.Succeeded)
		status.Failed = max(status.Failed, totals.Failed)
		status.Lost = max(status.Lost, totals.Lost)
		status.Unrecorded = max(status.Unrecorded, totals.Unrecorded)
		status.Pending = totals.Pending
		status.LastSuccessTime = later(status.LastSuccessTime, totals.LastSuccess)
		status.LastFailureTime = later(status.LastFailureTime, totals.LastFailure)
	}
	failing := status.LastFailureTime != nil && (status.LastSuccessTime == nil || status.LastSuccessTime.Before(status.LastFailureTime))
	switch {
	case p.object.Spec.Suspend:
		p.set(v1alpha1.ConditionDelivering, metav1.ConditionFalse, v1alpha1.ReasonSuspended, "spec.suspend is true; deliveries wait until it is false, or until their deadline")
	case slices.Contains(totals.Gone, p.resolved.Incarnation):
		p.set(v1alpha1.ConditionDelivering, metav1.ConditionFalse, v1alpha1.ReasonGone, "the receiver answered 410 and wants no more deliveries: change the URL, or ask for a test event once it takes them again")
	case p.resolved.Hold != "":
		p.set(v1alpha1.ConditionDelivering, metav1.ConditionFalse, v1alpha1.ReasonHeld, "deliveries wait: see Accepted and SigningKeyReady")
	case failing:
		p.set(v1alpha1.ConditionDelivering, metav1.ConditionFalse, v1alpha1.ReasonFailing, "the latest delivery failed: kubectl get deliveryattempts --field-selector status.outcome=Failed,spec.endpointRef.name="+p.object.Name)
	case status.LastSuccessTime != nil:
		p.set(v1alpha1.ConditionDelivering, metav1.ConditionTrue, v1alpha1.ReasonDelivering, "the latest delivery succeeded")
	default:
		p.set(v1alpha1.ConditionDelivering, metav1.ConditionUnknown, v1alpha1.ReasonNoDeliveriesYet, "no event has been delivered yet")
	}
}

func later(shown *metav1.Time, found time.Time) *metav1.Time {
	if found.IsZero() || shown != nil && !shown.Time.Before(found.Truncate(time.Second)) {
		return shown
	}
	at := metav1.NewTime(found.Truncate(time.Second))
	return &at
}

// summarise sets Ready, Reconciling and Stalled from all the others.
func (p *pass) summarise() {
	status, reason, message := p.readiness()
	if reason == v1alpha1.ReasonReady && p.behind {
		if since := p.condition(v1alpha1.ConditionReady); since != nil && since.Status != metav1.ConditionTrue || since == nil || since.ObservedGeneration != p.object.Generation {
			status, reason, message = p.awaitDispatchers(since)
		}
	}
	p.set(v1alpha1.ConditionReady, status, reason, message)
	conditions := &p.object.Status.Conditions
	meta.RemoveStatusCondition(conditions, v1alpha1.ConditionReconciling)
	meta.RemoveStatusCondition(conditions, v1alpha1.ConditionStalled)
	stalled := p.refused != nil && p.refused.stalled
	switch {
	case stalled:
		p.set(v1alpha1.ConditionStalled, metav1.ConditionTrue, p.refused.reason, p.refused.message)
	case status != metav1.ConditionTrue && (p.inspecting || p.testing || reason == v1alpha1.ReasonWaitingForDispatchers):
		p.set(v1alpha1.ConditionReconciling, metav1.ConditionTrue, reason, message)
	}
}

// awaitDispatchers says not ready while dispatchers take the revision, up to the limit.
func (p *pass) awaitDispatchers(since *metav1.Condition) (metav1.ConditionStatus, string, string) {
	if since != nil && since.Reason == v1alpha1.ReasonWaitingForDispatchers && since.ObservedGeneration == p.object.Generation {
		left := takeLimit - p.now.Sub(since.LastTransitionTime.Time)
		if left <= 0 {
			return metav1.ConditionTrue, v1alpha1.ReasonReady, "ready; not all dispatchers have taken the latest change yet"
		}
		p.again(left)
	} else {
		p.again(takeLimit)
	}
	return metav1.ConditionFalse, v1alpha1.ReasonWaitingForDispatchers, "dispatchers are taking the latest change"
}

// readiness is the pure summary: accepted, signed, and answered since the last change.
func (p *pass) readiness() (metav1.ConditionStatus, string, string) {
	no := metav1.ConditionFalse
	accepted, key := p.condition(v1alpha1.ConditionAccepted), p.condition(v1alpha1.ConditionSigningKeyReady)
	tested := p.condition(v1alpha1.ConditionTestDelivered)
	switch {
	case p.object.Spec.Suspend:
		return no, v1alpha1.ReasonSuspended, "spec.suspend is true"
	case accepted.Status != metav1.ConditionTrue:
		return no, v1alpha1.ReasonNotAccepted, accepted.Message
	case key.Status != metav1.ConditionTrue:
		return no, v1alpha1.ReasonSigningKeyMissing, key.Message
	case p.object.Spec.Test.When == v1alpha1.TestOnRequest && !p.testing && tested.Status != metav1.ConditionFalse,
		tested.Status == metav1.ConditionTrue:
		return metav1.ConditionTrue, v1alpha1.ReasonReady, "events are delivered"
	case p.deliveredSinceTest():
		return metav1.ConditionTrue, v1alpha1.ReasonReady, "the test event failed, and a real one has been delivered since"
	case p.testing || tested.Status == metav1.ConditionUnknown:
		return no, v1alpha1.ReasonTestPending, tested.Message
	}
	return no, v1alpha1.ReasonTestFailed, tested.Message
}

func (p *pass) deliveredSinceTest() bool {
	test, deliveries := p.object.Status.Test, p.object.Status.Deliveries
	return test != nil && test.Time != nil && deliveries.LastSuccessTime != nil && test.Time.Before(deliveries.LastSuccessTime)
}

func (p *pass) condition(kind string) *metav1.Condition {
	return meta.FindStatusCondition(p.object.Status.Conditions, kind)
}

// announce makes a Kubernetes Event of each change of health, and of nothing else.
func (r *WebhookEndpointReconciler) announce(before, after *v1alpha1.WebhookEndpoint) {
	for _, kind := range []string{v1alpha1.ConditionReady, v1alpha1.ConditionDelivering} {
		was, is := meta.FindStatusCondition(before.Status.Conditions, kind), meta.FindStatusCondition(after.Status.Conditions, kind)
		if is == nil || is.Status == metav1.ConditionUnknown || was != nil && was.Status == is.Status && was.Reason == is.Reason {
			continue
		}
		eventType := corev1.EventTypeNormal
		if is.Status == metav1.ConditionFalse && is.Reason != v1alpha1.ReasonSuspended && is.Reason != v1alpha1.ReasonTestPending &&
			is.Reason != v1alpha1.ReasonWaitingForDispatchers {
			eventType = corev1.EventTypeWarning
		}
		r.Events.Eventf(after, nil, eventType, is.Reason, "Reconcile", "%s is %s: %s", kind, strings.ToLower(string(is.Status)), is.Message)
	}
}

// shortened cuts a name to at most n bytes; a hash keeps two long names apart.
func shortened(name string, n int) string {
	if len(name) <= n {
		return name
	}
	return fmt.Sprintf("%s-%08x", strings.TrimRight(name[:n-9], "-."), crc(name))
}
