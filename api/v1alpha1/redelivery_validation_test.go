// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1_test

import (
	"fmt"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

const validRedelivery = `
apiVersion: webhooks.gary.club/v1alpha1
kind: Redelivery
metadata: {name: valid}
spec:
  endpointRef: {name: crm}
  since: "2026-02-15T14:00:00Z"
  until: "2026-02-15T15:00:00Z"
  callIDs: [call_abc123]
  eventIDs: [evt_0192c7be5a3f7d3e8f0a1b2c3d4e5f60]
  limit: 50
`

func TestRedeliverySpec(t *testing.T) {
	many := func(n int) string {
		all := make([]string, n)
		for i := range all {
			all[i] = fmt.Sprintf("id%d", i)
		}
		return strings.Join(all, ", ")
	}
	tryAll(t, redeliveries, validRedelivery, []row{
		{"as it is", `{}`, ""},
		{"all of an endpoint", "spec: {since: null, until: null, callIDs: null, eventIDs: null, limit: null}", ""},
		{"a dry run", spec("dryRun: true"), ""},
		{"a hundred calls", spec("callIDs: [%s]", many(100)), ""},
		{"no endpoint", spec("endpointRef: null"), "spec.endpointRef: Required"},
		{"until before since", spec("until: '2026-02-15T13:00:00Z'"), "until must be later than since"},
		{"until at since", spec("until: '2026-02-15T14:00:00Z'"), "until must be later than since"},
		{"since that is no time", spec("since: yesterday"), "spec.since"},
		{"too many calls", spec("callIDs: [%s]", many(101)), "must have at most 100 items"},
		{"too many events", spec("eventIDs: [%s]", many(101)), "must have at most 100 items"},
		{"a call twice", spec("callIDs: [a, a]"), "Duplicate value"},
		{"an empty call", spec("callIDs: ['']"), "should be at least 1 chars long"},
		{"too long an event id", spec("eventIDs: [%s]", strings.Repeat("a", 65)), "may not be more than 64"},
		{"limit of nothing", spec("limit: 0"), "greater than or equal to 1"},
		{"too high a limit", spec("limit: 10001"), "less than or equal to 10000"},
		{"kept for less than nothing", spec("ttlSecondsAfterFinished: -1"), "greater than or equal to 0"},
		{"an unknown field", spec("endpoint: crm"), `unknown field "spec.endpoint"`},
	})
}

func TestRedeliveryDefaults(t *testing.T) {
	stored := create(t, validRedelivery, spec("limit: null"))
	got := stored.Object["spec"].(map[string]any)
	if got["limit"] != int64(1000) || got["ttlSecondsAfterFinished"] != int64(604800) {
		t.Errorf("spec is %v", got)
	}
}

func TestRedeliverySpecNeverChanges(t *testing.T) {
	client := plain.Resource(redeliveries).Namespace(namespace(t))
	if _, err := client.Create(t.Context(), document(t, validRedelivery), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []row{
		{"limit", `{"spec":{"limit":51}}`, "is an order and cannot be changed"},
		{"who gave it", `{"spec":{"requestedBy":"somebody"}}`, "is an order and cannot be changed"},
		{"a label", `{"metadata":{"labels":{"a":"b"}}}`, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := client.Patch(t.Context(), "valid", types.MergePatchType, []byte(tc.mutation), metav1.PatchOptions{})
			expect(t, err, tc.want)
		})
	}
}
