// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package record

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/garyclub/webhook-operator/api/v1alpha1"
	"github.com/garyclub/webhook-operator/internal/delivery"
	"github.com/garyclub/webhook-operator/internal/endpoint"
	"github.com/garyclub/webhook-operator/internal/event"
)

// FuzzObject: whatever a dispatcher reports, the record has a name that the API server takes, is within the bounds of the
// kind, and is the same when it is made again.
func FuzzObject(f *testing.F) {
	f.Add("zapier-sheets", "uid-1", "evt_1", "call_1", "Rejected", "answered 500", uint8(4), int32(1), int64(1_700_000_000))
	f.Add(strings.Repeat("a.", 126)+"a", "u", "e", "\xff", "no reason of ours", "\xff\xfe", uint8(0), int32(-1), int64(0))
	f.Add("a", "", "", strings.Repeat("é", 100), "", strings.Repeat("é", 300), uint8(3), int32(1<<30), int64(-62135596800))
	f.Fuzz(func(t *testing.T, name, uid, eventID, callID, reason, message string, state uint8, number int32, at int64) {
		const year9999 = 253402300799
		if len(validation.IsDNS1123Subdomain(name)) > 0 || at < -62135596800 || at > year9999 {
			return // control takes no such report
		}
		when := time.Unix(at, 0).UTC()
		r := &delivery.Record{
			Delivery: delivery.Delivery{Ref: endpoint.Ref{Namespace: "clinic", Name: name}, UID: uid, EventID: eventID,
				Trigger: delivery.TriggerEvent, State: delivery.State(state), Reason: reason, Accepted: when, Completed: when,
				Due: when, RedeliverableUntil: when, AttemptCount: int(number),
				Attempts: []delivery.Attempt{{Number: int(number), Start: when, Duration: time.Second, Outcome: delivery.OutcomeRejected, Message: message}}},
			EventType: event.CallCompleted, EventTime: when, CallID: callID, AgentID: callID,
		}
		o := newObject(r)
		setStatus(o, r)
		if problems := validation.IsDNS1123Subdomain(o.Name); len(problems) > 0 || len(o.Name) > maxObjectName {
			t.Errorf("the name is %q: %v", o.Name, problems)
		}
		for text, limit := range map[string]int{o.Spec.Event.ID: maxEventID, o.Spec.Event.CallID: maxCallID, o.Status.Attempts[0].Message: maxMessage} {
			if len(text) > limit || !utf8.ValidString(text) {
				t.Errorf("%q is longer than %d bytes, or no UTF-8", text, limit)
			}
		}
		if len(o.OwnerReferences) != 1 || !slices.Contains(reasons(r), o.Status.Reason) {
			t.Errorf("owners %v, reason %q", o.OwnerReferences, o.Status.Reason)
		}
		if setStatus(o, r) {
			t.Error("the same report changes the record a second time")
		}
		content, err := json.Marshal(o)
		if err != nil {
			t.Fatalf("the record cannot be written: %v", err)
		}
		if err := json.Unmarshal(content, &v1alpha1.DeliveryAttempt{}); err != nil {
			t.Errorf("the record cannot be read: %v", err)
		}
	})
}

// reasons are those that a record may show.
func reasons(r *delivery.Record) []string {
	all := []string{"", delivery.Failed.String(), delivery.ReasonDeadlineExceeded, delivery.ReasonQueueFull, delivery.ReasonQueueLost,
		delivery.ReasonEndpointDeleted}
	for _, o := range delivery.Outcomes() {
		all = append(all, string(o))
	}
	if r.State != delivery.Failed && r.State != delivery.Retrying {
		return []string{""}
	}
	return all
}
