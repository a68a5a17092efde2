// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	. "github.com/onsi/gomega"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/garyclub/webhook-operator/api/v1alpha1"
	"github.com/garyclub/webhook-operator/internal/conditions"
	"github.com/garyclub/webhook-operator/internal/delivery"
	"github.com/garyclub/webhook-operator/internal/endpoint"
)

// queues are stand-ins for dispatchers, which keep to what a queue promises about orders.
type queues struct {
	mu    sync.Mutex
	all   map[string]*letterbox
	asked []string // in order: queue, and limit unless it was to count
}

// letterbox is one queue's dead letters of the endpoint.
type letterbox struct {
	letters   int
	shareFull bool
	failing   bool
	done      map[string]delivery.Redelivered
	last      delivery.Order
}

func (q *queues) set(id string, b *letterbox) {
	q.mu.Lock()
	defer q.mu.Unlock()
	b.done = map[string]delivery.Redelivered{}
	q.all[id] = b
}

func (q *queues) left(id string) int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.all[id].letters
}

func (q *queues) Queues(string) []string {
	q.mu.Lock()
	defer q.mu.Unlock()
	var ids []string
	for id := range q.all {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}

// Returns knows one queue that comes back.
func (q *queues) Returns(_ context.Context, id string) (bool, error) { return id == "away-queue", nil }

func (q *queues) Redeliver(_ context.Context, id string, o *delivery.Order) (delivery.Redelivered, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	b := q.all[id]
	if b == nil || b.failing {
		return delivery.Redelivered{}, errors.New("it cannot now")
	}
	b.last = *o
	if r, known := b.done[o.ID]; known {
		return r, nil
	}
	r := delivery.Redelivered{Matched: b.letters}
	if o.DryRun {
		return r, nil
	}
	q.asked = append(q.asked, fmt.Sprintf("%s %d", id, o.Limit))
	if r.ShareFull = b.shareFull; !r.ShareFull {
		r.Moved = min(b.letters, o.Limit)
	}
	b.letters -= r.Moved
	b.done[o.ID] = r
	return r, nil
}

func TestAsk(t *testing.T) {
	for name, tc := range map[string]struct {
		boxes map[string]*letterbox
		order delivery.Order
		want  tally
		asked []string
	}{
		"nobody is connected": {order: delivery.Order{Limit: 5}, want: tally{}},
		"one queue": {
			boxes: map[string]*letterbox{"a": {letters: 3}}, order: delivery.Order{Limit: 5},
			want: tally{matched: 3, moved: 3, asked: 1, answered: 1}, asked: []string{"a 5"}},
		"the limit is of all of them": {
			boxes: map[string]*letterbox{"a": {letters: 3}, "b": {letters: 3}, "c": {letters: 3}}, order: delivery.Order{Limit: 5},
			want: tally{matched: 9, moved: 5, asked: 3, answered: 3}, asked: []string{"a 5", "b 2"}},
		"a queue with none of them is not told": {
			boxes: map[string]*letterbox{"a": {}, "b": {letters: 1}}, order: delivery.Order{Limit: 5},
			want: tally{matched: 1, moved: 1, asked: 2, answered: 2}, asked: []string{"b 5"}},
		"a dry run": {
			boxes: map[string]*letterbox{"a": {letters: 3}}, order: delivery.Order{Limit: 5, DryRun: true},
			want: tally{matched: 3, asked: 1, answered: 1}},
		"one fails": {
			boxes: map[string]*letterbox{"a": {letters: 3, failing: true}, "b": {letters: 2}}, order: delivery.Order{Limit: 5},
			want: tally{matched: 2, moved: 2, asked: 2, answered: 1}, asked: []string{"b 5"}},
		"a share is full": {
			boxes: map[string]*letterbox{"a": {letters: 3, shareFull: true}}, order: delivery.Order{Limit: 5},
			want: tally{matched: 3, asked: 1, answered: 1, shareFull: true}, asked: []string{"a 5"}},
	} {
		t.Run(name, func(t *testing.T) {
			q := &queues{all: map[string]*letterbox{}}
			for id, b := range tc.boxes {
				q.set(id, b)
			}
			tc.order.ID = "order"
			if got := ask(t.Context(), q, &tc.order); *got != tc.want {
				t.Errorf("tally is %+v, want %+v", *got, tc.want)
			}
			if !slices.Equal(q.asked, tc.asked) {
				t.Errorf("asked to move: %v, want %v", q.asked, tc.asked)
			}
		})
	}
}

// A pass that is repeated, as by the next leader, when a queue with as many has come meanwhile.
func TestAskedAgainTheLimitHolds(t *testing.T) {
	q := &queues{all: map[string]*letterbox{}}
	q.set("m", &letterbox{letters: 4})
	o := &delivery.Order{ID: "order", Limit: 5}
	ask(t.Context(), q, o)
	q.set("a", &letterbox{letters: 4})
	want := tally{matched: 8, moved: 5, asked: 2, answered: 2}
	for range 2 {
		if got := ask(t.Context(), q, o); *got != want {
			t.Errorf("tally is %+v, want %+v", *got, want)
		}
	}
}

func TestComplete(t *testing.T) {
	for name, tc := range map[string]struct {
		spec   v1alpha1.RedeliverySpec
		tally  tally
		reason string
		says   string
	}{
		"all of it":            {tally: tally{matched: 2, moved: 2, asked: 1, answered: 1}, reason: v1alpha1.ReasonRedelivered, says: "2 of 2 failed deliveries"},
		"nothing":              {tally: tally{asked: 1, answered: 1}, reason: v1alpha1.ReasonNothingMatched, says: "redeliverableUntilTime"},
		"counted":              {spec: v1alpha1.RedeliverySpec{DryRun: true}, tally: tally{matched: 2, asked: 1, answered: 1}, reason: v1alpha1.ReasonCounted, says: "2 failed deliveries match"},
		"counted, but not all": {spec: v1alpha1.RedeliverySpec{DryRun: true}, tally: tally{matched: 2, asked: 2, answered: 1}, reason: v1alpha1.ReasonCounted, says: "1 of 2 dispatchers did not answer"},
		"over the limit":       {spec: v1alpha1.RedeliverySpec{Limit: 2}, tally: tally{matched: 3, moved: 2, asked: 1, answered: 1}, reason: v1alpha1.ReasonPartial, says: "spec.limit is 2"},
		"no room":              {spec: v1alpha1.RedeliverySpec{Limit: 9}, tally: tally{matched: 3, moved: 2, shareFull: true, asked: 1, answered: 1}, reason: v1alpha1.ReasonPartial, says: "share of the queue is full"},
		"gone meanwhile":       {spec: v1alpha1.RedeliverySpec{Limit: 9}, tally: tally{matched: 3, moved: 2, asked: 1, answered: 1}, reason: v1alpha1.ReasonPartial, says: "have gone meanwhile"},
		"no answer":            {tally: tally{asked: 3, answered: 1}, reason: v1alpha1.ReasonPartial, says: "2 of 3 dispatchers did not answer"},
		"a queue is away":      {tally: tally{matched: 1, moved: 1, asked: 1, answered: 1, away: 2}, reason: v1alpha1.ReasonPartial, says: "2 queues that reported"},
	} {
		t.Run(name, func(t *testing.T) {
			c := complete(&tc.spec, &tc.tally)
			if c.Status != metav1.ConditionTrue || c.Reason != tc.reason || !strings.Contains(c.Message, tc.says) {
				t.Errorf("condition is %s/%s: %s", c.Status, c.Reason, c.Message)
			}
		})
	}
}

func TestOrderOf(t *testing.T) {
	at := metav1.NewTime(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC))
	early, late := metav1.NewTime(at.Add(-time.Hour)), metav1.NewTime(at.Add(time.Hour))
	o := &v1alpha1.Redelivery{ObjectMeta: metav1.ObjectMeta{Namespace: "a", Name: "outage", UID: "uid", CreationTimestamp: at}}
	o.Spec = v1alpha1.RedeliverySpec{EndpointRef: v1alpha1.EndpointReference{Name: "one"}, Since: &early, Until: &late,
		CallIDs: []string{"call"}, EventIDs: []string{"evt"}, Limit: 3, DryRun: true}
	want := delivery.Order{ID: "uid", Name: "outage", Ref: endpoint.Ref{Namespace: "a", Name: "one"}, Since: early.Time,
		Until: at.Add(time.Second), CallIDs: []string{"call"}, EventIDs: []string{"evt"}, Limit: 3, DryRun: true}
	if diff := cmp.Diff(want, orderOf(o)); diff != "" {
		t.Errorf("an order of the future (-want +got):\n%s", diff)
	}
	o.Spec.Until = &early
	if got := orderOf(o); !got.Until.Equal(early.Time) {
		t.Errorf("until is %s", got.Until)
	}
}

func (s *stand) order(name string, spec v1alpha1.RedeliverySpec) *v1alpha1.Redelivery {
	s.t.Helper()
	o := &v1alpha1.Redelivery{ObjectMeta: metav1.ObjectMeta{Namespace: s.namespace, Name: name}, Spec: spec}
	o.Spec.EndpointRef.Name = "a"
	s.Expect(s.client.Create(s.t.Context(), o)).To(Succeed())
	return o
}

func (s *stand) untilComplete(name, reason string) *v1alpha1.Redelivery {
	s.t.Helper()
	o := &v1alpha1.Redelivery{}
	s.Eventually(func(g Gomega) {
		g.Expect(s.client.Get(s.t.Context(), client.ObjectKey{Namespace: s.namespace, Name: name}, o)).To(Succeed())
		c := conditions.Get(o.Status.Conditions, v1alpha1.ConditionComplete)
		g.Expect(c.Reason).To(Equal(reason), c.Message)
		g.Expect(c.ObservedGeneration).To(Equal(o.Generation))
	}).Should(Succeed())
	return o
}

func TestAnOrderIsCarriedOut(t *testing.T) {
	s := newStand(t)
	s.create("a", "https://receiver.test/")
	s.queues.set("q1", &letterbox{letters: 3})
	s.queues.set("q2", &letterbox{letters: 4})
	s.order("outage", v1alpha1.RedeliverySpec{})
	o := s.untilComplete("outage", v1alpha1.ReasonRedelivered)
	s.Expect(o.Status.Matched).To(BeEquivalentTo(7))
	s.Expect(o.Status.Redelivered).To(BeEquivalentTo(7))
	s.Expect(*o.Status.Queues).To(Equal(v1alpha1.RedeliveryQueues{Asked: 2, Answered: 2}))
	s.Expect(o.Status.CompletionTime).NotTo(BeNil())
	s.Expect(conditions.Get(o.Status.Conditions, v1alpha1.ConditionReconciling)).To(BeZero())
	s.Expect(s.queues.left("q1") + s.queues.left("q2")).To(BeZero())
	s.Expect(s.queues.all["q1"].last.ID).To(Equal(string(o.UID)))
	s.Eventually(func() string { return s.events() }).Should(ContainSubstring("7 failed deliveries are sent again, as Redelivery outage orders"))
}

func TestAnOrderForNoEndpointIsRefused(t *testing.T) {
	s := newStand(t)
	s.order("outage", v1alpha1.RedeliverySpec{})
	o := s.untilComplete("outage", v1alpha1.ReasonEndpointNotFound)
	s.Expect(conditions.Get(o.Status.Conditions, v1alpha1.ConditionStalled).Status).To(Equal(metav1.ConditionTrue))
}

func TestAnOrderWaitsForAQueueThatFails(t *testing.T) {
	s := newStand(t)
	s.create("a", "https://receiver.test/")
	s.queues.set("q", &letterbox{letters: 3, failing: true})
	s.order("outage", v1alpha1.RedeliverySpec{})
	o := s.untilComplete("outage", v1alpha1.ReasonRunning)
	s.Expect(conditions.Get(o.Status.Conditions, v1alpha1.ConditionReconciling).Status).To(Equal(metav1.ConditionTrue))
	s.queues.set("q", &letterbox{letters: 3})
	s.untilComplete("outage", v1alpha1.ReasonRedelivered)
}

func TestAnOrderGivesUpAQueueThatIsAway(t *testing.T) {
	s := newStand(t)
	s.create("a", "https://receiver.test/")
	s.queues.set("q", &letterbox{letters: 1})
	s.failedRecord("a", "away-queue")
	s.order("outage", v1alpha1.RedeliverySpec{})
	s.untilComplete("outage", v1alpha1.ReasonRunning)
	s.Eventually(func() int { return s.queues.left("q") }).Should(BeZero()) // nobody waits for it
	s.clock.forward(2 * redeliveryPatience)
	o := s.untilComplete("outage", v1alpha1.ReasonPartial)
	s.Expect(*o.Status.Queues).To(Equal(v1alpha1.RedeliveryQueues{Asked: 2, Answered: 1}))
	s.Expect(o.Status.Redelivered).To(BeEquivalentTo(1))
}

func TestAnOrderDoesNotWaitForAQueueThatHasGone(t *testing.T) {
	s := newStand(t)
	s.create("a", "https://receiver.test/")
	s.queues.set("q", &letterbox{letters: 1})
	s.failedRecord("a", "gone-queue")
	s.order("outage", v1alpha1.RedeliverySpec{})
	s.untilComplete("outage", v1alpha1.ReasonRedelivered)
}

// failedRecord is one whose payload is still to be had in a queue.
func (s *stand) failedRecord(name, queueID string) {
	s.t.Helper()
	now := metav1.NewTime(time.Now().Truncate(time.Second))
	until := metav1.NewTime(now.Add(time.Hour))
	o := &v1alpha1.DeliveryAttempt{ObjectMeta: metav1.ObjectMeta{Namespace: s.namespace, Name: name + "-record"}}
	o.Spec = v1alpha1.DeliveryAttemptSpec{EndpointRef: v1alpha1.EndpointReference{Name: name},
		Event:   v1alpha1.EventReference{ID: "evt_1", Type: "call.completed", Time: now},
		Payload: v1alpha1.PayloadMeasure{SHA256: strings.Repeat("0", 64)}}
	s.Expect(s.client.Create(s.t.Context(), o)).To(Succeed())
	o.Status = v1alpha1.DeliveryAttemptStatus{Outcome: v1alpha1.DeliveryFailed, QueueID: queueID, CompletionTime: &now, RedeliverableUntilTime: &until}
	s.Expect(s.client.Status().Update(s.t.Context(), o)).To(Succeed())
}

func TestACompleteOrderIsDeletedAfterItsTime(t *testing.T) {
	s := newStand(t)
	s.create("a", "https://receiver.test/")
	s.queues.set("q", &letterbox{})
	none := int32(0)
	o := s.order("outage", v1alpha1.RedeliverySpec{TTLSecondsAfterFinished: &none})
	s.Eventually(func() error { return s.client.Get(s.t.Context(), client.ObjectKeyFromObject(o), o) }).Should(MatchError(ContainSubstring("not found")))
	kept := s.order("kept", v1alpha1.RedeliverySpec{})
	s.untilComplete("kept", v1alpha1.ReasonNothingMatched)
	s.start() // a new leader looks at it
	s.Consistently(func() error { return s.client.Get(s.t.Context(), client.ObjectKeyFromObject(kept), kept) }).WithTimeout(time.Second).Should(Succeed())
}

// The next leader gets the results that the queues have, and sends nothing twice.
func TestAnOrderGoesOnUnderTheNextLeader(t *testing.T) {
	s := newStand(t)
	s.create("a", "https://receiver.test/")
	s.queues.set("q1", &letterbox{letters: 3})
	s.queues.set("q2", &letterbox{letters: 4, failing: true})
	s.order("outage", v1alpha1.RedeliverySpec{})
	s.Eventually(func() int { return s.queues.left("q1") }).Should(BeZero())
	s.start()
	s.queues.mu.Lock()
	s.queues.all["q2"].failing = false
	s.queues.all["q1"].letters = 5 // these failed since
	s.queues.mu.Unlock()
	o := s.untilComplete("outage", v1alpha1.ReasonRedelivered)
	s.Expect(o.Status.Redelivered).To(BeEquivalentTo(7))
	s.Expect(s.queues.left("q1")).To(Equal(5))
}
