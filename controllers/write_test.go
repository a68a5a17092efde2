// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/time/rate"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/garyclub/webhook-operator/api/v1alpha1"
	"github.com/garyclub/webhook-operator/internal/conditions"
	"github.com/garyclub/webhook-operator/internal/endpoint"
)

func TestCountNeverGoesBackwards(t *testing.T) {
	at := func(seconds int64) *metav1.Time { t := metav1.Unix(seconds, 0); return &t }
	d := v1alpha1.DeliveriesStatus{}
	for _, tc := range []struct {
		name   string
		totals Totals
		want   v1alpha1.DeliveriesStatus
	}{
		{"nothing yet", Totals{}, v1alpha1.DeliveriesStatus{}},
		{"the first figures", Totals{Succeeded: 5, Failed: 4, Pending: 3, Lost: 2, Unrecorded: 1, LastSuccess: time.Unix(100, 999), LastFailure: time.Unix(90, 0)},
			v1alpha1.DeliveriesStatus{Succeeded: 5, Failed: 4, Pending: 3, Lost: 2, Unrecorded: 1, LastSuccessTime: at(100), LastFailureTime: at(90)}},
		{"a ledger of before", Totals{Succeeded: 2, Failed: 2, Pending: 1, LastSuccess: time.Unix(50, 0)},
			v1alpha1.DeliveriesStatus{Succeeded: 5, Failed: 4, Pending: 1, Lost: 2, Unrecorded: 1, LastSuccessTime: at(100), LastFailureTime: at(90)}},
		{"it has caught up", Totals{Succeeded: 6, Failed: 4, Pending: -1, Lost: 2, Unrecorded: 1, LastSuccess: time.Unix(101, 0), LastFailure: time.Unix(-1, 0)},
			v1alpha1.DeliveriesStatus{Succeeded: 6, Failed: 4, Lost: 2, Unrecorded: 1, LastSuccessTime: at(101), LastFailureTime: at(90)}},
	} {
		count(&d, tc.totals)
		if diff := cmp.Diff(tc.want, d); diff != "" {
			t.Errorf("%s: -want +got\n%s", tc.name, diff)
		}
	}
}

func TestDelivering(t *testing.T) {
	early, late := metav1.Unix(1, 0), metav1.Unix(2, 0)
	for name, tc := range map[string]struct {
		hold  endpoint.Hold
		alone bool
		d     v1alpha1.DeliveriesStatus
		want  string
	}{
		"nobody to deliver":  {alone: true, d: v1alpha1.DeliveriesStatus{LastSuccessTime: &late}, want: "Unknown/NoDispatcher"},
		"held, nobody there": {hold: endpoint.HoldSuspended, alone: true, want: "False/Suspended"},
		"nothing yet":        {want: "Unknown/NoDeliveriesYet"},
		"a success":          {d: v1alpha1.DeliveriesStatus{LastSuccessTime: &early}, want: "True/Delivering"},
		"a failure":          {d: v1alpha1.DeliveriesStatus{LastFailureTime: &early}, want: "False/Failing"},
		"a failure later":    {d: v1alpha1.DeliveriesStatus{LastSuccessTime: &early, LastFailureTime: &late}, want: "False/Failing"},
		"a success later":    {d: v1alpha1.DeliveriesStatus{LastSuccessTime: &late, LastFailureTime: &early}, want: "True/Delivering"},
		"both at once":       {d: v1alpha1.DeliveriesStatus{LastSuccessTime: &late, LastFailureTime: &late}, want: "True/Delivering"},
		"suspended":          {hold: endpoint.HoldSuspended, d: v1alpha1.DeliveriesStatus{LastSuccessTime: &late}, want: "False/Suspended"},
		"gone":               {hold: endpoint.HoldGone, want: "False/Gone"},
		"unresolved":         {hold: endpoint.HoldUnresolved, want: "False/Held"},
		"an address refused": {hold: endpoint.HoldAddressRefused, want: "False/Held"},
		"no key":             {hold: endpoint.HoldSigningKeyMissing, want: "False/Held"},
	} {
		t.Run(name, func(t *testing.T) {
			c := delivering(tc.hold, tc.alone, &tc.d)
			if got := string(c.Status) + "/" + c.Reason; got != tc.want || c.Message == "" {
				t.Errorf("got %s %q", got, c.Message)
			}
		})
	}
}

func TestAloneIsNewsAfterAMinute(t *testing.T) {
	n, start := &note{}, time.Unix(1000, 0)
	for i, step := range []struct {
		connected int32
		known     bool
		after     time.Duration
		wantAlone bool
		wantLeft  time.Duration
	}{
		{0, false, 0, false, aloneTime},
		{0, false, aloneTime - time.Second, false, time.Second},
		{1, false, aloneTime, false, 0},
		{0, false, aloneTime, false, aloneTime}, // a rolling update: it begins anew
		{0, false, 2 * aloneTime, true, 0},
		{2, true, 3 * aloneTime, false, 0},
		{0, true, 3 * aloneTime, true, 0}, // as a new leader sees it
	} {
		alone, left := n.aloneFor(step.connected, step.known, start.Add(step.after))
		if alone != step.wantAlone || left != step.wantLeft {
			t.Errorf("step %d: alone %t, %s left", i, alone, left)
		}
	}
}

func TestWhatIsAboutCountersOnly(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(*v1alpha1.WebhookEndpointStatus)
		want   bool
	}{
		"figures": {func(s *v1alpha1.WebhookEndpointStatus) { s.Deliveries.Succeeded++; s.Dispatchers.Connected++ }, true},
		"the latest delivery failed": {func(s *v1alpha1.WebhookEndpointStatus) {
			conditions.Set(&s.Conditions, 1, conditions.False(v1alpha1.ConditionDelivering, v1alpha1.ReasonFailing, ""))
		}, true},
		"a hold": {func(s *v1alpha1.WebhookEndpointStatus) {
			conditions.Set(&s.Conditions, 1, conditions.False(v1alpha1.ConditionDelivering, v1alpha1.ReasonGone, ""))
		}, false},
		"health": {func(s *v1alpha1.WebhookEndpointStatus) {
			s.Deliveries.Succeeded++
			conditions.Set(&s.Conditions, 1, conditions.False(v1alpha1.ConditionReady, v1alpha1.ReasonGone, ""))
		}, false},
		"another generation": {func(s *v1alpha1.WebhookEndpointStatus) { s.ObservedGeneration = 2 }, false},
		"a test":             {func(s *v1alpha1.WebhookEndpointStatus) { s.Test = &v1alpha1.TestStatus{} }, false},
	} {
		t.Run(name, func(t *testing.T) {
			before := &v1alpha1.WebhookEndpointStatus{ObservedGeneration: 1, Deliveries: &v1alpha1.DeliveriesStatus{}, Dispatchers: &v1alpha1.DispatchersStatus{}}
			conditions.Set(&before.Conditions, 1, conditions.True(v1alpha1.ConditionDelivering, v1alpha1.ReasonDelivering, ""))
			conditions.Set(&before.Conditions, 1, conditions.True(v1alpha1.ConditionReady, v1alpha1.ReasonReady, ""))
			after := before.DeepCopy()
			tc.change(after)
			if got := countersOnly(before, after); got != tc.want {
				t.Errorf("got %t", got)
			}
			before.Deliveries = nil
			if countersOnly(before, after) {
				t.Error("the first status is about more than counters")
			}
		})
	}
}

func TestSlot(t *testing.T) {
	now := time.Unix(1000, 0)
	after := now.Add
	limiter := rate.NewLimiter(1, 1)

	var first, second, third slot
	if wait := first.take(limiter, 0, aboutHealth, now); wait != 0 {
		t.Errorf("the first waits %v", wait)
	}
	if wait := second.take(limiter, 0, aboutHealth, now); wait != time.Second {
		t.Errorf("the second waits %v", wait)
	}
	if wait := third.take(limiter, 0, aboutCounters, now); wait != 2*time.Second {
		t.Errorf("the third waits %v", wait)
	}
	// A turn is kept, however often it is asked for, and serves what matters less too.
	for range 5 {
		if wait := second.take(limiter, 0, aboutCounters, after(400*time.Millisecond)); wait != 600*time.Millisecond {
			t.Errorf("meanwhile the second waits %v", wait)
		}
	}
	if wait := second.take(limiter, 0, aboutHealth, after(time.Second)); wait != 0 {
		t.Errorf("at its turn the second waits %v", wait)
	}
	// A turn for counters may be too late for health.
	if wait := third.take(rate.NewLimiter(1, 1), 0, aboutHealth, after(time.Second)); wait != 0 {
		t.Errorf("health waits %v for the counters' turn", wait)
	}
	if second.about != "" || third.about != aboutCounters {
		t.Errorf("turns left: %+v, %+v", second, third)
	}
	third.drop()

	written := slot{last: now}
	if wait := written.take(rate.NewLimiter(1, 1), 10*time.Second, aboutCounters, after(4*time.Second)); wait < 6*time.Second || wait > 8*time.Second {
		t.Errorf("within the interval it waits %v, want 6 to 8 s", wait)
	}
	if wait := written.take(rate.NewLimiter(1, 1), 10*time.Second, aboutCounters, after(10*time.Second)); wait != 0 {
		t.Errorf("after the interval it waits %v", wait)
	}
}

func TestNews(t *testing.T) {
	list := func(all ...metav1.Condition) []metav1.Condition { return all }
	is := func(kind, status, reason string) metav1.Condition {
		return metav1.Condition{Type: kind, Status: metav1.ConditionStatus(status), Reason: reason, Message: "m"}
	}
	ready := is("Ready", "True", "Ready")
	notAccepted := is("Ready", "False", "NotAccepted")
	for name, tc := range map[string]struct {
		before, after []metav1.Condition
		want          []string
	}{
		"the first health":           {nil, list(ready), []string{"Normal Ready"}},
		"the same":                   {list(ready), list(ready), nil},
		"on the way":                 {list(ready), list(is("Ready", "False", "TestPending")), nil},
		"being looked at":            {list(ready), list(notAccepted, is("Accepted", "Unknown", "Inspecting")), nil},
		"dispatchers":                {list(ready), list(is("Ready", "False", "WaitingForDispatchers")), nil},
		"suspended":                  {list(ready), list(is("Ready", "False", "Suspended")), []string{"Normal Suspended"}},
		"a failed test":              {list(ready), list(is("Ready", "False", "TestFailed")), []string{"Warning TestFailed"}},
		"gone":                       {list(ready), list(is("Ready", "False", "Gone")), []string{"Warning Gone"}},
		"says what is not accepted":  {list(ready), list(notAccepted, is("Accepted", "False", "HostNotFound")), []string{"Warning HostNotFound"}},
		"another reason against it":  {list(notAccepted, is("Accepted", "False", "HostNotFound")), list(notAccepted, is("Accepted", "False", "TLSFailed")), []string{"Warning TLSFailed"}},
		"the same reason against it": {list(notAccepted, is("Accepted", "False", "TLSFailed")), list(notAccepted, is("Accepted", "False", "TLSFailed")), nil},
		"says what is wrong with the key": {list(ready), list(is("Ready", "False", "SigningKeyMissing"), is("SigningKeyReady", "False", "InvalidSigningKey")),
			[]string{"Warning InvalidSigningKey"}},
		"the latest delivery failed": {list(ready, is("Delivering", "True", "Delivering")), list(ready, is("Delivering", "False", "Failing")), []string{"Warning Failing"}},
		"and the next succeeded":     {list(ready, is("Delivering", "False", "Failing")), list(ready, is("Delivering", "True", "Delivering")), []string{"Normal Delivering"}},
		"the first succeeded":        {list(ready, is("Delivering", "Unknown", "NoDeliveriesYet")), list(ready, is("Delivering", "True", "Delivering")), nil},
	} {
		t.Run(name, func(t *testing.T) {
			var got []string
			about := func(list []metav1.Condition) *v1alpha1.WebhookEndpoint {
				return &v1alpha1.WebhookEndpoint{Status: v1alpha1.WebhookEndpointStatus{Conditions: list}}
			}
			for _, n := range newsOf(about(tc.before), about(tc.after)) {
				got = append(got, n.kind+" "+n.reason)
			}
			if !slices.Equal(got, tc.want) {
				t.Errorf("got %v, want %v", got, tc.want)
			}
		})
	}
}

func TestNewsOfDeliveriesThatFailed(t *testing.T) {
	const look = " failed for good since the last look: kubectl get deliveryattempts -n n --field-selector spec.endpointRef.name=a,status.outcome=Failed"
	status := func(reason string, failed int64) *v1alpha1.WebhookEndpoint {
		o := &v1alpha1.WebhookEndpoint{}
		o.Namespace, o.Name = "n", "a"
		if reason != "" {
			conditions.Set(&o.Status.Conditions, 1, metav1.Condition{Type: v1alpha1.ConditionDelivering, Status: "False", Reason: reason, Message: "m"})
			o.Status.Deliveries = &v1alpha1.DeliveriesStatus{Failed: failed}
		}
		return o
	}
	for name, tc := range map[string]struct {
		before, after *v1alpha1.WebhookEndpoint
		want          []string
	}{
		"none":                           {status("Delivering", 3), status("Delivering", 3), nil},
		"one between others":             {status("Delivering", 3), status("Delivering", 4), []string{"Warning DeliveriesFailed: 1 delivery" + look}},
		"many between others":            {status("Delivering", 3), status("Delivering", 1003), []string{"Warning DeliveriesFailed: 1000 deliveries" + look}},
		"the latest, told of once":       {status("Delivering", 3), status("Failing", 5), []string{"Warning Failing: 2 deliveries" + look}},
		"the latest, with older figures": {status("Delivering", 3), status("Failing", 3), []string{"Warning Failing: m"}},
		"more of them":                   {status("Failing", 3), status("Failing", 5), []string{"Warning DeliveriesFailed: 2 deliveries" + look}},
		"no more of them":                {status("Failing", 3), status("Failing", 3), nil},
		"one, and all is well again":     {status("Failing", 3), status("Delivering", 4), []string{"Warning DeliveriesFailed: 1 delivery" + look}},
		"the first status":               {status("", 0), status("Delivering", 1), []string{"Warning DeliveriesFailed: 1 delivery" + look}},
		"the first of no figures":        {status("", 0), status("NoDeliveriesYet", 0), nil},
		"at the end of a hold":           {status("Suspended", 3), status("Failing", 3), []string{"Warning Failing: m"}},
	} {
		t.Run(name, func(t *testing.T) {
			var got []string
			for _, n := range newsOf(tc.before, tc.after) {
				got = append(got, n.kind+" "+n.reason+": "+n.note)
			}
			if !slices.Equal(got, tc.want) {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}
