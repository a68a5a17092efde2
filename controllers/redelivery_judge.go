// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"cmp"
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

// maxResults is the bound of status.results.
const maxResults = 100

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

// tally is what the queues have answered so far.
type tally struct {
	results map[string]v1alpha1.RedeliveryResult
	// asked are the queues that are connected, answered those that have carried the order out.
	asked, answered int
	// away are queues that are not connected, and may hold deliveries that the order names.
	away      int
	shareFull bool
}

// tallyOf begins with what earlier passes have learnt, those of other leaders included.
func tallyOf(s *v1alpha1.RedeliveryStatus) *tally {
	t := &tally{results: map[string]v1alpha1.RedeliveryResult{}}
	for _, r := range s.Results {
		t.results[r.QueueID] = r
	}
	return t
}

// learn notes what a queue says. What it has moved never becomes less.
func (t *tally) learn(queueID string, r delivery.Redelivered) {
	t.shareFull = t.shareFull || r.ShareFull
	was := t.results[queueID]
	is := v1alpha1.RedeliveryResult{QueueID: queueID, Matched: max(int64(r.Matched), was.Redelivered), Redelivered: max(int64(r.Moved), was.Redelivered)}
	if is.Matched == 0 {
		delete(t.results, queueID)
		return
	}
	t.results[queueID] = is
}

func (t *tally) matched() (n int) {
	for _, r := range t.results {
		n += int(r.Matched)
	}
	return n
}

func (t *tally) moved() (n int) {
	for _, r := range t.results {
		n += int(r.Redelivered)
	}
	return n
}

// whole says whether every queue has answered.
func (t *tally) whole() bool { return t.answered == t.asked && t.away == 0 }

// show writes the figures into the status.
func (t *tally) show(s *v1alpha1.RedeliveryStatus) {
	s.Matched, s.Redelivered = int64(t.matched()), int64(t.moved())
	s.Queues = &v1alpha1.RedeliveryQueues{Asked: int32(t.asked + t.away), Answered: int32(t.answered)}
	s.Results = s.Results[:0:0]
	for _, r := range t.results {
		s.Results = append(s.Results, r)
	}
	slices.SortFunc(s.Results, func(a, b v1alpha1.RedeliveryResult) int {
		return cmp.Or(cmp.Compare(b.Redelivered, a.Redelivered), cmp.Compare(b.Matched, a.Matched), cmp.Compare(a.QueueID, b.QueueID))
	})
	s.Results = s.Results[:min(len(s.Results), maxResults)]
}

// complete is the condition of an order that has ended.
func complete(spec *v1alpha1.RedeliverySpec, t *tally) metav1.Condition {
	left := leftOut(spec, t)
	count := fmt.Sprintf("%d of %d failed deliveries that match are sent again", t.moved(), t.matched())
	switch {
	case t.asked+t.away > 0 && t.answered == 0:
		return conditions.False(v1alpha1.ConditionComplete, v1alpha1.ReasonNoAnswer, sentence(count, left))
	case spec.DryRun:
		return conditions.True(v1alpha1.ConditionComplete, v1alpha1.ReasonCounted, sentence(fmt.Sprintf("%d failed deliveries match; none is sent, by spec.dryRun", t.matched()), left))
	case len(left) > 0:
		return conditions.True(v1alpha1.ConditionComplete, v1alpha1.ReasonPartial, sentence(count, left))
	case t.matched() == 0:
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
	if !spec.DryRun && t.moved() < t.matched() {
		switch {
		case t.shareFull:
			why = append(why, "the endpoint's share of a queue, or the queue itself, is full: order the others when there is room")
		case t.moved() >= int(spec.Limit):
			why = append(why, fmt.Sprintf("spec.limit is %d", spec.Limit))
		default:
			why = append(why, "the others have gone meanwhile")
		}
	}
	if n := t.asked - t.answered; n > 0 {
		why = append(why, fmt.Sprintf("%d of %d dispatchers did not answer", n, t.asked))
	}
	if t.away > 0 {
		why = append(why, fmt.Sprintf("%d queues in which deliveries to the endpoint failed are not connected: what they may still hold is not sent", t.away))
	}
	return why
}

// running is the condition until then.
func running(t *tally) metav1.Condition {
	text := fmt.Sprintf("%d of %d dispatchers have answered", t.answered, t.asked)
	if t.away > 0 {
		text += fmt.Sprintf("; %d queues in which deliveries to the endpoint failed are not connected yet", t.away)
	}
	return waitingFor(text)
}

func waitingFor(text string) metav1.Condition {
	return conditions.Unknown(v1alpha1.ConditionComplete, v1alpha1.ReasonRunning, text)
}
