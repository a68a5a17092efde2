// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package record

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/garyclub/webhook-operator/api/v1alpha1"
	"github.com/garyclub/webhook-operator/internal/delivery"
)

// The bounds that the kind sets. What a dispatcher reports may be longer, and a record that the API server refuses is
// none.
const (
	maxObjectName = 253
	nameDigits    = 10
	maxEventID    = 64
	maxCallID     = 128
	maxMessage    = 512
	maxQueueID    = 128
)

// Name is the name of the delivery's record: the same for every state of it, so that a repeated create is harmless, and
// another one when the endpoint was created anew.
func Name(r *delivery.Record) string {
	text := r.UID + "\x00" + r.EventID + "\x00" + string(r.Trigger)
	if r.Order != "" {
		text += "\x00" + r.Order // each order has a record of its own
	}
	sum := sha256.Sum256([]byte(text))
	prefix := r.Ref.Name
	if longest := maxObjectName - nameDigits - 1; len(prefix) > longest {
		prefix = strings.TrimRight(prefix[:longest], ".-")
	}
	return prefix + "-" + hex.EncodeToString(sum[:])[:nameDigits]
}

// newObject is the record without its status, which the API server drops at creation.
func newObject(r *delivery.Record) *v1alpha1.DeliveryAttempt {
	no := false
	return &v1alpha1.DeliveryAttempt{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: r.Ref.Namespace,
			Name:      Name(r),
			Labels:    map[string]string{v1alpha1.LabelEndpoint: r.UID},
			// Exactly one owner: with a second one, children outlive the first.
			OwnerReferences: []metav1.OwnerReference{{
				APIVersion: v1alpha1.GroupVersion.String(), Kind: "WebhookEndpoint",
				Name: r.Ref.Name, UID: types.UID(r.UID), Controller: &no, BlockOwnerDeletion: &no,
			}},
		},
		Spec: v1alpha1.DeliveryAttemptSpec{
			EndpointRef: v1alpha1.EndpointReference{Name: r.Ref.Name},
			Event: v1alpha1.EventReference{
				ID: cut(r.EventID, maxEventID), Type: string(r.EventType), Time: metav1.Time{Time: present(r.EventTime)},
				CallID: cut(r.CallID, maxCallID), AgentID: cut(r.AgentID, maxCallID),
			},
			Trigger: v1alpha1.DeliveryTrigger(r.Trigger), Redelivery: cut(r.OrderName, maxObjectName),
			Payload: v1alpha1.PayloadMeasure{Bytes: int64(r.PayloadBytes), SHA256: hex.EncodeToString(r.PayloadSHA[:])},
		},
	}
}

// setStatus writes the state into the object. It says whether that changed anything.
func setStatus(o *v1alpha1.DeliveryAttempt, r *delivery.Record) bool {
	before := o.Status.DeepCopy()
	s := &o.Status
	s.Outcome = v1alpha1.DeliveryOutcome(r.State.String())
	s.Reason = shownReason(r)
	s.Attempts = shownAttempts(r.Attempts)
	s.LastStatusCode = 0
	if n := len(s.Attempts); n > 0 {
		s.LastStatusCode = s.Attempts[n-1].StatusCode
	}
	s.AttemptCount, s.MaxAttempts = int32(r.AttemptCount), int32(r.MaxAttempts)
	s.QueueID, s.HandOvers = cut(r.QueueID, maxQueueID), int32(r.Hops)
	s.NextAttemptTime, s.CompletionTime, s.RedeliverableUntilTime = nil, nil, nil
	if r.State == delivery.Retrying {
		s.NextAttemptTime = shownTime(r.Due)
	}
	if r.State.Done() {
		s.CompletionTime = shownTime(present(r.Completed))
	}
	if r.State == delivery.Failed {
		s.RedeliverableUntilTime = shownTime(r.RedeliverableUntil)
	}
	meta.SetStatusCondition(&s.Conditions, succeeded(o, r))
	return !equality.Semantic.DeepEqual(before, s)
}

func succeeded(o *v1alpha1.DeliveryAttempt, r *delivery.Record) metav1.Condition {
	c := metav1.Condition{
		Type: v1alpha1.ConditionSucceeded, Status: metav1.ConditionUnknown, ObservedGeneration: o.Generation,
		LastTransitionTime: metav1.Time{Time: changed(r)},
	}
	switch r.State {
	case delivery.Delivered:
		c.Status, c.Reason = metav1.ConditionTrue, v1alpha1.ReasonDelivered
		c.Message = fmt.Sprintf("delivered at attempt %d of %d", r.AttemptCount, r.MaxAttempts)
	case delivery.Failed:
		c.Status, c.Reason = metav1.ConditionFalse, shownReason(r)
		c.Message = fmt.Sprintf("failed after %d of %d attempts", r.AttemptCount, r.MaxAttempts)
		if lost(r) {
			c.Message = fmt.Sprintf("the queue that held it was lost with its pod, after %d of %d attempts", r.AttemptCount, r.MaxAttempts)
		}
	case delivery.Retrying:
		c.Reason = v1alpha1.ReasonRetrying
		c.Message = fmt.Sprintf("attempt %d of %d failed; another follows", r.AttemptCount, r.MaxAttempts)
	default:
		c.Reason, c.Message = v1alpha1.ReasonPending, "no attempt has ended yet"
	}
	return c
}

// changed is when the state was reached, so that a repeated write is the same write.
func changed(r *delivery.Record) time.Time {
	if r.State.Done() && !r.Completed.IsZero() {
		return r.Completed
	}
	if n := len(r.Attempts); n > 0 {
		return present(r.Attempts[n-1].Start.Add(r.Attempts[n-1].Duration))
	}
	return present(r.Accepted)
}

// shownReason keeps to the closed set, since a dispatcher could report anything.
func shownReason(r *delivery.Record) string {
	switch r.State {
	case delivery.Failed:
		known := []string{delivery.ReasonDeadlineExceeded, delivery.ReasonQueueFull, delivery.ReasonQueueLost, delivery.ReasonEndpointDeleted}
		if slices.Contains(known, r.Reason) || slices.Contains(delivery.Outcomes(), delivery.Outcome(r.Reason)) {
			return r.Reason
		}
		return delivery.Failed.String()
	case delivery.Retrying:
		if n := len(r.Attempts); n > 0 {
			return string(r.Attempts[n-1].Outcome)
		}
	}
	return ""
}

// shownAttempts are ordered, each number once: the first and the latest.
func shownAttempts(all []delivery.Attempt) []v1alpha1.Attempt {
	all = slices.Clone(all)
	slices.SortStableFunc(all, func(a, b delivery.Attempt) int { return cmp.Compare(a.Number, b.Number) })
	all = slices.CompactFunc(all, func(a, b delivery.Attempt) bool { return a.Number == b.Number })
	if over := len(all) - delivery.MaxKeptAttempts; over > 0 {
		all = slices.Delete(all, 1, 1+over)
	}
	shown := make([]v1alpha1.Attempt, 0, len(all))
	for _, a := range all {
		shown = append(shown, v1alpha1.Attempt{
			Number: int32(a.Number), StartTime: metav1.MicroTime{Time: present(a.Start).Truncate(time.Microsecond)},
			DurationMilliseconds: a.Duration.Milliseconds(), Outcome: v1alpha1.AttemptOutcome(a.Outcome),
			StatusCode: int32(a.StatusCode), Message: cut(a.Message, maxMessage),
		})
	}
	return shown
}

// present stands in for a time that is required and was not reported.
func present(t time.Time) time.Time {
	if t.IsZero() {
		return time.Unix(0, 0).UTC()
	}
	return t
}

func shownTime(t time.Time) *metav1.Time {
	if t.IsZero() {
		return nil
	}
	return &metav1.Time{Time: t.Truncate(time.Second)}
}

// cut bounds a text at a character's border. What is no UTF-8 could not be stored.
func cut(s string, limit int) string {
	s = strings.ToValidUTF8(s, "?")
	for len(s) > limit {
		s = strings.ToValidUTF8(s[:limit], "")
	}
	return s
}
