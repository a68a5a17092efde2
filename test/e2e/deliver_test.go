// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"bytes"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/garyclub/webhook-operator/api/v1alpha1"
	"github.com/garyclub/webhook-operator/internal/fixture/receiver"
)

func TestBodyIsPassedOnByteForByteAndSigned(t *testing.T) {
	t.Parallel()
	n := newTenant(t, "bytes")
	r := receive(t, receiver.Options{PerEvent: true, Test: &receiver.Step{}, Script: []receiver.Step{{Status: 500}, {Status: 500}, {}}})
	n.endpoint("a", r, func(s *v1alpha1.WebhookEndpointSpec) { s.Retry = retry(1) })
	n.start()
	n.ready("a")
	body := call("call.completed", "call_bytes")
	accepted := n.accept(body)
	if accepted.Deliveries == nil || *accepted.Deliveries != 1 {
		t.Errorf("answer %s, want one delivery", accepted.text)
	}
	verifier := n.verifier("a")
	for i, q := range n.arrived(r, 3, soon) {
		if q.Method != http.MethodPost || q.Path != "/"+markPath || q.Query != "token="+markQuery {
			t.Errorf("request %d: %s %s?%s", i, q.Method, q.Path, q.Query)
		}
		if !bytes.Equal(q.Body, body) {
			t.Errorf("request %d: the body is %q", i, q.Body)
		}
		if got := q.Header.Get("X-Receiver-Credential"); got != markHeader {
			t.Errorf("request %d: the endpoint's header is %q", i, got)
		}
		if q.Header.Get("Webhook-Id") != accepted.ID || q.Header.Get("Content-Type") != "application/json" {
			t.Errorf("request %d: id %q, content type %q", i, q.Header.Get("Webhook-Id"), q.Header.Get("Content-Type"))
		}
		if err := verifier.Verify(q.Body, q.Header); err != nil {
			t.Errorf("request %d: %v", i, err)
		}
		forged := bytes.Replace(q.Body, []byte("88.0"), []byte("98.0"), 1)
		if verifier.Verify(forged, q.Header) == nil {
			t.Errorf("request %d: another body has the signature too", i)
		}
		late := q.Header.Clone()
		at, err := strconv.ParseInt(late.Get("Webhook-Timestamp"), 10, 64)
		if err != nil {
			t.Errorf("request %d: timestamp: %v", i, err)
		}
		late.Set("Webhook-Timestamp", strconv.FormatInt(at+1, 10))
		if verifier.Verify(q.Body, late) == nil {
			t.Errorf("request %d: another timestamp has the signature too", i)
		}
	}
	n.counted("a", 1, 0)
}

func TestRotationSignsWithBothKeys(t *testing.T) {
	t.Parallel()
	n := newTenant(t, "rotation")
	old, next := "whsec_b2xkLWtleS1vbGQta2V5LW9sZC1rZXktb2xk", "whsec_bmV3LWtleS1uZXcta2V5LW5ldy1rZXktbmV3"
	n.secret("keys", map[string]string{v1alpha1.KeySigningKey: next, v1alpha1.KeyPreviousSigningKey: old})
	r := receive(t, receiver.Options{})
	n.endpoint("a", r, func(s *v1alpha1.WebhookEndpointSpec) { s.Signing.SecretRef = &v1alpha1.SecretReference{Name: "keys"} })
	n.start()
	n.ready("a")
	n.accept(call("call.completed", "call_rotation"))
	q := n.arrived(r, 1, soon)[0]
	for name, key := range map[string]string{"old": old, "new": next} {
		if err := verifierWith(t, key).Verify(q.Body, q.Header); err != nil {
			t.Errorf("the %s key: %v", name, err)
		}
	}
	if got := len(strings.Fields(q.Header.Get("Webhook-Signature"))); got != 2 {
		t.Errorf("%d signatures, want 2", got)
	}
}

// The default schedule, in real time.
func TestRetriesByTheDefaultSchedule(t *testing.T) {
	t.Parallel()
	n := newTenant(t, "schedule")
	unavailable := receiver.Step{Status: http.StatusServiceUnavailable}
	mends := receive(t, receiver.Options{PerEvent: true, Test: &receiver.Step{}, Script: []receiver.Step{unavailable, unavailable, {}}})
	broken := receive(t, receiver.Options{Script: []receiver.Step{{Status: 500}}})
	n.endpoint("mends", mends)
	n.endpoint("broken", broken, onRequest)
	n.start()
	n.ready("mends")
	n.ready("broken")
	n.accept(call("call.completed", "call_schedule"))

	delivered := n.finished("mends", v1alpha1.DeliveryDelivered, 1, time.Minute)[0]
	wantWaits(t, delivered, 5*time.Second, 10*time.Second)
	failed := n.finished("broken", v1alpha1.DeliveryFailed, 1, time.Minute)[0]
	wantWaits(t, failed, 5*time.Second, 10*time.Second, 20*time.Second)
	if failed.Status.Reason != "Rejected" || failed.Status.LastStatusCode != 500 || failed.Status.RedeliverableUntilTime == nil {
		t.Errorf("status %+v", failed.Status)
	}
	if got := len(eventRequests(broken)); got != 4 {
		t.Errorf("the receiver that always fails got %d requests, want 4", got)
	}
	table, err := sys.Kubectl(t.Context(), "-n", n.namespace, "get", "dlva", "--field-selector", "status.outcome=Failed")
	if err != nil || !strings.Contains(table, failed.Name) || strings.Contains(table, delivered.Name) ||
		!strings.Contains(table, "Rejected") || !strings.Contains(table, "500") {
		t.Errorf("kubectl get deliveryattempts, error %v:\n%s", err, table)
	}
	n.counted("mends", 1, 0)
	n.counted("broken", 0, 1)
}

// wantWaits compares the starts of the attempts with the schedule and its jitter of a fifth. What comes on top is the
// attempt before, which the wait begins after, and the machine.
func wantWaits(t *testing.T, a v1alpha1.DeliveryAttempt, waits ...time.Duration) {
	t.Helper()
	const slack = 500 * time.Millisecond
	attempts := a.Status.Attempts
	if len(attempts) != len(waits)+1 {
		t.Fatalf("%s: %d attempts, want %d", a.Name, len(attempts), len(waits)+1)
	}
	for i, want := range waits {
		ended := attempts[i].StartTime.Add(time.Duration(attempts[i].DurationMilliseconds) * time.Millisecond)
		got := attempts[i+1].StartTime.Sub(ended)
		if got < want*8/10-slack || got > want*12/10+slack {
			t.Errorf("%s: attempt %d came %s after the one before, want %s ± 20 %%", a.Name, i+2, got, want)
		}
	}
}

func TestWhatCountsAsSuccess(t *testing.T) {
	t.Parallel()
	n := newTenant(t, "success")
	once := func(s *v1alpha1.WebhookEndpointSpec) {
		onRequest(s)
		s.Retry = v1alpha1.RetrySpec{MaxRetries: 0, InitialBackoffSeconds: 1, MaxBackoffSeconds: 300, DeadlineSeconds: 86400}
	}
	any2xx := func(s *v1alpha1.WebhookEndpointSpec) { s.SuccessCodes = []v1alpha1.SuccessCode{"2xx"} }
	elsewhere := receive(t, receiver.Options{})
	for name, tc := range map[string]struct {
		step    receiver.Step
		changes []func(*v1alpha1.WebhookEndpointSpec)
		want    v1alpha1.DeliveryOutcome
		reason  string
	}{
		"plain-204":  {step: receiver.Step{Status: 204}, want: v1alpha1.DeliveryFailed, reason: "Rejected"},
		"any-204":    {step: receiver.Step{Status: 204}, changes: []func(*v1alpha1.WebhookEndpointSpec){any2xx}, want: v1alpha1.DeliveryDelivered},
		"redirects":  {step: receiver.Step{Status: 302, Header: http.Header{"Location": {elsewhere.URL("/")}}}, want: v1alpha1.DeliveryFailed, reason: "Rejected"},
		"permanent":  {step: receiver.Step{Status: 308, Header: http.Header{"Location": {elsewhere.URL("/")}}}, want: v1alpha1.DeliveryFailed, reason: "Rejected"},
		"throttles":  {step: receiver.Step{Status: 429}, want: v1alpha1.DeliveryFailed, reason: "Throttled"},
		"plain-200":  {step: receiver.Step{Body: strings.Repeat("thank you ", 100_000)}, want: v1alpha1.DeliveryDelivered},
		"not-found":  {step: receiver.Step{Status: 404}, want: v1alpha1.DeliveryFailed, reason: "Rejected"},
		"gone-at-it": {step: receiver.Step{Status: 410}, want: v1alpha1.DeliveryFailed, reason: "Gone"},
	} {
		r := receive(t, receiver.Options{Script: []receiver.Step{tc.step}})
		n.endpoint(name, r, append([]func(*v1alpha1.WebhookEndpointSpec){once}, tc.changes...)...)
		defer func() {
			a := n.finished(name, tc.want, 1, soon)[0]
			if a.Status.Reason != tc.reason || len(eventRequests(r)) != 1 {
				t.Errorf("%s: reason %q after %d requests, want %q after one", name, a.Status.Reason, len(eventRequests(r)), tc.reason)
			}
			if n := elsewhere.Count(); n != 0 {
				t.Errorf("%s: the redirect's target got %d requests", name, n)
			}
		}()
	}
	n.start()
	n.upToDate("plain-204", "any-204", "redirects", "permanent", "throttles", "plain-200", "not-found", "gone-at-it")
	if a := n.accept(call("call.completed", "call_success")); *a.Deliveries != 8 {
		t.Errorf("answer %s, want 8 deliveries", a.text)
	}
}

func TestGoneIsNotRetriedAndHoldsUntilAGoodTest(t *testing.T) {
	t.Parallel()
	n := newTenant(t, "gone")
	r := receive(t, receiver.Options{Test: &receiver.Step{}, Script: []receiver.Step{{Status: 410}, {}}})
	n.endpoint("a", r, func(s *v1alpha1.WebhookEndpointSpec) { s.Retry = retry(1) })
	n.start()
	n.ready("a")
	n.accept(call("call.completed", "call_gone_1"))
	a := n.finished("a", v1alpha1.DeliveryFailed, 1, soon)[0]
	if a.Status.Reason != "Gone" || a.Status.AttemptCount != 1 {
		t.Errorf("%s after %d attempts, want Gone after one", a.Status.Reason, a.Status.AttemptCount)
	}
	n.condition("a", v1alpha1.ConditionReady, "False", v1alpha1.ReasonGone)
	n.accept(call("call.completed", "call_gone_2"))
	n.change("a", func(p *v1alpha1.WebhookEndpoint) {
		p.Annotations = map[string]string{v1alpha1.AnnotationRequestedTest: "call.completed/mended"}
	})
	n.finished("a", v1alpha1.DeliveryDelivered, 1, soon)
	n.ready("a")
}

func TestReceiversThatHangAreCutOff(t *testing.T) {
	t.Parallel()
	n := newTenant(t, "hang")
	once := func(s *v1alpha1.WebhookEndpointSpec) {
		onRequest(s)
		s.Retry = v1alpha1.RetrySpec{MaxRetries: 0, InitialBackoffSeconds: 1, MaxBackoffSeconds: 300, DeadlineSeconds: 86400}
	}
	hangs := receive(t, receiver.Options{Script: []receiver.Step{{Hang: true}}})
	trickles := receive(t, receiver.Options{Script: []receiver.Step{{Trickle: true}}})
	healthy := receive(t, receiver.Options{})
	n.endpoint("hangs", hangs, once)
	n.endpoint("trickles", trickles, once)
	n.endpoint("healthy", healthy)
	n.start()
	n.upToDate("hangs", "trickles")
	n.ready("healthy")
	n.accept(call("call.completed", "call_hang"))
	if took := time.Since(n.arrived(healthy, 1, soon)[0].Time); took > 10*time.Second {
		t.Errorf("the healthy receiver got its event %s ago only after the others' timeout", took)
	}
	for _, name := range []string{"hangs", "trickles"} {
		a := n.finished(name, v1alpha1.DeliveryFailed, 1, soon)[0]
		took := time.Duration(a.Status.Attempts[0].DurationMilliseconds) * time.Millisecond
		if a.Status.Reason != "TimedOut" || took < 10*time.Second || took > 11*time.Second {
			t.Errorf("%s: %s after %s, want TimedOut after 10 s", name, a.Status.Reason, took)
		}
	}
}

func TestSuspendedEndpointsKeepWhatIsForThem(t *testing.T) {
	t.Parallel()
	n := newTenant(t, "suspend")
	r := receive(t, receiver.Options{})
	n.endpoint("a", r, func(s *v1alpha1.WebhookEndpointSpec) { s.Suspend = true })
	n.start()
	n.upToDate("a")
	n.condition("a", v1alpha1.ConditionReady, "True", v1alpha1.ReasonSuspended)
	if a := n.accept(call("call.completed", "call_held")); *a.Deliveries != 1 {
		t.Errorf("answer %s, want one delivery, which waits", a.text)
	}
	n.eventually(soon, func() error {
		if c := n.get("a").Status.Deliveries; c == nil || c.Pending != 1 {
			return fmt.Errorf("counters %+v, want one pending", c)
		}
		return nil
	})
	if r.Count() != 0 {
		t.Errorf("the suspended endpoint's receiver got %d requests", r.Count())
	}
	n.change("a", func(p *v1alpha1.WebhookEndpoint) { p.Spec.Suspend = false })
	n.arrived(r, 1, soon)
	n.ready("a")
}

func TestOnlyMatchingEndpointsGetAnEvent(t *testing.T) {
	t.Parallel()
	n := newTenant(t, "match")
	calls, ours, others := receive(t, receiver.Options{}), receive(t, receiver.Options{}), receive(t, receiver.Options{})
	n.endpoint("calls", calls, onRequest, func(s *v1alpha1.WebhookEndpointSpec) { s.Events = s.Events[:1] })
	n.endpoint("ours", ours, onRequest, func(s *v1alpha1.WebhookEndpointSpec) { s.Agents = []string{"agent_xyz"} })
	n.endpoint("others", others, onRequest, func(s *v1alpha1.WebhookEndpointSpec) { s.Agents = []string{"agent_other"} })
	n.start()
	n.upToDate("calls", "ours", "others")
	for event, want := range map[string]int{"call.completed": 2, "booking.created": 1, "custom.survey": 0} {
		if a := n.accept(call(event, "call_match")); *a.Deliveries != want {
			t.Errorf("%s: answer %s, want %d deliveries", event, a.text, want)
		}
	}
	n.arrived(calls, 1, soon)
	n.arrived(ours, 2, soon)
	n.counted("ours", 2, 0)
	if calls.Count() != 1 || ours.Count() != 2 || others.Count() != 0 {
		t.Errorf("the receivers got %d, %d and %d requests, want 1, 2 and 0", calls.Count(), ours.Count(), others.Count())
	}
	metrics, err := get(t.Context(), n.MetricsURL())
	if want := `webhook_dispatcher_ingest_unmatched_total{type="custom"} 1`; err != nil || !strings.Contains(metrics, want) {
		t.Errorf("the metrics lack %s, error %v", want, err)
	}
}

func TestManyEventsToManyEndpoints(t *testing.T) {
	t.Parallel()
	n := newTenant(t, "many")
	const endpoints, events = 10, 200
	receivers := make([]*receiver.Receiver, endpoints)
	for i := range endpoints {
		receivers[i] = receive(t, receiver.Options{})
		n.endpoint(fmt.Sprintf("e%d", i), receivers[i], onRequest)
	}
	n.start()
	for i := range endpoints {
		n.upToDate(fmt.Sprintf("e%d", i))
	}
	var batch bytes.Buffer
	for i := range events {
		batch.Write(bytes.ReplaceAll(call("call.completed", fmt.Sprintf("call_many_%d", i)), []byte("\n"), []byte(" ")))
		batch.WriteByte('\n')
	}
	a, err := post(t.Context(), n.EventsURL(), "application/x-ndjson", batch.Bytes())
	if err != nil || a.code != http.StatusAccepted {
		t.Fatalf("answer %d %s, error %v", a.code, a.text, err)
	}
	for i, r := range receivers {
		seen := map[string]bool{}
		for _, q := range n.arrived(r, events, soon) {
			seen[q.Header.Get("Webhook-Id")] = true
		}
		if len(seen) != events {
			t.Errorf("receiver %d got %d events, want %d", i, len(seen), events)
		}
		if opened := r.Connections(); opened > 2*16+2 {
			t.Errorf("receiver %d was connected to %d times for %d requests", i, opened, events)
		}
		n.counted(fmt.Sprintf("e%d", i), events, 0)
	}
}
