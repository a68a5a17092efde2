// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package control

import (
	"errors"
	"regexp"
	"slices"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/garyclub/webhook-operator/internal/control/controlpb"
	"github.com/garyclub/webhook-operator/internal/delivery"
	"github.com/garyclub/webhook-operator/internal/endpoint"
	"github.com/garyclub/webhook-operator/internal/event"
)

// A dispatcher runs in somebody's pod: what it reports becomes names and fields of objects, so all of it is checked.
const (
	maxNameLength  = 253
	maxLabelLength = 63
	maxIDLength    = 128
	maxCallLength  = 256
)

var (
	labelName  = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`)
	objectName = regexp.MustCompile(`^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$`)
	identifier = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]*$`)

	errInvalid = errors.New("not a valid report")
)

var states = []delivery.State{delivery.Pending, delivery.Retrying, delivery.Delivered, delivery.Failed}

func recordToProto(seq uint64, r *delivery.Record) *controlpb.Record {
	m := &controlpb.Record{
		Seq: seq, Namespace: r.Ref.Namespace, EndpointName: r.Ref.Name, EndpointUid: r.UID,
		EventId: r.EventID, EventType: string(r.EventType), EventTime: timeToProto(r.EventTime),
		CallId: r.CallID, AgentId: r.AgentID, Trigger: string(r.Trigger),
		PayloadBytes: int64(r.PayloadBytes), PayloadSha256: r.PayloadSHA[:],
		State: r.State.String(), Reason: r.Reason,
		Accepted: timeToProto(r.Accepted), NextAttempt: timeToProto(r.Due), Completed: timeToProto(r.Completed),
		RedeliverableUntil: timeToProto(r.RedeliverableUntil), Deadline: timeToProto(r.Deadline),
		AttemptCount: int32(r.AttemptCount), MaxAttempts: int32(r.MaxAttempts), Hops: int32(r.Hops),
		OrderUid: r.Order, OrderName: r.OrderName,
	}
	for _, a := range r.Attempts {
		m.Attempts = append(m.Attempts, &controlpb.Attempt{
			Number: int32(a.Number), Start: timeToProto(a.Start), Duration: durationpb.New(a.Duration),
			Outcome: string(a.Outcome), StatusCode: int32(a.StatusCode), Message: a.Message,
		})
	}
	return m
}

func recordFromProto(namespace string, m *controlpb.Record) (delivery.Record, error) {
	r := delivery.Record{
		Delivery: delivery.Delivery{
			Ref: endpoint.Ref{Namespace: namespace, Name: m.GetEndpointName()},
			UID: m.GetEndpointUid(), EventID: m.GetEventId(), Trigger: delivery.Trigger(m.GetTrigger()),
			Reason: m.GetReason(), Accepted: timeFromProto(m.GetAccepted()), Deadline: timeFromProto(m.GetDeadline()),
			Due: timeFromProto(m.GetNextAttempt()), Completed: timeFromProto(m.GetCompleted()),
			RedeliverableUntil: timeFromProto(m.GetRedeliverableUntil()),
			AttemptCount:       int(m.GetAttemptCount()), MaxAttempts: int(m.GetMaxAttempts()), Hops: int(m.GetHops()),
			Order: m.GetOrderUid(), OrderName: m.GetOrderName(),
		},
		EventType: event.Type(m.GetEventType()), EventTime: timeFromProto(m.GetEventTime()),
		CallID: m.GetCallId(), AgentID: m.GetAgentId(), PayloadBytes: int(m.GetPayloadBytes()),
	}
	if namespace == "" || !validRecord(m) {
		return delivery.Record{}, errInvalid
	}
	copy(r.PayloadSHA[:], m.GetPayloadSha256())
	for _, s := range states {
		if s.String() == m.GetState() {
			r.State = s
		}
	}
	for _, a := range m.GetAttempts() {
		r.Attempts = append(r.Attempts, delivery.Attempt{
			Number: int(a.GetNumber()), Start: timeFromProto(a.GetStart()), Duration: a.GetDuration().AsDuration(),
			Outcome: delivery.Outcome(a.GetOutcome()), StatusCode: int(a.GetStatusCode()),
			Message: delivery.BoundedMessage(a.GetMessage()),
		})
	}
	return r, nil
}

func validRecord(m *controlpb.Record) bool {
	return validName(m.GetEndpointName()) && validID(m.GetEndpointUid()) && validID(m.GetEventId()) &&
		event.Type(m.GetEventType()).Known() && len(m.GetEventType()) <= event.MaxTypeLength &&
		len(m.GetCallId()) <= maxCallLength && len(m.GetAgentId()) <= maxCallLength &&
		slices.Contains([]delivery.Trigger{delivery.TriggerEvent, delivery.TriggerTest, delivery.TriggerRedelivery},
			delivery.Trigger(m.GetTrigger())) &&
		slices.ContainsFunc(states, func(s delivery.State) bool { return s.String() == m.GetState() }) &&
		(m.GetReason() == "" || validID(m.GetReason())) && validOrder(m) &&
		m.GetPayloadBytes() >= 0 && len(m.GetPayloadSha256()) == 32 &&
		m.GetAttemptCount() >= 0 && m.GetMaxAttempts() >= 0 && m.GetHops() >= 0 && len(m.GetAttempts()) <= delivery.MaxKeptAttempts &&
		validTimes(m.GetEventTime(), m.GetAccepted(), m.GetNextAttempt(), m.GetCompleted(), m.GetRedeliverableUntil(),
			m.GetDeadline()) &&
		!slices.ContainsFunc(m.GetAttempts(), func(a *controlpb.Attempt) bool { return !validAttempt(a) })
}

// validOrder says whether a redelivery names its order, and nothing else names one.
func validOrder(m *controlpb.Record) bool {
	if delivery.Trigger(m.GetTrigger()) != delivery.TriggerRedelivery {
		return m.GetOrderUid() == "" && m.GetOrderName() == ""
	}
	return validID(m.GetOrderUid()) && validName(m.GetOrderName())
}

func validAttempt(a *controlpb.Attempt) bool {
	return a.GetNumber() >= 1 && validTimes(a.GetStart()) &&
		(a.GetDuration() == nil || a.GetDuration().IsValid()) && a.GetDuration().AsDuration() >= 0 &&
		slices.Contains(delivery.Outcomes(), delivery.Outcome(a.GetOutcome())) &&
		a.GetStatusCode() >= 0 && a.GetStatusCode() <= 999
}

// validNamespace is about what a gateway names: a namespace out of a token is one.
func validNamespace(s string) bool { return len(s) <= maxLabelLength && labelName.MatchString(s) }

func validName(s string) bool { return len(s) <= maxNameLength && objectName.MatchString(s) }
func validID(s string) bool   { return len(s) <= maxIDLength && identifier.MatchString(s) }

func validTimes(all ...*timestamppb.Timestamp) bool {
	return !slices.ContainsFunc(all, func(t *timestamppb.Timestamp) bool { return t != nil && !t.IsValid() })
}

func countersToProto(c *delivery.Counters) *controlpb.Counters {
	return &controlpb.Counters{
		EndpointUid: c.UID, Namespace: c.Ref.Namespace, EndpointName: c.Ref.Name,
		Succeeded: c.Succeeded, Failed: c.Failed, Unrecorded: c.Unrecorded, Pending: c.Pending,
		LastSuccess: timeToProto(c.LastSuccess), LastFailure: timeToProto(c.LastFailure), Gone: c.Gone,
	}
}

func countersFromProto(namespace string, m *controlpb.Counters) (delivery.Counters, error) {
	c := delivery.Counters{
		UID: m.GetEndpointUid(), Ref: endpoint.Ref{Namespace: namespace, Name: m.GetEndpointName()},
		Succeeded: m.GetSucceeded(), Failed: m.GetFailed(), Unrecorded: m.GetUnrecorded(), Pending: m.GetPending(),
		LastSuccess: timeFromProto(m.GetLastSuccess()), LastFailure: timeFromProto(m.GetLastFailure()), Gone: m.GetGone(),
	}
	valid := namespace != "" && validName(c.Ref.Name) && validID(c.UID) && len(c.Gone) <= maxIDLength &&
		min(c.Succeeded, c.Failed, c.Unrecorded, c.Pending) >= 0 && validTimes(m.GetLastSuccess(), m.GetLastFailure())
	if !valid {
		return delivery.Counters{}, errInvalid
	}
	return c, nil
}
