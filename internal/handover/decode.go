// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package handover

import (
	"crypto/sha256"
	"errors"
	"regexp"
	"slices"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/garyclub/webhook-operator/internal/delivery"
	"github.com/garyclub/webhook-operator/internal/endpoint"
	"github.com/garyclub/webhook-operator/internal/event"
	"github.com/garyclub/webhook-operator/internal/handover/handoverpb"
)

// A source runs in somebody's pod: what it sends is kept on disk, becomes requests to receivers and fields of objects, so
// all of it is checked. The bounds of counts and times are far beyond what an endpoint can ask for. A longer time is cut
// down to maxWait: a delivery that goes out early is better than one that is lost.
const (
	maxNamespaceLength = 63
	maxNameLength      = 253
	maxIDLength        = 128
	maxCount           = 10_000
	maxWait            = 48 * time.Hour
	maxDeadline        = 30 * 24 * time.Hour
)

var (
	namespaceName = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`)
	objectName    = regexp.MustCompile(`^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$`)
	identifier    = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]*$`)

	// errInvalid names no value: they are somebody's.
	errInvalid = errors.New("not a valid request")
	// errForeign: an event is of a namespace that the caller may not hand over for.
	errForeign = errors.New("an event is not of the caller's namespace")
)

// decode checks a message and returns its parcels, due by the clock of now. Parcels of one event share it. One that is not
// valid has no event: it alone is refused, so that it does not stand in the way of the others for ever.
func decode(m *handoverpb.TakeOverRequest, may func(namespace string) bool, now time.Time) ([]Parcel, error) {
	if n := len(m.GetParcels()); n == 0 || n > maxParcels || len(m.GetEvents()) > n {
		return nil, errInvalid
	}
	events := make([]*event.Event, len(m.GetEvents()))
	for i, e := range m.GetEvents() {
		if !may(e.GetNamespace()) {
			return nil, errForeign
		}
		if validEvent(e) {
			events[i] = eventFromProto(e)
		}
	}
	parcels := make([]Parcel, len(m.GetParcels()))
	for i, p := range m.GetParcels() {
		if int64(p.GetEvent()) >= int64(len(events)) {
			return nil, errInvalid
		}
		if e := events[p.GetEvent()]; e != nil && p.GetNamespace() == e.Namespace && validParcel(p, now) {
			parcels[i] = Parcel{Event: e, Delivery: deliveryFromProto(p, e, now), Last: m.GetLast()}
		}
	}
	return parcels, nil
}

func validEvent(m *handoverpb.Event) bool {
	size := len(m.GetPayload())
	if size == 0 || size > event.MaxPayloadBytes || len(m.GetSha256()) != sha256.Size {
		return false
	}
	return validID(m.GetId()) && len(m.GetNamespace()) <= maxNamespaceLength && namespaceName.MatchString(m.GetNamespace()) &&
		len(m.GetType()) <= event.MaxTypeLength && event.Type(m.GetType()).Known() &&
		len(m.GetCallId()) <= event.MaxCallIDBytes && len(m.GetAgentId()) <= event.MaxCallIDBytes &&
		validTimes(m.GetTime(), m.GetAccepted()) &&
		sha256.Sum256(m.GetPayload()) == [sha256.Size]byte(m.GetSha256())
}

func eventFromProto(m *handoverpb.Event) *event.Event {
	return &event.Event{
		ID: m.GetId(), Namespace: m.GetNamespace(), Type: event.Type(m.GetType()), Time: m.GetTime().AsTime(),
		CallID: m.GetCallId(), AgentID: m.GetAgentId(), Accepted: m.GetAccepted().AsTime(),
		SHA256: [sha256.Size]byte(m.GetSha256()), Payload: m.GetPayload(),
	}
}

var triggers = []delivery.Trigger{delivery.TriggerEvent, delivery.TriggerTest, delivery.TriggerRedelivery}

func validParcel(m *handoverpb.Parcel, now time.Time) bool {
	return len(m.GetEndpointName()) <= maxNameLength && objectName.MatchString(m.GetEndpointName()) &&
		slices.Contains(triggers, delivery.Trigger(m.GetTrigger())) &&
		validTimes(m.GetAccepted(), m.GetDeadline()) && m.GetDeadline().AsTime().Before(now.Add(maxDeadline)) &&
		validDuration(m.GetWait()) && validCount(m.GetAttemptCount()) && m.GetMaxAttempts() >= 1 &&
		validCount(m.GetMaxAttempts()) && validCount(m.GetHops()) &&
		validInterruptions(m) && validOrder(m) && validEnd(m, now) &&
		len(m.GetAttempts()) <= delivery.MaxKeptAttempts && len(m.GetAttempts()) <= int(m.GetAttemptCount()) &&
		!slices.ContainsFunc(m.GetAttempts(), func(a *handoverpb.Attempt) bool { return !validAttempt(a) })
}

// validInterruptions: the last one allowed has ended a delivery.
func validInterruptions(m *handoverpb.Parcel) bool {
	n := m.GetInterruptions()
	return n >= 0 && (n < delivery.MaxInterruptions || m.GetFailed() && n == delivery.MaxInterruptions)
}

// validOrder takes none too. Only a redelivery has one.
func validOrder(m *handoverpb.Parcel) bool {
	order, name := m.GetOrder(), m.GetOrderName()
	if order == "" && name == "" {
		return true
	}
	return m.GetTrigger() == string(delivery.TriggerRedelivery) &&
		len(order) <= delivery.MaxOrderIDBytes && identifier.MatchString(order) &&
		(name == "" || len(name) <= delivery.MaxOrderNameBytes && objectName.MatchString(name))
}

var reasons = []string{delivery.ReasonDeadlineExceeded, delivery.ReasonQueueFull, delivery.ReasonQueueLost,
	delivery.ReasonEndpointDeleted}

// validEnd: a dead letter says how, and to when it is kept; what waits does not.
func validEnd(m *handoverpb.Parcel, now time.Time) bool {
	if !m.GetFailed() {
		return m.GetReason() == "" && m.GetCompleted() == nil && m.GetRedeliverableUntil() == nil
	}
	outcome := delivery.Outcome(m.GetReason())
	return (slices.Contains(reasons, m.GetReason()) ||
		outcome != delivery.OutcomeDelivered && slices.Contains(delivery.Outcomes(), outcome)) &&
		validTimes(m.GetCompleted(), m.GetRedeliverableUntil()) &&
		m.GetCompleted().AsTime().Before(now.Add(maxDeadline)) && m.GetRedeliverableUntil().AsTime().Before(now.Add(maxDeadline))
}

func validAttempt(m *handoverpb.Attempt) bool {
	return m.GetNumber() >= 1 && validCount(m.GetNumber()) && validTimes(m.GetStart()) &&
		validDuration(m.GetDuration()) && validDuration(m.GetRetryAfter()) &&
		slices.Contains(delivery.Outcomes(), delivery.Outcome(m.GetOutcome())) &&
		m.GetStatusCode() >= 0 && m.GetStatusCode() <= 999
}

func deliveryFromProto(m *handoverpb.Parcel, e *event.Event, now time.Time) delivery.Delivery {
	wait := cut(m.GetWait(), maxWait)
	d := delivery.Delivery{
		Ref: endpoint.Ref{Namespace: e.Namespace, Name: m.GetEndpointName()}, EventID: e.ID,
		Trigger: delivery.Trigger(m.GetTrigger()), State: delivery.Pending,
		Accepted: m.GetAccepted().AsTime(), Deadline: m.GetDeadline().AsTime(),
		Wait: wait, Due: now.Add(wait),
		AttemptCount: int(m.GetAttemptCount()), MaxAttempts: int(m.GetMaxAttempts()),
		Interruptions: int(m.GetInterruptions()), Hops: int(m.GetHops()),
	}
	if d.AttemptCount > 0 {
		d.State = delivery.Retrying
	}
	d.Order, d.OrderName = m.GetOrder(), m.GetOrderName()
	if m.GetFailed() {
		d.State, d.Reason, d.Due, d.Wait = delivery.Failed, m.GetReason(), time.Time{}, 0
		d.Completed, d.RedeliverableUntil = m.GetCompleted().AsTime(), m.GetRedeliverableUntil().AsTime()
	}
	for _, a := range m.GetAttempts() {
		d.Attempts = append(d.Attempts, delivery.Attempt{
			Number: int(a.GetNumber()), Start: a.GetStart().AsTime(), Duration: cut(a.GetDuration(), maxWait),
			Outcome: delivery.Outcome(a.GetOutcome()), StatusCode: int(a.GetStatusCode()), Message: delivery.BoundedMessage(a.GetMessage()),
			RetryAfter: cut(a.GetRetryAfter(), delivery.MaxRetryAfter),
		})
	}
	return d
}

func validID(s string) bool { return len(s) <= maxIDLength && identifier.MatchString(s) }

func validCount(n int32) bool { return n >= 0 && n <= maxCount }

func validTimes(all ...*timestamppb.Timestamp) bool {
	return !slices.ContainsFunc(all, func(t *timestamppb.Timestamp) bool { return !t.IsValid() })
}

// validDuration takes none as zero.
func validDuration(d *durationpb.Duration) bool {
	return d == nil || d.IsValid() && d.AsDuration() >= 0
}

func cut(d *durationpb.Duration, limit time.Duration) time.Duration {
	return min(d.AsDuration(), limit)
}
