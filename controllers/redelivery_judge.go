// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"fmt"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/garyclub/webhook-operator/api/v1alpha1"
	"github.com/garyclub/webhook-operator/internal/conditions"
	"github.com/garyclub/webhook-operator/internal/delivery"
	"github.com/garyclub/webhook-operator/internal/endpoint"
)

// orderOf is what the queues are given. What fails after the order was made is never sent again by it, so an order ends;
// creation is known to the second.
func orderOf(o *v1alpha1.Redelivery) delivery.Order {
	order := delivery.Order{
		ID: string(o.UID), Name: o.Name, Ref: endpoint.Ref{Namespace: o.Namespace, Name: o.Spec.EndpointRef.Name},
		Until: o.CreationTimestamp.Add(time.Second), CallIDs: o.Spec.CallIDs, EventIDs: o.Spec.EventIDs,
		Limit: int(o.Spec.Limit), DryRun: o.Spec.DryRun,
	}
	if o.Spec.Since != nil {
		order.Since = o.Spec.Since.Time
	}
	if o.Spec.Until != nil && o.Spec.Until.Time.Before(order.Until) {
		order.Until = o.Spec.Until.Time
	}
	return order
}

// concerns says whether a record is one that the order is about, and whose payload may still be there.
func concerns(o *delivery.Order, r *v1alpha1.DeliveryAttempt, now time.Time) bool {
	s := &r.Status
	return r.Spec.EndpointRef.Name == o.Ref.Name && s.Outcome == v1alpha1.DeliveryFailed && s.QueueID != "" &&
		s.RedeliverableUntilTime != nil && now.Before(s.RedeliverableUntilTime.Time) &&
		s.CompletionTime != nil && !s.CompletionTime.Time.Before(o.Since) && s.CompletionTime.Time.Before(o.Until) &&
		(len(o.CallIDs) == 0 || slices.Contains(o.CallIDs, r.Spec.Event.CallID)) &&
		(len(o.EventIDs) == 0 || slices.Contains(o.EventIDs, r.Spec.Event.ID))
}

// tally is what the queues have answered so far.
type tally struct {
	matched, moved int
	// asked are the queues that are connected, answered those that have carried the order out.
	asked, answered int
	// away are queues that are not connected, and have reported deliveries that the order names.
	away      int
	shareFull bool
}

func (t *tally) add(r delivery.Redelivered) {
	t.matched, t.moved, t.shareFull = t.matched+r.Matched, t.moved+r.Moved, t.shareFull || r.ShareFull
}

// whole says whether every queue has answered.
func (t *tally) whole() bool { return t.answered == t.asked && t.away == 0 }

// complete is the condition of an order that has ended.
func complete(spec *v1alpha1.RedeliverySpec, t *tally) metav1.Condition {
	left := leftOut(spec, t)
	count := fmt.Sprintf("%d of %d failed deliveries that match are sent again", t.moved, t.matched)
	switch {
	case spec.DryRun:
		return conditions.True(v1alpha1.ConditionComplete, v1alpha1.ReasonCounted, sentence(fmt.Sprintf("%d failed deliveries match; none is sent, by spec.dryRun", t.matched), left))
	case len(left) > 0:
		return conditions.True(v1alpha1.ConditionComplete, v1alpha1.ReasonPartial, sentence(count, left))
	case t.matched == 0:
		return conditions.True(v1alpha1.ConditionComplete, v1alpha1.ReasonNothingMatched,
			"no failed delivery that matches has its payload still: see status.redeliverableUntilTime of the DeliveryAttempts")
	}
	return conditions.True(v1alpha1.ConditionComplete, v1alpha1.ReasonRedelivered, count)
}

func sentence(first string, left []string) string {
	return strings.Join(append([]string{first}, left...), "; ")
}

// leftOut says what was not sent, and why.
func leftOut(spec *v1alpha1.RedeliverySpec, t *tally) (why []string) {
	if !spec.DryRun && t.moved < t.matched {
		switch {
		case t.shareFull:
			why = append(why, "the endpoint's share of the queue is full: order the others when it has drained")
		case t.moved >= int(spec.Limit):
			why = append(why, fmt.Sprintf("spec.limit is %d", spec.Limit))
		default:
			why = append(why, "the others have gone meanwhile")
		}
	}
	if n := t.asked - t.answered; n > 0 {
		why = append(why, fmt.Sprintf("%d of %d dispatchers did not answer", n, t.asked))
	}
	if t.away > 0 {
		why = append(why, fmt.Sprintf("%d queues that reported such deliveries are not connected: what they hold still is not sent", t.away))
	}
	return why
}

// running is the condition until then.
func running(t *tally) metav1.Condition {
	text := "dispatchers are asked"
	if t != nil {
		text = fmt.Sprintf("%d of %d dispatchers have answered", t.answered, t.asked)
		if t.away > 0 {
			text += fmt.Sprintf("; %d queues that reported such deliveries are not connected yet", t.away)
		}
	}
	return conditions.Unknown(v1alpha1.ConditionComplete, v1alpha1.ReasonRunning, text)
}
