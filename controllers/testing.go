// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/garyclub/webhook-operator/api/v1alpha1"
	"github.com/garyclub/webhook-operator/internal/conditions"
	"github.com/garyclub/webhook-operator/internal/delivery"
	"github.com/garyclub/webhook-operator/internal/event"
)

// In characters, as the API's bounds are.
const (
	maxRequested   = 256
	maxToken       = v1alpha1.MaxRequestedTestToken
	maxTestMessage = 512
)

// test owns TestDelivered and status.test: it orders the test event that is due and writes down what became of it.
func (r *WebhookEndpointReconciler) test(_ context.Context, w *work) error {
	if w.obj.Status.Test == nil {
		w.obj.Status.Test = &v1alpha1.TestStatus{}
	}
	if report, ok := r.Prober.Report(w.ref, w.endpoint.UID); ok && !shows(w.obj.Status.Test, report) {
		// Before the decision what is due: the status may come from a cache that does not know of it yet. What the status
		// shows already is left alone, since it may have been marked as due again.
		absorb(w.obj.Status.Test, report)
	}
	order := nextTest(w)
	if order == nil {
		w.set(testCondition(w.obj))
		return nil
	}
	if why := untestable(w, *order); why != "" {
		w.set(pendingTest(*order, "the test event waits: "+why))
		return nil
	}
	subject := *w.endpoint
	report := r.Prober.Test(&subject, *order)
	if !report.Delivery.State.Done() {
		w.set(pendingTest(*order, progress(report)))
		return nil
	}
	absorb(w.obj.Status.Test, report)
	w.set(testCondition(w.obj))
	return nil
}

func pendingTest(order TestOrder, message string) metav1.Condition {
	reason := v1alpha1.ReasonPending
	if order.Requested != "" {
		reason = v1alpha1.ReasonRequested
	}
	return conditions.Unknown(v1alpha1.ConditionTestDelivered, reason, message)
}

func progress(report TestReport) string {
	d := report.Delivery
	if d.AttemptCount == 0 {
		return "a test event of type " + string(report.Order.Type) + " is on its way"
	}
	return fmt.Sprintf("attempt %d of %d with a test event failed: %s; it is tried again",
		d.AttemptCount, d.MaxAttempts, attemptText(report.Last()))
}

func attemptText(a delivery.Attempt) string {
	if a.Message == "" {
		return string(a.Outcome)
	}
	return string(a.Outcome) + ", " + a.Message
}

// shows says whether the status has what a finished test came to.
func shows(t *v1alpha1.TestStatus, report TestReport) bool {
	at := completed(report)
	return t.Time.Equal(&at) && t.Event == string(report.Order.Type) && t.Outcome == v1alpha1.AttemptOutcome(report.Last().Outcome)
}

// completed is a finished test's time as the API keeps it.
func completed(report TestReport) metav1.Time {
	return metav1.NewTime(report.Delivery.Completed.UTC().Truncate(time.Second))
}

// absorb writes a finished test down. Doing it twice changes nothing.
func absorb(t *v1alpha1.TestStatus, report TestReport) {
	last, order, at := report.Last(), report.Order, completed(report)
	delivered := report.Delivery.State == delivery.Delivered
	mark := readTestMark(t.Hash).tested(order.Place, delivered, at.Time)
	t.Time, t.Event = &at, string(order.Type)
	t.Outcome, t.StatusCode = v1alpha1.AttemptOutcome(last.Outcome), int32(last.StatusCode)
	t.DurationMilliseconds, t.Message = last.Duration.Milliseconds(), truncated(last.Message, maxTestMessage)
	if order.Requested != "" {
		t.Requested = order.Requested
		if delivered {
			mark.salt = shortHash("salt", order.EventID)
		}
	}
	t.Hash = mark.text()
}

// nextTest is the pure decision which test event is due; nil when none is. A person's request comes first. It notes a
// request that cannot be fulfilled as handled.
func nextTest(w *work) *TestOrder {
	t := w.obj.Status.Test
	requested := truncated(w.obj.Annotations[v1alpha1.AnnotationRequestedTest], maxRequested)
	if requested != "" && requested != t.Requested {
		if kind, ok := requestedType(requested); ok {
			return &TestOrder{Key: "requested:" + requested, EventID: testID(w, requested), Type: kind, Place: w.place, Requested: requested}
		}
		t.Requested = requested
	}
	if w.obj.Spec.Test.When == v1alpha1.TestOnRequest {
		return nil
	}
	mark := readTestMark(t.Hash)
	if mark.place == w.place && mayBeCured(w) {
		mark.due = true // until it was sent, through restarts too
		t.Hash = mark.text()
	}
	key := "change:" + w.place
	if mark.place == w.place {
		if !mark.due {
			return nil
		}
		key += ":" + strconv.FormatInt(w.obj.Generation, 10)
	}
	return &TestOrder{Key: key, EventID: testID(w, ""), Type: event.Type(w.obj.Spec.TestEvent()), Place: w.place, MaxRetries: testRetries}
}

// mayBeCured says whether the spec is another one since the latest test failed.
func mayBeCured(w *work) bool {
	outcome := w.obj.Status.Test.Outcome
	failed := outcome != "" && outcome != v1alpha1.AttemptOutcome(delivery.OutcomeDelivered)
	before := conditions.Get(w.Base.Status.Conditions, v1alpha1.ConditionTestDelivered)
	return failed && before.Status == metav1.ConditionFalse && before.ObservedGeneration < w.obj.Generation
}

// testID is the same for the same order until its result is written, and another one ever after.
func testID(w *work, requested string) string {
	t := w.obj.Status.Test
	var last string
	if t.Time != nil {
		last = t.Time.UTC().Format(time.RFC3339)
	}
	return event.IDFromKey(w.obj.Namespace, shortHash("test", w.endpoint.UID, w.place, t.Hash, last, requested,
		strconv.FormatInt(w.obj.Generation, 10)))
}

// requestedType reads TYPE or TYPE/TOKEN.
func requestedType(requested string) (event.Type, bool) {
	kind, token, _ := strings.Cut(requested, "/")
	t := event.Type(kind)
	return t, t.Known() && utf8.RuneCountInString(token) <= maxToken
}

// untestable says why a test cannot be sent yet; empty when it can. A person may test what is suspended.
func untestable(w *work, order TestOrder) string {
	switch {
	case !w.resolved || w.condition(v1alpha1.ConditionAccepted).Status != metav1.ConditionTrue:
		return "the endpoint is not accepted yet, see Accepted"
	case len(w.endpoint.SigningKeys) == 0:
		return "there is no signing key, see SigningKeyReady"
	case w.obj.Spec.Suspend && order.Requested == "":
		return "the endpoint is suspended"
	}
	return ""
}

// testCondition says what the latest test came to, when none is due.
func testCondition(obj *v1alpha1.WebhookEndpoint) metav1.Condition {
	const kind = v1alpha1.ConditionTestDelivered
	t := obj.Status.Test
	requested := truncated(obj.Annotations[v1alpha1.AnnotationRequestedTest], maxRequested)
	if _, ok := requestedType(requested); requested != "" && !ok {
		return conditions.False(kind, v1alpha1.ReasonUnknownEvent, fmt.Sprintf(
			"the annotation %s asks for an unknown event type: use %s, %s, %s or custom.<name>, and after a slash a token of at most %d characters",
			v1alpha1.AnnotationRequestedTest, event.CallCompleted, event.BookingCreated, event.ContactCreated, maxToken))
	}
	switch {
	case t.Outcome == "":
		return conditions.Unknown(kind, v1alpha1.ReasonNotRequested,
			"no test event was sent: spec.test.when is OnRequest, and the annotation "+v1alpha1.AnnotationRequestedTest+" asks for one")
	case t.Outcome == v1alpha1.AttemptOutcome(delivery.OutcomeDelivered):
		return conditions.True(kind, v1alpha1.ReasonDelivered,
			fmt.Sprintf("a test event of type %s was answered %d in %d ms", t.Event, t.StatusCode, t.DurationMilliseconds))
	}
	message := fmt.Sprintf("a test event of type %s failed: %s", t.Event, t.Outcome)
	if t.Message != "" {
		message = fmt.Sprintf("a test event of type %s failed: %s", t.Event, t.Message)
	}
	return conditions.False(kind, string(t.Outcome), message)
}

// truncated bounds a text in characters.
func truncated(text string, limit int) string {
	n := 0
	for at := range text {
		if n == limit {
			return text[:at]
		}
		n++
	}
	return text
}
