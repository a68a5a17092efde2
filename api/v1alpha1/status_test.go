// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/garyclub/webhook-operator/api/v1alpha1"
)

func newEndpoint(namespace, name string) *v1alpha1.WebhookEndpoint {
	e := &v1alpha1.WebhookEndpoint{Spec: v1alpha1.WebhookEndpointSpec{
		URL: "https://hooks.example.com/catch/123", Events: []v1alpha1.EventType{v1alpha1.EventCallCompleted},
	}}
	e.Namespace, e.Name = namespace, name
	return e
}

func newDelivery(namespace, name, endpoint, eventType string) *v1alpha1.DeliveryAttempt {
	d := &v1alpha1.DeliveryAttempt{Spec: v1alpha1.DeliveryAttemptSpec{
		EndpointRef: v1alpha1.EndpointReference{Name: endpoint},
		Event: v1alpha1.EventReference{ID: "evt_" + name, Type: eventType, Time: metav1.Unix(1771165920, 0),
			CallID: "call_abc123", AgentID: "agent_xyz"},
		Payload: v1alpha1.PayloadMeasure{Bytes: 1043, SHA256: strings.Repeat("0a", 32)},
	}}
	d.Namespace, d.Name = namespace, name
	return d
}

// save creates an object and then writes its status, as the manager must: a create drops it.
func save(t *testing.T, object client.Object, setStatus func()) {
	t.Helper()
	if err := typed.Create(t.Context(), object); err != nil {
		t.Fatal(err)
	}
	setStatus()
	if err := typed.Status().Update(t.Context(), object); err != nil {
		t.Fatal(err)
	}
}

func TestStatusIsASubresource(t *testing.T) {
	e := newEndpoint(namespace(t), "a")
	e.Status.Host = "hooks.example.com"
	if err := typed.Create(t.Context(), e); err != nil {
		t.Fatal(err)
	}
	if e.Status.Host != "" {
		t.Error("a create wrote the status")
	}
	e.Status.Host, e.Spec.MaxInFlight = "hooks.example.com", 1
	if err := typed.Status().Update(t.Context(), e); err != nil {
		t.Fatal(err)
	}
	if e.Status.Host == "" || e.Spec.MaxInFlight != 16 || e.Generation != 1 {
		t.Errorf("an update of the status left host %q, maxInFlight %d, generation %d; want it to change the status alone",
			e.Status.Host, e.Spec.MaxInFlight, e.Generation)
	}
	e.Status.Host, e.Spec.MaxInFlight = "", 2
	if err := typed.Update(t.Context(), e); err != nil {
		t.Fatal(err)
	}
	if e.Status.Host == "" || e.Spec.MaxInFlight != 2 || e.Generation != 2 {
		t.Errorf("an update of the spec left host %q, maxInFlight %d, generation %d; want it to change the spec alone",
			e.Status.Host, e.Spec.MaxInFlight, e.Generation)
	}
}

// What the manager writes comes back as it was, zeros that mean something included.
func TestStatusComesBack(t *testing.T) {
	now := metav1.NewTime(time.Unix(1771165920, 0))
	e := newEndpoint(namespace(t), "a")
	want := v1alpha1.WebhookEndpointStatus{
		ObservedGeneration: 1, Host: "hooks.example.com",
		Conditions: []metav1.Condition{{Type: v1alpha1.ConditionReady, Status: metav1.ConditionTrue, Reason: v1alpha1.ReasonReady,
			ObservedGeneration: 1, LastTransitionTime: now}},
		Signing:     &v1alpha1.SigningStatus{SecretName: "a-signing", Keys: 2},
		Certificate: &v1alpha1.CertificateStatus{Issuer: "R11", NotAfterTime: &now},
		Test: &v1alpha1.TestStatus{Requested: "call.completed/1", Time: &now, Event: "call.completed",
			Outcome: v1alpha1.OutcomeDelivered, StatusCode: 200, DurationMilliseconds: 84, Hash: strings.Repeat("a", 64)},
		Deliveries:  &v1alpha1.DeliveriesStatus{Succeeded: 812, Failed: 3, Pending: 1, LastSuccessTime: &now, LastFailureTime: &now},
		Dispatchers: &v1alpha1.DispatchersStatus{Connected: 4, UpToDate: 4},
	}
	save(t, e, func() { e.Status = *want.DeepCopy() })
	if err := typed.Get(t.Context(), client.ObjectKeyFromObject(e), e); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, e.Status); diff != "" {
		t.Errorf("status (-want +got):\n%s", diff)
	}
	stored, err := plain.Resource(endpoints).Namespace(e.Namespace).Get(t.Context(), e.Name, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	got := stored.Object["status"].(map[string]any)["deliveries"].(map[string]any)
	for _, name := range []string{"lost", "unrecorded"} {
		if got[name] != int64(0) {
			t.Errorf("status.deliveries.%s = %v, want a visible 0", name, got[name])
		}
	}
}

func TestConditionsOfBothKinds(t *testing.T) {
	type object interface {
		client.Object
		GetConditions() []metav1.Condition
		SetConditions([]metav1.Condition)
	}
	for _, o := range []object{&v1alpha1.WebhookEndpoint{}, &v1alpha1.DeliveryAttempt{}} {
		conditions := o.GetConditions()
		meta.SetStatusCondition(&conditions, metav1.Condition{Type: "A", Status: metav1.ConditionTrue, Reason: "B"})
		o.SetConditions(conditions)
		if !meta.IsStatusConditionTrue(o.GetConditions(), "A") {
			t.Errorf("%T does not keep its conditions", o)
		}
	}
}

func TestSelectableFields(t *testing.T) {
	ns := namespace(t)
	for _, d := range []struct {
		name, endpoint, eventType string
		outcome                   v1alpha1.DeliveryOutcome
	}{
		{"a", "sheets", "call.completed", v1alpha1.DeliveryFailed},
		{"b", "sheets", "booking.created", v1alpha1.DeliveryDelivered},
		{"c", "crm", "call.completed", v1alpha1.DeliveryFailed},
		{"d", "crm", "contact.created", v1alpha1.DeliveryRetrying},
	} {
		object := newDelivery(ns, d.name, d.endpoint, d.eventType)
		save(t, object, func() { object.Status.Outcome = d.outcome })
	}
	for selector, want := range map[string][]string{
		"status.outcome=Failed":                                    {"a", "c"},
		"status.outcome!=Failed":                                   {"b", "d"},
		"spec.endpointRef.name=sheets":                             {"a", "b"},
		"spec.event.type=call.completed":                           {"a", "c"},
		"spec.endpointRef.name=crm,status.outcome=Failed":          {"c"},
		"spec.endpointRef.name=sheets,status.outcome=Retrying":     nil,
		"spec.event.type=booking.created,metadata.namespace=" + ns: {"b"},
	} {
		list, err := plain.Resource(deliveries).Namespace(ns).List(t.Context(), metav1.ListOptions{FieldSelector: selector})
		if err != nil {
			t.Errorf("%s: %v", selector, err)
			continue
		}
		var got []string
		for _, d := range list.Items {
			got = append(got, d.GetName())
		}
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Errorf("%s selects %v, want %v", selector, got, want)
		}
	}
	_, err := plain.Resource(deliveries).Namespace(ns).List(t.Context(), metav1.ListOptions{FieldSelector: "status.reason=Gone"})
	if !apierrors.IsBadRequest(err) {
		t.Errorf("a field that is not selectable: %v, want a bad request", err)
	}
	if got := kubectl(t, "get", "dlva", "-n", ns, "-o", "name", "--field-selector", "status.outcome=Failed"); strings.Count(got, "\n") != 2 {
		t.Errorf("kubectl get --field-selector status.outcome=Failed shows\n%s", got)
	}
}

// table asks the server for what kubectl get shows. Columns beyond priority 0 are marked by an asterisk.
func table(t *testing.T, resource, namespace string) (columns []string, rows [][]string) {
	t.Helper()
	config := plane.Config()
	config.GroupVersion, config.APIPath = &v1alpha1.GroupVersion, "/apis"
	config.ContentConfig.NegotiatedSerializer = metav1Codecs
	rc, err := rest.RESTClientFor(config)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := rc.Get().Namespace(namespace).Resource(resource).
		SetHeader("Accept", "application/json;as=Table;v=v1;g=meta.k8s.io").DoRaw(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var answer metav1.Table
	if err := json.Unmarshal(raw, &answer); err != nil {
		t.Fatal(err)
	}
	for _, c := range answer.ColumnDefinitions {
		name := strings.ToUpper(c.Name)
		if c.Priority > 0 {
			name += "*"
		}
		columns = append(columns, name)
	}
	for _, r := range answer.Rows {
		row := make([]string, len(r.Cells))
		for i, cell := range r.Cells {
			row[i] = fmt.Sprint(cell)
		}
		rows = append(rows, row)
	}
	return columns, rows
}

func TestEndpointColumns(t *testing.T) {
	e := newEndpoint(namespace(t), "zapier-sheets")
	ago := metav1.NewTime(time.Now().Add(-3 * time.Minute))
	save(t, e, func() {
		e.Status.Host = "hooks.example.com"
		e.Status.Conditions = []metav1.Condition{
			{Type: v1alpha1.ConditionAccepted, Status: metav1.ConditionTrue, Reason: v1alpha1.ReasonAccepted, LastTransitionTime: ago},
			{Type: v1alpha1.ConditionReady, Status: metav1.ConditionFalse, Reason: v1alpha1.ReasonTestFailed, LastTransitionTime: ago},
		}
		e.Status.Deliveries = &v1alpha1.DeliveriesStatus{Succeeded: 812, Pending: 1, Unrecorded: 7, LastSuccessTime: &ago}
		e.Status.Dispatchers = &v1alpha1.DispatchersStatus{Connected: 4, UpToDate: 3}
	})
	columns, rows := table(t, "webhookendpoints", e.Namespace)
	wantColumns := []string{"NAME", "HOST", "READY", "STATUS", "DELIVERED", "FAILED", "LAST-DELIVERY",
		"PENDING*", "UNRECORDED*", "DISPATCHERS*", "EVENTS*", "AGE"}
	if diff := cmp.Diff(wantColumns, columns); diff != "" {
		t.Errorf("columns (-want +got):\n%s", diff)
	}
	// A figure of 0 is shown as such: nothing failed, which is not the same as nothing known.
	want := []string{"zapier-sheets", "hooks.example.com", "False", "TestFailed", "812", "0", "3m", "1", "7", "3", `["call.completed"]`}
	if len(rows) != 1 {
		t.Fatalf("%d rows, want 1", len(rows))
	}
	if diff := cmp.Diff(want, rows[0][:len(want)]); diff != "" {
		t.Errorf("cells (-want +got):\n%s", diff)
	}
	for _, name := range []string{"whe", "webhookendpoint", "webhooks"} {
		if got := kubectl(t, "get", name, "-n", e.Namespace); !strings.Contains(got, "zapier-sheets") || strings.Contains(got, "UNRECORDED") {
			t.Errorf("kubectl get %s shows\n%s", name, got)
		}
	}
	if got := kubectl(t, "get", "whe", "-n", e.Namespace, "-o", "wide"); !strings.Contains(got, "UNRECORDED") {
		t.Errorf("kubectl get whe -o wide shows\n%s", got)
	}
}

func TestDeliveryColumns(t *testing.T) {
	d := newDelivery(namespace(t), "zapier-sheets-0192c7be", "zapier-sheets", "call.completed")
	next := metav1.NewTime(time.Now().Add(time.Minute).Truncate(time.Second))
	save(t, d, func() {
		d.Status = v1alpha1.DeliveryAttemptStatus{
			Outcome: v1alpha1.DeliveryRetrying, Reason: v1alpha1.ReasonThrottled, LastStatusCode: 503,
			AttemptCount: 2, MaxAttempts: 4, NextAttemptTime: &next,
		}
	})
	columns, rows := table(t, "deliveryattempts", d.Namespace)
	wantColumns := []string{"NAME", "ENDPOINT", "EVENT", "OUTCOME", "ATTEMPTS", "CODE", "REASON", "NEXT", "CALL*", "TRIGGER*", "AGE"}
	if diff := cmp.Diff(wantColumns, columns); diff != "" {
		t.Errorf("columns (-want +got):\n%s", diff)
	}
	want := []string{"zapier-sheets-0192c7be", "zapier-sheets", "call.completed", "Retrying", "2", "503", "Throttled",
		next.UTC().Format(time.RFC3339), "call_abc123", "Event"}
	if len(rows) != 1 {
		t.Fatalf("%d rows, want 1", len(rows))
	}
	if diff := cmp.Diff(want, rows[0][:len(want)]); diff != "" {
		t.Errorf("cells (-want +got):\n%s", diff)
	}
	if got := kubectl(t, "get", "dlva", "-n", d.Namespace); !strings.Contains(got, "Throttled") || strings.Contains(got, "CALL") {
		t.Errorf("kubectl get dlva shows\n%s", got)
	}
}
