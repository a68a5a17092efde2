// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package record

import (
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/garyclub/webhook-operator/internal/delivery"
)

func TestNamesAreValidAndOfOneDelivery(t *testing.T) {
	long := strings.Repeat("a", 241) + ".b" + strings.Repeat("c", 10)
	seen := map[string]bool{}
	for _, change := range []func(*delivery.Record){
		func(*delivery.Record) {},
		func(r *delivery.Record) { r.EventID = "evt_2" },
		func(r *delivery.Record) { r.UID = "another" },
		func(r *delivery.Record) { r.Trigger = delivery.TriggerTest },
		func(r *delivery.Record) { r.Ref.Name = long },
	} {
		r := testRecord("zapier", "evt_1", delivery.Pending, 0)
		change(&r)
		name := Name(&r)
		if problems := validation.IsDNS1123Subdomain(name); len(problems) > 0 || seen[name] {
			t.Errorf("name %q: %v, seen %v", name, problems, seen[name])
		}
		seen[name] = true
		r.State, r.AttemptCount = delivery.Failed, 4
		if Name(&r) != name {
			t.Errorf("name of a later state is %q, want %q", Name(&r), name)
		}
	}
}

func TestStatusSaysWhatTheStateIs(t *testing.T) {
	cases := map[string]struct {
		record                             delivery.Record
		wantStatus                         metav1.ConditionStatus
		wantCondition, wantReason, message string
		wantCode                           int32
		wantNext, wantCompletion           bool
	}{
		"pending": {record: testRecord("a", "e", delivery.Pending, 0), wantStatus: metav1.ConditionUnknown,
			wantCondition: "Pending", message: "no attempt has ended yet"},
		"retrying": {record: testRecord("a", "e", delivery.Retrying, 1), wantStatus: metav1.ConditionUnknown,
			wantCondition: "Retrying", wantReason: "Rejected", wantCode: 500, wantNext: true,
			message: "attempt 1 of 4 failed; another follows"},
		"delivered": {record: testRecord("a", "e", delivery.Delivered, 2), wantStatus: metav1.ConditionTrue,
			wantCondition: "Delivered", wantCode: 200, wantCompletion: true, message: "delivered at attempt 2 of 4"},
		"failed": {record: testRecord("a", "e", delivery.Failed, 4), wantStatus: metav1.ConditionFalse,
			wantCondition: "Rejected", wantReason: "Rejected", wantCode: 500, wantCompletion: true,
			message: "failed after 4 of 4 attempts"},
		"failed without an attempt": {record: delivery.Record{Delivery: delivery.Delivery{State: delivery.Failed,
			Reason: delivery.ReasonQueueFull, MaxAttempts: 4}}, wantStatus: metav1.ConditionFalse,
			wantCondition: "QueueFull", wantReason: "QueueFull", wantCompletion: true, message: "failed after 0 of 4 attempts"},
		"failed for what nobody knows": {record: delivery.Record{Delivery: delivery.Delivery{State: delivery.Failed,
			Reason: "1-made.up"}}, wantStatus: metav1.ConditionFalse,
			wantCondition: "Failed", wantReason: "Failed", wantCompletion: true, message: "failed after 0 of 0 attempts"},
		"lost with its queue": {record: delivery.Record{Delivery: delivery.Delivery{State: delivery.Failed,
			Reason: delivery.ReasonQueueLost, AttemptCount: 1, MaxAttempts: 4}}, wantStatus: metav1.ConditionFalse,
			wantCondition: "QueueLost", wantReason: "QueueLost", wantCompletion: true,
			message: "the queue that held it was lost with its pod, after 1 of 4 attempts"},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			o := newObject(&tc.record)
			o.Generation = 1
			if !setStatus(o, &tc.record) {
				t.Error("nothing changed")
			}
			s := o.Status
			if string(s.Outcome) != tc.record.State.String() || s.Reason != tc.wantReason || s.LastStatusCode != tc.wantCode ||
				(s.NextAttemptTime != nil) != tc.wantNext || (s.CompletionTime != nil) != tc.wantCompletion {
				t.Errorf("status is %+v", s)
			}
			c := s.Conditions[0]
			if c.Status != tc.wantStatus || c.Reason != tc.wantCondition || c.Message != tc.message || c.ObservedGeneration != 1 {
				t.Errorf("condition is %+v", c)
			}
			if setStatus(o, &tc.record) {
				t.Error("the same state changed something")
			}
		})
	}
}

func TestAttemptsAreTheFirstAndTheLatest(t *testing.T) {
	var all []delivery.Attempt
	for n := 20; n >= 1; n-- {
		all = append(all, delivery.Attempt{Number: n, Start: epoch, Outcome: delivery.OutcomeRejected})
	}
	shown := shownAttempts(append(all, all[0]))
	if len(shown) != delivery.MaxKeptAttempts || shown[0].Number != 1 || shown[1].Number != 6 || shown[15].Number != 20 {
		t.Errorf("shown are %+v", shown)
	}
}

func TestTextsAreCutAtACharacter(t *testing.T) {
	for _, tc := range []struct {
		in    string
		limit int
		want  string
	}{{"abc", 3, "abc"}, {"abcd", 3, "abc"}, {"aéé", 4, "aé"}, {"a\xff", 9, "a?"}, {"é", 1, ""}} {
		if got := cut(tc.in, tc.limit); got != tc.want {
			t.Errorf("cut(%q, %d) is %q, want %q", tc.in, tc.limit, got, tc.want)
		}
	}
}

func TestBucketsRefillAndAreBounded(t *testing.T) {
	b, now := buckets{}, epoch
	for range bucketBurst {
		if !b.take("a", now) {
			t.Fatal("the burst is shorter than it should be")
		}
	}
	if b.take("a", now.Add(bucketRefill-time.Second)) {
		t.Error("one too many")
	}
	if !b.take("a", now.Add(bucketRefill+time.Second)) || b.take("a", now.Add(bucketRefill+2*time.Second)) {
		t.Error("want exactly one more after the refill")
	}
	if !b.take("b", now) {
		t.Error("another endpoint pays for the first")
	}
	for i := range maxBuckets + 10 {
		b.take(strings.Repeat("x", i%100)+string(rune('a'+i/100)), now)
	}
	if len(b) > maxBuckets {
		t.Errorf("%d buckets", len(b))
	}
}
