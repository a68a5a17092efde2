// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/garyclub/webhook-operator/api/v1alpha1"
)

// defaulted is the stored spec of an endpoint that says nothing but where and what.
const defaulted = `
url: https://hooks.example.com/catch/123
events: [call.completed]
timeoutSeconds: 10
successCodes: ["200"]
retry: {maxRetries: 3, initialBackoffSeconds: 5, maxBackoffSeconds: 300, deadlineSeconds: 86400}
signing: {deletionPolicy: Retain}
maxInFlight: 16
test: {when: OnChange}
history: {succeeded: 10, failed: 50, ttlSecondsAfterFinished: 604800}
`

func TestEndpointDefaults(t *testing.T) {
	for name, tc := range map[string]struct{ mutation, want string }{
		"nothing said":    {`{}`, `{}`},
		"empty structs":   {"spec: {retry: {}, signing: {}, test: {}, history: {}}", `{}`},
		"null structs":    {`{"spec":{"retry":null,"history":null}}`, `{}`},
		"one field said":  {"spec: {retry: {maxRetries: 5}}", "retry: {maxRetries: 5}"},
		"zeros are kept":  {"spec: {retry: {maxRetries: 0}, history: {succeeded: 0, failed: 0}}", "{retry: {maxRetries: 0}, history: {succeeded: 0, failed: 0}}"},
		"CA without key":  {"spec: {tls: {caSecretRef: {name: a}}}", "tls: {caSecretRef: {name: a, key: ca.crt}}"},
		"codes said":      {"spec: {successCodes: [2xx]}", "successCodes: [2xx]"},
		"test event said": {"spec: {test: {event: custom.a}}", "test: {event: custom.a}"},
	} {
		t.Run(name, func(t *testing.T) {
			got := create(t, validEndpoint, tc.mutation)
			want := document(t, defaulted, tc.want).Object
			if diff := cmp.Diff(want, got.Object["spec"]); diff != "" {
				t.Errorf("stored spec (-want +got):\n%s", diff)
			}
		})
	}
}

// A Go program that leaves structs at their zero value gets the same defaults as a YAML file without them, and what it
// reads it can write back.
func TestEndpointDefaultsOfATypedClient(t *testing.T) {
	e := &v1alpha1.WebhookEndpoint{Spec: v1alpha1.WebhookEndpointSpec{
		URL: "https://hooks.example.com/catch/123", Events: []v1alpha1.EventType{v1alpha1.EventCallCompleted},
	}}
	e.Namespace, e.Name = namespace(t), "typed"
	if err := typed.Create(t.Context(), e); err != nil {
		t.Fatal(err)
	}
	if got, want := e.Spec.Retry, (v1alpha1.RetrySpec{MaxRetries: 3, InitialBackoffSeconds: 5, MaxBackoffSeconds: 300, DeadlineSeconds: 86400}); got != want {
		t.Errorf("retry = %+v, want %+v", got, want)
	}
	if got, want := e.Spec.History, (v1alpha1.HistorySpec{Succeeded: 10, Failed: 50, TTLSecondsAfterFinished: 604800}); got != want {
		t.Errorf("history = %+v, want %+v", got, want)
	}
	if e.Spec.Test.When != v1alpha1.TestOnChange || e.Spec.Signing.DeletionPolicy != v1alpha1.DeletionPolicyRetain {
		t.Errorf("test = %+v, signing = %+v, want the defaults", e.Spec.Test, e.Spec.Signing)
	}

	e.Spec.Retry.MaxRetries, e.Spec.History.Succeeded = 0, 0
	if err := typed.Update(t.Context(), e); err != nil {
		t.Fatal(err)
	}
	if err := typed.Get(t.Context(), client.ObjectKeyFromObject(e), e); err != nil {
		t.Fatal(err)
	}
	if e.Spec.Retry.MaxRetries != 0 || e.Spec.History.Succeeded != 0 || e.Spec.History.Failed != 50 {
		t.Errorf("after an update to zero: retry = %+v, history = %+v", e.Spec.Retry, e.Spec.History)
	}
}

func TestDeliveryDefaults(t *testing.T) {
	got := create(t, validDelivery, spec("trigger: null"))
	if trigger, _, _ := unstructured.NestedString(got.Object, "spec", "trigger"); trigger != "Event" {
		t.Errorf("trigger = %q, want Event", trigger)
	}
}

// Fields that nobody knows are not stored, so a payload cannot come into etcd by a typing error or on purpose.
func TestUnknownFieldsArePruned(t *testing.T) {
	endpoint := create(t, validEndpoint, "spec: {colour: red, retry: {colour: red}, headers: [{name: X-A, value: a, colour: red}]}")
	delivery := create(t, validDelivery, "spec: {body: secret, event: {body: secret}, payload: {body: secret}}")
	for object, path := range map[*unstructured.Unstructured][][]string{
		endpoint: {{"spec", "colour"}, {"spec", "retry", "colour"}},
		delivery: {{"spec", "body"}, {"spec", "event", "body"}, {"spec", "payload", "body"}},
	} {
		for _, fields := range path {
			if value, found, _ := unstructured.NestedFieldNoCopy(object.Object, fields...); found {
				t.Errorf("%s: %v = %v was kept", object.GetKind(), fields, value)
			}
		}
	}
	headers, _, _ := unstructured.NestedSlice(endpoint.Object, "spec", "headers")
	if diff := cmp.Diff([]any{map[string]any{"name": "X-A", "value": "a"}}, headers); diff != "" {
		t.Errorf("headers (-want +got):\n%s", diff)
	}
}

// create shows what would be stored, as a client does that has never heard of strict validation.
func create(t *testing.T, valid string, mutations ...string) *unstructured.Unstructured {
	t.Helper()
	object := document(t, valid, mutations...)
	stored, err := plain.Resource(resources[object.GetKind()]).Namespace("default").Create(t.Context(), object,
		metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}, FieldValidation: metav1.FieldValidationIgnore})
	if err != nil {
		t.Fatal(err)
	}
	return stored
}
