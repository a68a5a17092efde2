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
	mu   sync.Mutex
	all  map[string]*letterbox
	away []string
	// behind says that dispatchers have not taken the endpoint.
	behind bool
	asked  []string // in order: queue, and limit unless it was to count
}

// letterbox is one queue's dead letters of the endpoint.
type letterbox struct {
	letters   int
	shareFull bool
	failing   bool
	breaks    bool // off, after it has moved
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

func (q *queues) inForce(endpoint.Ref, string, int64) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return !q.behind
}

func (q *queues) setBehind(on bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.behind = on
}

// Away are the queues that are missed.
func (q *queues) Away(context.Context, string, []string) ([]string, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.away, nil
}

func (q *queues) Redeliver(_ context.Context, id string, o *delivery.Order) (delivery.Redelivered, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	b := q.all[id]
	if b == nil || b.failing {
		return delivery.Redelivered{}, errors.New("it cannot now")
	}
	b.last = *o
	r, known := b.done[o.ID]
	if known && (o.DryRun || r.Moved >= o.Limit) {
		return r, nil
	}
	r.Matched += b.letters - (r.Matched - r.Moved)
	if o.DryRun {
		return r, nil
	}
	q.asked = append(q.asked, fmt.Sprintf("%s %d", id, o.Limit))
	if r.ShareFull = b.shareFull; !r.ShareFull {
		n := min(b.letters, o.Limit-r.Moved)
		r.Moved += n
		b.letters -= n
	}
	b.done[o.ID] = r
	if b.breaks {
		b.breaks = false
		return delivery.Redelivered{}, errors.New("it was cut off")
	}
	return r, nil
}

func TestAsk(t *testing.T) {
	type figures struct {
		matched, moved, asked, answered int
		shareFull                       bool
	}
	for name, tc := range map[string]struct {
		boxes map[string]*letterbox
		order delivery.Order
		want  figures
		told  []string
	}{
		"nobody is connected": {order: delivery.Order{Limit: 5}},
		"one queue": {
			boxes: map[string]*letterbox{"a": {letters: 3}}, order: delivery.Order{Limit: 5},
			want: figures{matched: 3, moved: 3, asked: 1, answered: 1}, told: []string{"a 5"}},
		"the limit is of all of them": {
			boxes: map[string]*letterbox{"a": {letters: 3}, "b": {letters: 3}, "c": {letters: 3}}, order: delivery.Order{Limit: 5},
			want: figures{matched: 9, moved: 5, asked: 3, answered: 3}, told: []string{"a 5", "b 2"}},
		"a queue with none of them is not told": {
			boxes: map[string]*letterbox{"a": {}, "b": {letters: 1}}, order: delivery.Order{Limit: 5},
			want: figures{matched: 1, moved: 1, asked: 2, answered: 2}, told: []string{"b 5"}},
		"a dry run": {
			boxes: map[string]*letterbox{"a": {letters: 3}}, order: delivery.Order{Limit: 5, DryRun: true},
			want: figures{matched: 3, asked: 1, answered: 1}},
		"one fails": {
			boxes: map[string]*letterbox{"a": {letters: 3, failing: true}, "b": {letters: 2}}, order: delivery.Order{Limit: 5},
			want: figures{matched: 2, moved: 2, asked: 2, answered: 1}, told: []string{"b 5"}},
		"one is cut off": { // it may have moved three
			boxes: map[string]*letterbox{"a": {letters: 3, breaks: true}, "b": {letters: 4}}, order: delivery.Order{Limit: 5},
			want: figures{matched: 7, moved: 2, asked: 2, answered: 1}, told: []string{"a 5", "b 2"}},
		"a share is full": {
			boxes: map[string]*letterbox{"a": {letters: 3, shareFull: true}}, order: delivery.Order{Limit: 5},
			want: figures{matched: 3, asked: 1, answered: 1, shareFull: true}, told: []string{"a 5"}},
	} {
		t.Run(name, func(t *testing.T) {
			q := &queues{all: map[string]*letterbox{}}
			for id, b := range tc.boxes {
				q.set(id, b)
			}
			tc.order.ID = "order"
			got := tallyOf(&v1alpha1.RedeliveryStatus{})
			ask(t.Context(), q, &tc.order, q.Queues(""), got)
			if f := (figures{got.matched(), got.moved(), got.asked, got.answered, got.shareFull}); f != tc.want {
				t.Errorf("tally is %+v, want %+v", f, tc.want)
			}
			if !slices.Equal(q.asked, tc.told) {
				t.Errorf("asked to move: %v, want %v", q.asked, tc.told)
			}
		})
	}
}

// Passes that are repeated, as by the next leader, when a queue was cut off, another one has come, and one has gone.
func TestAskedAgainTheLimitHolds(t *testing.T) {
	q := &queues{all: map[string]*letterbox{}}
	q.set("m", &letterbox{letters: 4, breaks: true})
	q.set("z", &letterbox{letters: 1})
	o := &delivery.Order{ID: "order", Limit: 7}
	status := &v1alpha1.RedeliveryStatus{}
	pass := func() *tally {
		next := tallyOf(status)
		ask(t.Context(), q, o, q.Queues(""), next)
		next.show(status)
		return next
	}
	if first := pass(); first.moved() != 1 || first.answered != 1 {
		t.Errorf("the first pass: %+v", first)
	}
	q.set("a", &letterbox{letters: 4})
	if second := pass(); second.moved() != 7 || second.matched() != 9 || second.answered != 3 {
		t.Errorf("the second pass: %+v", second)
	}
	q.mu.Lock()
	delete(q.all, "m")
	q.mu.Unlock()
	q.set("n", &letterbox{letters: 4})
	if third := pass(); third.moved() != 7 || third.matched() != 13 || third.answered != 3 {
		t.Errorf("the third pass: %+v", third)
	}
}

func TestComplete(t *testing.T) {
	held := func(matched, moved int64, t tally) tally {
		t.results = map[string]v1alpha1.RedeliveryResult{"q": {QueueID: "q", Matched: matched, Redelivered: moved}}
		return t
	}
	one := tally{asked: 1, answered: 1}
	for name, tc := range map[string]struct {
		spec   v1alpha1.RedeliverySpec
		tally  tally
		reason string
		says   string
	}{
		"all of it":            {tally: held(2, 2, one), reason: v1alpha1.ReasonRedelivered, says: "2 of 2 failed deliveries"},
		"nothing":              {tally: one, reason: v1alpha1.ReasonNothingMatched, says: "redeliverableUntilTime"},
		"nobody is there":      {reason: v1alpha1.ReasonNothingMatched, says: "redeliverableUntilTime"},
		"counted":              {spec: v1alpha1.RedeliverySpec{DryRun: true}, tally: held(2, 0, one), reason: v1alpha1.ReasonCounted, says: "2 failed deliveries match"},
		"counted, but not all": {spec: v1alpha1.RedeliverySpec{DryRun: true}, tally: held(2, 0, tally{asked: 2, answered: 1}), reason: v1alpha1.ReasonCounted, says: "1 of 2 dispatchers did not answer"},
		"over the limit":       {spec: v1alpha1.RedeliverySpec{Limit: 2}, tally: held(3, 2, one), reason: v1alpha1.ReasonPartial, says: "spec.limit is 2"},
		"no room":              {spec: v1alpha1.RedeliverySpec{Limit: 9}, tally: held(3, 2, tally{asked: 1, answered: 1, shareFull: true}), reason: v1alpha1.ReasonPartial, says: "is full"},
		"gone meanwhile":       {spec: v1alpha1.RedeliverySpec{Limit: 9}, tally: held(3, 2, one), reason: v1alpha1.ReasonPartial, says: "have gone meanwhile"},
		"an answer is missing": {tally: tally{asked: 3, answered: 1}, reason: v1alpha1.ReasonPartial, says: "2 of 3 dispatchers did not answer"},
		"a queue is away":      {tally: held(1, 1, tally{asked: 1, answered: 1, away: 2}), reason: v1alpha1.ReasonPartial, says: "2 queues in which"},
		"no answer":            {tally: tally{asked: 2}, reason: v1alpha1.ReasonNoAnswer, says: "2 of 2 dispatchers did not answer"},
		"all are away":         {tally: tally{away: 2}, reason: v1alpha1.ReasonNoAnswer, says: "2 queues in which"},
	} {
		t.Run(name, func(t *testing.T) {
			want := metav1.ConditionTrue
			if tc.reason == v1alpha1.ReasonNoAnswer {
				want = metav1.ConditionFalse
			}
			c := complete(&tc.spec, &tc.tally)
			if c.Status != want || c.Reason != tc.reason || !strings.Contains(c.Message, tc.says) {
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
	s.untilComplete("outage", v1alpha1.ReasonRunning) // it may be on its way
	s.clock.forward(2 * redeliveryPatience)
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
	s.queues.mu.Lock()
	s.queues.away = []string{"away"}
	s.queues.mu.Unlock()
	s.order("outage", v1alpha1.RedeliverySpec{})
	s.untilComplete("outage", v1alpha1.ReasonRunning)
	s.Eventually(func() int { return s.queues.left("q") }).Should(BeZero()) // nobody waits for it
	s.clock.forward(2 * redeliveryPatience)
	o := s.untilComplete("outage", v1alpha1.ReasonPartial)
	s.Expect(*o.Status.Queues).To(Equal(v1alpha1.RedeliveryQueues{Asked: 2, Answered: 1}))
	s.Expect(o.Status.Redelivered).To(BeEquivalentTo(1))
}

// An order that comes with the change which it is meant for goes where the endpoint points then.
func TestAnOrderWaitsForTheEndpointsLatestChange(t *testing.T) {
	s := newStand(t)
	s.create("a", "https://receiver.test/")
	s.queues.set("q", &letterbox{letters: 1})
	s.queues.setBehind(true)
	s.order("outage", v1alpha1.RedeliverySpec{})
	s.untilComplete("outage", v1alpha1.ReasonRunning)
	s.Expect(s.queues.left("q")).To(Equal(1))
	s.queues.setBehind(false)
	s.untilComplete("outage", v1alpha1.ReasonRedelivered)
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
