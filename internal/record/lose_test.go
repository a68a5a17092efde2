// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package record

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/types"

	"github.com/garyclub/webhook-operator/api/v1alpha1"
	"github.com/garyclub/webhook-operator/internal/delivery"
)

// recordFrom reads "STATE attempts hops"; Lost is a state here.
func recordFrom(words string) delivery.Record {
	var state string
	var attempts, hops int
	if _, err := fmt.Sscanf(words, "%s %d %d", &state, &attempts, &hops); err != nil {
		panic(err)
	}
	states := map[string]delivery.State{"Pending": delivery.Pending, "Retrying": delivery.Retrying,
		"Delivered": delivery.Delivered, "Failed": delivery.Failed, "Lost": delivery.Failed}
	r := testRecord("a", "evt_1", states[state], attempts)
	r.Hops, r.QueueID = hops, "q1"
	if state == "Lost" {
		r.Reason = delivery.ReasonQueueLost
	}
	return r
}

func TestTheNewerStateIsKept(t *testing.T) {
	for _, tc := range []struct {
		name, a, b string
		want       bool // b is newer
		wantBack   bool // a is newer
	}{
		{"the same", "Retrying 1 0", "Retrying 1 0", false, false},
		{"an attempt more", "Retrying 1 0", "Retrying 2 0", true, false},
		{"begun", "Pending 0 0", "Retrying 1 0", true, false},
		{"the end", "Retrying 1 0", "Failed 0 0", true, false},
		{"another end", "Failed 0 0", "Delivered 1 0", false, false},
		{"handed over", "Retrying 2 0", "Retrying 2 1", true, false},
		{"handed over before anything else is known", "Retrying 3 0", "Pending 0 1", true, false},
		{"handed over back", "Retrying 2 1", "Retrying 2 2", true, false},
		{"ended where it was handed over to", "Retrying 2 0", "Delivered 3 1", true, false},
		{"ended before it was handed over", "Retrying 2 1", "Delivered 3 0", true, false},
		{"two ends", "Delivered 3 0", "Failed 4 1", false, false},
		{"lost", "Retrying 2 0", "Lost 2 0", true, false},
		{"lost before its first attempt", "Pending 0 0", "Lost 0 0", true, false},
		{"lost twice", "Lost 2 0", "Lost 2 0", false, false},
		{"lost with a queue that it has left", "Retrying 2 1", "Lost 2 0", false, true},
		{"lost by who knows less", "Retrying 3 0", "Lost 2 0", false, true},
		{"lost after its end", "Delivered 2 0", "Lost 2 0", false, true},
		{"lost, and delivered after all", "Lost 2 0", "Delivered 3 0", true, false},
		{"lost, and failed after all", "Lost 2 0", "Failed 2 0", true, false},
		{"lost, and attempted again after all", "Lost 2 0", "Retrying 3 0", true, false},
		{"lost, and a late report of before", "Lost 2 0", "Retrying 2 0", false, true},
		{"lost, and handed over before that", "Lost 2 0", "Retrying 2 1", true, false},
	} {
		a, b := recordFrom(tc.a), recordFrom(tc.b)
		if got, back := newer(standOf(&b), standOf(&a)), newer(standOf(&a), standOf(&b)); got != tc.want || back != tc.wantBack {
			t.Errorf("%s: newer is %v, and the other way round %v", tc.name, got, back)
		}
		o := newObject(&a)
		if setStatus(o, &a); standOfObject(o) != standOf(&a) {
			t.Errorf("%s: the record stands at %+v, the report at %+v", tc.name, standOfObject(o), standOf(&a))
		}
		// What is written over what exists is not decided by the order either, but for equal ones that are written for
		// what else they say.
		if got := !supersedes(standOf(&a), standOf(&b)); got != tc.want && tc.a != tc.b {
			t.Errorf("%s: written over the record: %v", tc.name, got)
		}
	}
}

func TestARecordIsReadAsItWasWritten(t *testing.T) {
	for _, words := range []string{"Pending 0 0", "Retrying 2 1", "Failed 4 0", "Delivered 1 0"} {
		want := recordFrom(words)
		want.PayloadSHA = [32]byte{1, 2, 3}
		o := newObject(&want)
		setStatus(o, &want)
		got := recordOf(o)
		got.Accepted = want.Accepted // which no record says
		if want.State == delivery.Retrying {
			want.Reason = string(delivery.OutcomeRejected)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-written +read):\n%s", words, diff)
		}
		if again := o.DeepCopy(); setStatus(again, &got) {
			t.Errorf("%s: written again, the status changes:\n%s", words, cmp.Diff(o.Status, again.Status))
		}
	}
}

// loseTest has a recorder with the records in the cluster, all named by the queue q1 on the shelf.
func loseTest(t *testing.T, test func(t *testing.T, w *world, r *Recorder, start func()), records ...delivery.Record) {
	t.Helper()
	w, s := newWorld(testEndpoint("a")), &shelfFake{queues: map[string][]types.NamespacedName{}}
	for i := range records {
		o := newObject(&records[i])
		setStatus(o, &records[i])
		w.objects[w.id(o)] = o
		s.queues[testNamespace+"/q1"] = append(s.queues[testNamespace+"/q1"], keyOf(o))
	}
	recorderTest(t, w, func(o *Options) { o.Shelf = s }, func(t *testing.T, r *Recorder, start func()) { test(t, w, r, start) })
}

func wantOpen(t *testing.T, r *Recorder, want int) {
	t.Helper()
	if open, known, err := r.Lose(t.Context(), testNamespace, "q1"); open != want || !known || err != nil {
		t.Errorf("%d are open, known %v, error %v; want %d", open, known, err, want)
	}
}

func TestRecordsOfALostQueueSaySo(t *testing.T) {
	retrying, delivered, left := recordFrom("Retrying 2 0"), recordFrom("Delivered 1 0"), recordFrom("Retrying 2 1")
	delivered.EventID, left.EventID, left.QueueID = "evt_2", "evt_3", "q2"
	loseTest(t, func(t *testing.T, w *world, r *Recorder, start func()) {
		start()
		wantOpen(t, r, 1)
		settle()
		wantOpen(t, r, 0)
		o := &v1alpha1.DeliveryAttempt{}
		if err := w.Get(t.Context(), types.NamespacedName{Namespace: testNamespace, Name: Name(&retrying)}, o); err != nil {
			t.Fatal(err)
		}
		if s := o.Status; s.Outcome != v1alpha1.DeliveryFailed || s.Reason != "QueueLost" || s.QueueID != "q1" ||
			s.AttemptCount != 2 || len(s.Attempts) != 2 || s.CompletionTime == nil || s.NextAttemptTime != nil {
			t.Errorf("status is %+v", s)
		}
		if w.outcome(delivered) != v1alpha1.DeliveryDelivered || w.outcome(left) != v1alpha1.DeliveryRetrying || len(w.written()) != 1 {
			t.Errorf("writes are %v", w.written())
		}
		if len(r.room.all) != 0 {
			t.Error("a place is taken although nothing waits")
		}
		// It turns up all the same.
		var got answers
		offer(t, r, recordFrom("Delivered 3 0"), got.done)
		settle()
		got.want(t, true)
		if outcome := w.outcome(retrying); outcome != v1alpha1.DeliveryDelivered {
			t.Errorf("outcome is %q", outcome)
		}
	}, retrying, delivered, left)
}

func TestAReportThatWaitsIsNotOverruledByTheLoss(t *testing.T) {
	cases := map[string]struct {
		report string
		want   v1alpha1.DeliveryOutcome
	}{
		"its end":              {"Delivered 3 0", v1alpha1.DeliveryDelivered},
		"another attempt":      {"Retrying 3 0", v1alpha1.DeliveryFailed}, // the second call sees it
		"that it has moved on": {"Retrying 2 1", v1alpha1.DeliveryRetrying},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			stored := recordFrom("Retrying 2 0")
			loseTest(t, func(t *testing.T, w *world, r *Recorder, start func()) {
				report := recordFrom(tc.report)
				if report.Hops > 0 {
					report.QueueID = "q2"
				}
				var got answers
				offer(t, r, report, got.done)
				wantOpen(t, r, 1)
				start()
				settle()
				for range 2 {
					if _, _, err := r.Lose(t.Context(), testNamespace, "q1"); err != nil {
						t.Fatal(err)
					}
					settle()
				}
				wantOpen(t, r, 0)
				got.want(t, true)
				if outcome := w.outcome(stored); outcome != tc.want {
					t.Errorf("outcome is %q, want %q", outcome, tc.want)
				}
			}, stored)
		})
	}
}

func TestALossIsWrittenAfterOtherEndsAndMakesNoRecords(t *testing.T) {
	lost, other := recordFrom("Retrying 2 0"), testRecord("a", "evt_2", delivery.Retrying, 1)
	loseTest(t, func(t *testing.T, w *world, r *Recorder, start func()) {
		r.o.Writers = 1
		wantOpen(t, r, 1)
		var got answers
		offer(t, r, testRecord("a", "evt_2", delivery.Delivered, 2), got.done)
		start()
		settle()
		if want := []string{"status " + Name(&other), "status " + Name(&lost)}; !slices.Equal(w.written(), want) {
			t.Errorf("writes are %v, want %v", w.written(), want)
		}
	}, lost, other)
	loseTest(t, func(t *testing.T, w *world, r *Recorder, start func()) {
		wantOpen(t, r, 1)
		clear(w.objects) // somebody deletes it
		p := testEndpoint("a")
		w.objects[w.id(p)] = p
		start()
		settle()
		if len(w.written()) != 0 {
			t.Errorf("writes are %v", w.written())
		}
	}, lost)
}

func TestTheShelfKnowsWhatAQueueHolds(t *testing.T) {
	s := newShelf()
	put := func(namespace, name, queue string, done bool) {
		i := item{key: types.NamespacedName{Namespace: namespace, Name: name}, queue: queue}
		if done {
			i.finished = epoch
		}
		s.put(i)
	}
	put("a", "1", "q1", false)
	put("a", "2", "q1", true)
	put("a", "3", "q2", false)
	put("b", "4", "q1", false)
	put("b", "5", "", false)
	if got := s.ofQueue("a", "q1"); len(got) != 1 || got[0].Name != "1" {
		t.Errorf("the queue holds %v", got)
	}
	if got := s.ofQueue("", "q1"); len(got) != 2 {
		t.Errorf("in all namespaces the queue holds %v", got)
	}
	put("a", "1", "q2", false) // handed over
	put("b", "4", "q1", true)
	if len(s.ofQueue("", "q1")) != 0 || len(s.ofQueue("a", "q2")) != 2 {
		t.Errorf("shelf is %+v", s.byQueue)
	}
	s.gone(types.NamespacedName{Namespace: "a", Name: "1"})
	s.gone(types.NamespacedName{Namespace: "a", Name: "3"})
	if len(s.byQueue) != 0 {
		t.Errorf("shelf is %+v, want it empty", s.byQueue)
	}
}

func TestLosingWaitsForRoomNoLongerThanItsContext(t *testing.T) {
	loseTest(t, func(t *testing.T, _ *world, r *Recorder, _ func()) {
		for range cap(r.room.all) / namespacePart {
			if err := r.room.enter(t.Context(), r.stop, testNamespace); err != nil {
				t.Fatal(err)
			}
		}
		_ = r.Stop(t.Context())
		if _, _, err := r.Lose(t.Context(), testNamespace, "q1"); err == nil {
			t.Error("a loss went into a full recorder")
		}
		synctest.Wait()
		advance(time.Second)
	}, recordFrom("Retrying 2 0"))
}
