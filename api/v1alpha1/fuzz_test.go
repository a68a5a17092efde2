// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	"encoding/json"
	"slices"
	"testing"

	"k8s.io/apimachinery/pkg/api/equality"
)

// FuzzWebhookEndpoint: an object that is read is written as it was, its copy is equal and shares nothing with it, and it
// has a type for its test event.
func FuzzWebhookEndpoint(f *testing.F) {
	for _, s := range []string{
		`{}`, `{"spec":{"url":"https://a","events":["call.completed","custom.a"],"headers":[{"name":"X","value":"v"}]}}`,
		`{"spec":{"test":{"event":"custom.b"},"tls":{"caSecretRef":{"name":"a","key":"b"}},"retry":{"maxRetries":2147483647}}}`,
		`{"status":{"conditions":[{"type":"Ready","status":"True","lastTransitionTime":"2026-01-01T00:00:00Z"}],"deliveries":{"succeeded":-1}}}`,
		`{"metadata":{"labels":{"a":null},"creationTimestamp":null}}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, content []byte) {
		read := &WebhookEndpoint{}
		if json.Unmarshal(content, read) != nil {
			return
		}
		again := &WebhookEndpoint{}
		written, err := json.Marshal(read)
		if err != nil {
			return // a time of a year that JSON has no form for
		}
		if err := json.Unmarshal(written, again); err != nil || !equality.Semantic.DeepEqual(read, again) {
			t.Errorf("%s is written as %s, %v", content, written, err)
		}
		copied := read.DeepCopy()
		if !equality.Semantic.DeepEqual(read, copied) {
			t.Error("the copy is another object")
		}
		for i := range copied.Spec.Headers {
			copied.Spec.Headers[i].Name += "x"
			if copied.Spec.Headers[i].Name == read.Spec.Headers[i].Name {
				t.Error("the copy shares a header")
			}
		}
		event := read.Spec.TestEvent()
		if event == "" && !slices.Contains(read.Spec.Events, "") {
			t.Error("there is no type for the test event")
		}
	})
}
