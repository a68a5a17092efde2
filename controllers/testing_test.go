// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/garyclub/webhook-operator/api/v1alpha1"
	"github.com/garyclub/webhook-operator/internal/conditions"
	"github.com/garyclub/webhook-operator/internal/delivery"
	"github.com/garyclub/webhook-operator/internal/endpoint"
	"github.com/garyclub/webhook-operator/internal/reconcile"
)

// testWork is an endpoint of generation 2 whose TestDelivered is about generation 1.
func testWork(before metav1.Condition, change func(*v1alpha1.WebhookEndpoint)) *work {
	obj := &v1alpha1.WebhookEndpoint{}
	obj.Namespace, obj.Name, obj.Generation = "n", "a", 2
	obj.Spec.Events = []v1alpha1.EventType{"custom.x", "booking.created"}
	obj.Status.Test = &v1alpha1.TestStatus{}
	if before.Type != "" {
		conditions.Set(&obj.Status.Conditions, 1, before)
	}
	if change != nil {
		change(obj)
	}
	p := &endpoint.Endpoint{Ref: endpoint.Ref{Namespace: "n", Name: "a"}, UID: "uid", URL: "https://a.test/", SigningKeys: [][]byte{[]byte("key")}}
	return &work{obj: obj, ref: p.Ref, Patcher: reconcile.NewPatcher(nil, obj), endpoint: p, place: "here", resolved: true}
}

func TestWhichTestIsDue(t *testing.T) {
	failed := conditions.False(v1alpha1.ConditionTestDelivered, "Rejected", "")
	tested := func(outcome v1alpha1.AttemptOutcome, m testMark) func(*v1alpha1.WebhookEndpoint) {
		return func(o *v1alpha1.WebhookEndpoint) { o.Status.Test.Outcome, o.Status.Test.Hash = outcome, m.text() }
	}
	here, there, due := testMark{place: "here", salt: "salt", since: 1000}, testMark{place: "there", salt: "salt"}, testMark{place: "here", salt: "salt", since: 1000, due: true}
	for name, tc := range map[string]struct {
		before        metav1.Condition
		change        []func(*v1alpha1.WebhookEndpoint)
		want          string // the key; empty when none is due
		wantType      string // booking.created when empty
		wantMark      testMark
		wantRequested string // in the status, where the request cannot be fulfilled
	}{
		"never tested":                 {want: "change:here"},
		"of the type that is named":    {change: []func(*v1alpha1.WebhookEndpoint){func(o *v1alpha1.WebhookEndpoint) { o.Spec.Test.Event = "custom.x" }}, want: "change:here", wantType: "custom.x"},
		"delivered here":               {change: []func(*v1alpha1.WebhookEndpoint){tested("Delivered", here)}, wantMark: here},
		"delivered elsewhere":          {change: []func(*v1alpha1.WebhookEndpoint){tested("Delivered", there)}, want: "change:here", wantMark: there},
		"failed here":                  {change: []func(*v1alpha1.WebhookEndpoint){tested("Rejected", here)}, wantMark: here},
		"failed here, and a new spec":  {before: failed, change: []func(*v1alpha1.WebhookEndpoint){tested("Rejected", here)}, want: "change:here:2", wantMark: due},
		"failed, and due ever since":   {change: []func(*v1alpha1.WebhookEndpoint){tested("Rejected", due)}, want: "change:here:2", wantMark: due},
		"failed elsewhere":             {before: failed, change: []func(*v1alpha1.WebhookEndpoint){tested("Rejected", there)}, want: "change:here", wantMark: there},
		"on request, never tested":     {change: []func(*v1alpha1.WebhookEndpoint){onRequest}},
		"on request, failed":           {before: failed, change: []func(*v1alpha1.WebhookEndpoint){onRequest, tested("Rejected", here)}, wantMark: here},
		"requested":                    {change: []func(*v1alpha1.WebhookEndpoint){onRequest, requesting("custom.y/1")}, want: "requested:custom.y/1", wantType: "custom.y"},
		"requested before a change":    {change: []func(*v1alpha1.WebhookEndpoint){requesting("custom.y")}, want: "requested:custom.y", wantType: "custom.y"},
		"an unknown type is noted":     {change: []func(*v1alpha1.WebhookEndpoint){onRequest, requesting("custom.Y")}, wantRequested: "custom.Y"},
		"and does not prevent a test":  {change: []func(*v1alpha1.WebhookEndpoint){requesting("x")}, want: "change:here", wantRequested: "x"},
		"what was handled is not due":  {change: []func(*v1alpha1.WebhookEndpoint){onRequest, requesting("custom.y"), func(o *v1alpha1.WebhookEndpoint) { o.Status.Test.Requested = "custom.y" }}, wantRequested: "custom.y"},
		"nor when the value is longer": {change: []func(*v1alpha1.WebhookEndpoint){onRequest, requesting(strings.Repeat("x", 300)), func(o *v1alpha1.WebhookEndpoint) { o.Status.Test.Requested = strings.Repeat("x", 256) }}, wantRequested: strings.Repeat("x", 256)},
	} {
		t.Run(name, func(t *testing.T) {
			w := testWork(tc.before, func(o *v1alpha1.WebhookEndpoint) {
				for _, f := range tc.change {
					f(o)
				}
			})
			got := nextTest(w)
			if (got != nil) != (tc.want != "") || got != nil && got.Key != tc.want {
				t.Fatalf("due is %+v, want %q", got, tc.want)
			}
			if m := readTestMark(w.obj.Status.Test.Hash); w.obj.Status.Test.Hash != "" && m != tc.wantMark || w.obj.Status.Test.Requested != tc.wantRequested {
				t.Errorf("status is %+v", w.obj.Status.Test)
			}
			if got == nil {
				return
			}
			if tc.wantType == "" {
				tc.wantType = "booking.created"
			}
			byPerson := strings.HasPrefix(got.Key, "requested:")
			if string(got.Type) != tc.wantType || got.Place != w.place || (got.MaxRetries == 0) != byPerson || (got.Requested != "") != byPerson {
				t.Errorf("order is %+v", got)
			}
			if again := nextTest(w); again == nil || again.EventID != got.EventID {
				t.Errorf("the same order has another id: %+v", again)
			}
		})
	}
}

func TestATestsIDChangesWithItsResult(t *testing.T) {
	w := testWork(metav1.Condition{}, nil)
	first := nextTest(w).EventID
	report := TestReport{Order: TestOrder{Place: "there", Type: "call.completed"}, Delivery: delivery.Delivery{State: delivery.Failed, Completed: time.Unix(1000, 0),
		Attempts: []delivery.Attempt{{Outcome: delivery.OutcomeRejected, StatusCode: 500}}}}
	absorb(w.obj.Status.Test, report)
	if second := nextTest(w).EventID; second == first {
		t.Error("after a result the next test has the same id")
	}
}

func TestAbsorb(t *testing.T) {
	at := metav1.Unix(1000, 0)
	delivered := TestReport{
		Order: TestOrder{Type: "call.completed", Place: "here", EventID: "evt_1"},
		Delivery: delivery.Delivery{State: delivery.Delivered, Completed: at.Add(999 * time.Millisecond),
			Attempts: []delivery.Attempt{{Outcome: delivery.OutcomeUnreachable}, {Outcome: delivery.OutcomeDelivered, StatusCode: 204, Duration: 84900 * time.Microsecond}}},
	}
	failed := delivered
	failed.Order.Requested, failed.Delivery.State = "call.completed/1", delivery.Failed
	failed.Delivery.Attempts = []delivery.Attempt{{Outcome: delivery.OutcomeTimedOut, Message: strings.Repeat("é", 600)}}
	requested := delivered
	requested.Order.Requested = "call.completed/1"
	there := testMark{place: "there", salt: "salt", since: 900, delivered: true}.text()
	for name, tc := range map[string]struct {
		before v1alpha1.TestStatus
		report TestReport
		want   v1alpha1.TestStatus
	}{
		"by a change": {v1alpha1.TestStatus{Requested: "x", Hash: there, Message: "before"}, delivered,
			v1alpha1.TestStatus{Requested: "x", Time: &at, Event: "call.completed", Outcome: "Delivered", StatusCode: 204, DurationMilliseconds: 84,
				Hash: testMark{place: "here", salt: "salt", since: 1000, delivered: true}.text()}},
		"by request": {v1alpha1.TestStatus{Hash: there}, requested,
			v1alpha1.TestStatus{Requested: "call.completed/1", Time: &at, Event: "call.completed", Outcome: "Delivered", StatusCode: 204, DurationMilliseconds: 84,
				Hash: testMark{place: "here", salt: shortHash("salt", "evt_1"), since: 1000, delivered: true}.text()}},
		"by request, failed": {v1alpha1.TestStatus{Hash: there, StatusCode: 500}, failed,
			v1alpha1.TestStatus{Requested: "call.completed/1", Time: &at, Event: "call.completed", Outcome: "TimedOut", Message: strings.Repeat("é", 512), Hash: testMark{place: "here", salt: "salt", since: 1000}.text()}},
	} {
		t.Run(name, func(t *testing.T) {
			got := tc.before
			for range 2 {
				absorb(&got, tc.report)
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
		})
	}
}

func TestATestThatIsDueAgainStaysDueUntilItIsSent(t *testing.T) {
	// Failed once, at generation 1; the new spec may be the cure, but cannot be tested yet.
	w := testWork(conditions.False(v1alpha1.ConditionTestDelivered, "Gone", ""), nil)
	r := &WebhookEndpointReconciler{Options: Options{Prober: NewProber(nil, nil)}}
	r.Prober.Test(w.endpoint, TestOrder{Key: "change:here", Place: "here", Type: "call.completed"})
	run := r.Prober.probes[w.ref].test
	run.delivery.State, run.delivery.Completed = delivery.Failed, time.Unix(1000, 0)
	run.delivery.Attempts = []delivery.Attempt{{Outcome: delivery.OutcomeGone, StatusCode: 410}}
	absorb(w.obj.Status.Test, run.report())
	w.Patcher = reconcile.NewPatcher(nil, w.obj)
	for n := range 3 {
		if err := r.test(t.Context(), w); err != nil {
			t.Fatal(err)
		}
		if c := conditionOf(w.obj, v1alpha1.ConditionTestDelivered); c.Reason != v1alpha1.ReasonPending {
			t.Fatalf("look %d: %s, %+v", n+1, c.Reason, w.obj.Status.Test)
		}
		w.Patcher = reconcile.NewPatcher(nil, w.obj)
	}
	conditions.Set(&w.obj.Status.Conditions, 2, conditions.True(v1alpha1.ConditionAccepted, "Accepted", ""))
	if err := r.test(t.Context(), w); err != nil || r.Prober.probes[w.ref].test == run {
		t.Errorf("not sent when it could be: %v", err)
	}
}

func TestWhyATestWaits(t *testing.T) {
	yes := conditions.True(v1alpha1.ConditionAccepted, "Accepted", "")
	for name, tc := range map[string]struct {
		change    func(*work)
		requested string
		want      string
	}{
		"it does not":               {func(*work) {}, "", ""},
		"something is missing":      {func(w *work) { w.resolved = false }, "x", "see Accepted"},
		"it is being looked at":     {func(w *work) { w.obj.Status.Conditions[0].Status = metav1.ConditionUnknown }, "x", "see Accepted"},
		"there is no key":           {func(w *work) { w.endpoint.SigningKeys = nil }, "x", "see SigningKeyReady"},
		"suspended":                 {func(w *work) { w.obj.Spec.Suspend = true }, "", "suspended"},
		"suspended, but a person's": {func(w *work) { w.obj.Spec.Suspend = true }, "x", ""},
	} {
		t.Run(name, func(t *testing.T) {
			w := testWork(yes, nil)
			tc.change(w)
			if got := untestable(w, TestOrder{Requested: tc.requested}); (got == "") != (tc.want == "") || !strings.Contains(got, tc.want) {
				t.Errorf("got %q", got)
			}
		})
	}
}

func TestTheTestCondition(t *testing.T) {
	for name, tc := range map[string]struct {
		test      v1alpha1.TestStatus
		requested string
		want      string
	}{
		"never":     {want: "Unknown/NotRequested: no test event was sent: spec.test.when is OnRequest, and the annotation webhooks.gary.club/requested-test asks for one"},
		"delivered": {test: v1alpha1.TestStatus{Outcome: "Delivered", Event: "call.completed", StatusCode: 200, DurationMilliseconds: 84}, want: "True/Delivered: a test event of type call.completed was answered 200 in 84 ms"},
		"failed":    {test: v1alpha1.TestStatus{Outcome: "Rejected", Event: "custom.x", Message: "answered 404"}, want: "False/Rejected: a test event of type custom.x failed: answered 404"},
		"no words":  {test: v1alpha1.TestStatus{Outcome: "TimedOut", Event: "custom.x"}, want: "False/TimedOut: a test event of type custom.x failed: TimedOut"},
		"unknown": {test: v1alpha1.TestStatus{Outcome: "Delivered"}, requested: "call.complete", want: "False/UnknownEvent: the annotation webhooks.gary.club/requested-test asks for " +
			"an unknown event type: use call.completed, booking.created, contact.created or custom.<name>, and after a slash a token of at most 64 characters"},
	} {
		t.Run(name, func(t *testing.T) {
			o := &v1alpha1.WebhookEndpoint{Status: v1alpha1.WebhookEndpointStatus{Test: &tc.test}}
			if tc.requested != "" {
				requesting(tc.requested)(o)
			}
			c := testCondition(o)
			if got := string(c.Status) + "/" + c.Reason + ": " + c.Message; got != tc.want {
				t.Errorf("got  %s\nwant %s", got, tc.want)
			}
		})
	}
}

func TestRequestedType(t *testing.T) {
	token := strings.Repeat("x", 64)
	for requested, want := range map[string]string{
		"call.completed": "call.completed", "call.completed/": "call.completed", "booking.created/" + token: "booking.created", "call.completed/" + strings.Repeat("é", 64): "call.completed",
		"contact.created/2026-02-15T14:32:00Z": "contact.created", "custom.x/a/b": "custom.x",
		"call.completed/" + token + "x": "", "call.completed\t": "", "custom.": "", "CALL.COMPLETED": "", "/x": "",
	} {
		kind, ok := requestedType(requested)
		if ok != (want != "") || ok && string(kind) != want {
			t.Errorf("%q: %q, %t", requested, kind, ok)
		}
	}
}

func TestTruncated(t *testing.T) {
	for _, tc := range []struct {
		text  string
		limit int
		want  string
	}{
		{"", 3, ""}, {"abc", 3, "abc"}, {"abcd", 3, "abc"}, {"aéé", 3, "aéé"}, {"aéé", 2, "aé"}, {"€", 0, ""}, {"a\ufffdb", 2, "a\ufffd"}, {"𝄞𝄞", 1, "𝄞"},
	} {
		if got := truncated(tc.text, tc.limit); got != tc.want || !utf8.ValidString(got) {
			t.Errorf("%q to %d: %q, want %q", tc.text, tc.limit, got, tc.want)
		}
	}
}
