// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

const validDelivery = `
apiVersion: webhooks.gary.club/v1alpha1
kind: DeliveryAttempt
metadata: {name: valid}
spec:
  endpointRef: {name: zapier-sheets}
  event:
    id: evt_0192c7be5a3f7d3e8f0a1b2c3d4e5f60
    type: call.completed
    time: "2026-02-15T14:32:00Z"
    callID: call_abc123
    agentID: agent_xyz
  trigger: Event
  payload: {bytes: 1043, sha256: e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855}
`

// fieldsOf lists the fields that a refusal names.
func fieldsOf(t *testing.T, err error) []string {
	t.Helper()
	var status apierrors.APIStatus
	if !errors.As(err, &status) || status.Status().Details == nil {
		t.Fatalf("no refusal of the object: %v", err)
	}
	var fields []string
	for _, cause := range status.Status().Details.Causes {
		fields = append(fields, cause.Field)
	}
	return fields
}

func TestDeliverySpec(t *testing.T) {
	tryAll(t, deliveries, validDelivery, []row{
		{"as it is", `{}`, ""},
		{"without call and agent", "spec: {event: {callID: null, agentID: null}}", ""},
		{"of an own type", "spec: {event: {type: custom.invoice_paid}}", ""},
		{"of a test", spec("trigger: Test"), ""},
		{"of a redelivery", spec("trigger: Redelivery"), ""},
		{"of an empty payload", "spec: {payload: {bytes: 0}}", ""},
		{"unknown trigger", spec("trigger: Retry"), `supported values: "Event", "Test", "Redelivery"`},
		{"no endpoint", "spec: {endpointRef: null}", "spec.endpointRef: Required"},
		{"endpoint without a name", "spec: {endpointRef: {name: ''}}", "spec.endpointRef.name"},
		{"no event id", "spec: {event: {id: null}}", "spec.event.id: Required"},
		{"no event type", "spec: {event: {type: null}}", "spec.event.type: Required"},
		{"no event time", "spec: {event: {time: null}}", "spec.event.time: Required"},
		{"event time that is none", "spec: {event: {time: yesterday}}", "spec.event.time"},
		{"too long an event id", fmt.Sprintf("spec: {event: {id: %s}}", strings.Repeat("a", 65)), "may not be more than 64"},
		{"too long a call id", fmt.Sprintf("spec: {event: {callID: %s}}", strings.Repeat("a", 129)), "may not be more than 128"},
		{"no payload", "spec: {payload: null}", "spec.payload: Required"},
		{"payload below nothing", "spec: {payload: {bytes: -1}}", "should be greater than or equal to 0"},
		{"digest in capitals", fmt.Sprintf("spec: {payload: {sha256: %s}}", strings.Repeat("A", 64)), "spec.payload.sha256"},
		{"digest too short", "spec: {payload: {sha256: abc}}", "spec.payload.sha256"},
		{"the payload itself", "spec: {payload: {body: '{}'}}", `unknown field "spec.payload.body"`},
	})
}

func TestDeliverySpecNeverChanges(t *testing.T) {
	const want = "the spec of a DeliveryAttempt is a record and cannot be changed; to send an event again, redeliver it"
	client := plain.Resource(deliveries).Namespace(namespace(t))
	if _, err := client.Create(t.Context(), document(t, validDelivery), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []row{
		{"endpoint", `{"spec":{"endpointRef":{"name":"other"}}}`, want},
		{"event id", `{"spec":{"event":{"id":"evt_other"}}}`, want},
		{"event type", `{"spec":{"event":{"type":"booking.created"}}}`, want},
		{"event time", `{"spec":{"event":{"time":"2026-02-15T14:32:01Z"}}}`, want},
		{"call", `{"spec":{"event":{"callID":"call_other"}}}`, want},
		{"agent removed", `{"spec":{"event":{"agentID":null}}}`, want},
		{"trigger", `{"spec":{"trigger":"Redelivery"}}`, want},
		{"trigger back to its default", `{"spec":{"trigger":null}}`, ""},
		{"payload", `{"spec":{"payload":{"bytes":1}}}`, want},
		{"spec removed", `{"spec":null}`, "spec: Required"},
		{"label", `{"metadata":{"labels":{"a":"b"}}}`, ""},
		{"nothing", `{}`, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := client.Patch(t.Context(), "valid", types.MergePatchType, []byte(tc.mutation), metav1.PatchOptions{})
			expect(t, err, tc.want)
		})
	}
}

func TestDeliveryStatus(t *testing.T) {
	attempts := func(n int) string {
		list := make([]string, n)
		for i := range list {
			list[i] = fmt.Sprintf(`{"number":%d,"startTime":"2026-02-15T14:32:00.000000Z","outcome":"TimedOut"}`, i+1)
		}
		return `{"status":{"attempts":[` + strings.Join(list, ",") + `]}}`
	}
	client := plain.Resource(deliveries).Namespace(namespace(t))
	if _, err := client.Create(t.Context(), document(t, validDelivery), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []row{
		{"pending", `{"status":{"outcome":"Pending"}}`, ""},
		{"unknown outcome", `{"status":{"outcome":"Lost"}}`, `supported values: "Pending", "Retrying", "Delivered", "Failed"`},
		{"16 attempts", attempts(16), ""},
		{"17 attempts", attempts(17), "must have at most 16 items"},
		{"unknown outcome of an attempt", strings.ReplaceAll(attempts(1), "TimedOut", "Failed"), `supported values: "Delivered", "Rejected"`},
		{"attempt without a number", strings.ReplaceAll(attempts(1), `"number":1,`, ""), "number: Required"},
		{"attempt zero", strings.ReplaceAll(attempts(1), `"number":1`, `"number":0`), "should be greater than or equal to 1"},
		{"attempt twice", strings.ReplaceAll(attempts(2), `"number":2`, `"number":1`), "Duplicate value"},
		{"message that is a body", strings.ReplaceAll(attempts(1), `"outcome"`, `"message":"`+strings.Repeat("a", 513)+`","outcome"`), "may not be more than 512"},
		{"condition without a reason", `{"status":{"conditions":[{"type":"Succeeded","status":"Unknown","lastTransitionTime":"2026-02-15T14:32:00Z","message":""}]}}`, "reason: Required"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := client.Patch(t.Context(), "valid", types.MergePatchType, []byte(tc.mutation), metav1.PatchOptions{}, "status")
			expect(t, err, tc.want)
		})
	}
}
