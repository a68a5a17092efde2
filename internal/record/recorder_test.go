// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package record

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"github.com/garyclub/webhook-operator/api/v1alpha1"
	"github.com/garyclub/webhook-operator/internal/delivery"
)

// recorderTest runs a test with a recorder, which is started when the test says so, on synctest's clock.
func recorderTest(t *testing.T, w *world, change func(*Options), test func(t *testing.T, r *Recorder, start func())) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		o := Options{Client: w, Reader: w, Headroom: fixedHeadroom(1)}
		if change != nil {
			change(&o)
		}
		r, err := New(o)
		if err != nil {
			t.Fatal(err)
		}
		start := func() {
			go func() {
				if err := r.Start(context.WithoutCancel(t.Context())); err != nil {
					t.Error(err)
				}
			}()
		}
		test(t, r, start)
		if err := r.Stop(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

func offer(t *testing.T, r *Recorder, d delivery.Record, done func(bool)) {
	t.Helper()
	if err := r.Offer(t.Context(), d.Ref.Namespace, d, done); err != nil {
		t.Fatal(err)
	}
}

func short(o *Options)      { o.Headroom = fixedHeadroom(0) }
func settle()               { advance(5 * time.Second); synctest.Wait() }
func aName(s string) string { return s[strings.LastIndex(s, " ")+1:] }

func TestADeliveryThatSucceedsAtOnceCostsTwoWrites(t *testing.T) {
	w := newWorld(testEndpoint("a"))
	recorderTest(t, w, nil, func(t *testing.T, r *Recorder, start func()) {
		start()
		var got answers
		offer(t, r, testRecord("a", "evt_1", delivery.Pending, 0), got.done)
		advance(500 * time.Millisecond)
		d := testRecord("a", "evt_1", delivery.Delivered, 1)
		offer(t, r, d, got.done)
		settle()
		got.want(t, true, true)
		name := Name(&d)
		if writes := w.written(); len(writes) != 2 || writes[0] != "create "+name || writes[1] != "status "+name {
			t.Errorf("writes are %v", writes)
		}
	})
}

func TestADeliveryThatHangsIsShownPendingAndBroughtToItsEnd(t *testing.T) {
	w := newWorld(testEndpoint("a"))
	recorderTest(t, w, nil, func(t *testing.T, r *Recorder, start func()) {
		start()
		var got answers
		d := testRecord("a", "evt_1", delivery.Pending, 0)
		for _, step := range []struct {
			state    delivery.State
			attempts int
			want     v1alpha1.DeliveryOutcome
		}{
			{delivery.Pending, 0, v1alpha1.DeliveryPending},
			{delivery.Retrying, 1, v1alpha1.DeliveryRetrying},
			{delivery.Failed, 4, v1alpha1.DeliveryFailed},
			{delivery.Retrying, 2, v1alpha1.DeliveryFailed}, // a late repeat
		} {
			offer(t, r, testRecord("a", "evt_1", step.state, step.attempts), got.done)
			settle()
			if outcome := w.outcome(d); outcome != step.want {
				t.Errorf("after %s: outcome is %q, want %q", step.state, outcome, step.want)
			}
		}
		got.want(t, true, true, true, true)
		if writes := w.written(); len(writes) != 4 {
			t.Errorf("writes are %v", writes)
		}
	})
}

func TestARepeatAfterALostAnswerWritesNothing(t *testing.T) {
	w := newWorld(testEndpoint("a"))
	recorderTest(t, w, nil, func(t *testing.T, r *Recorder, start func()) {
		start()
		var got answers
		for range 3 {
			offer(t, r, testRecord("a", "evt_1", delivery.Delivered, 1), got.done)
			settle()
		}
		got.want(t, true, true, true)
		if writes := w.written(); len(writes) != 2 {
			t.Errorf("writes are %v", writes)
		}
	})
}

func TestAboveTheBudgetTheBucketDecides(t *testing.T) {
	w := newWorld(testEndpoint("a"), testEndpoint("b"))
	recorderTest(t, w, short, func(t *testing.T, r *Recorder, start func()) {
		start()
		var successes, failures, other, test answers
		for i := range 100 {
			offer(t, r, testRecord("a", fmt.Sprintf("evt_%d", i), delivery.Delivered, 1), successes.done)
		}
		for i := range 40 {
			offer(t, r, testRecord("a", fmt.Sprintf("evt_f%d", i), delivery.Failed, 4), failures.done)
		}
		offer(t, r, testRecord("b", "evt_1", delivery.Delivered, 1), other.done)
		d := testRecord("a", "evt_t", delivery.Delivered, 1)
		d.Trigger = delivery.TriggerTest
		offer(t, r, d, test.done)
		settle()
		if n := count(successes.got(), true); n != bucketBurst || len(successes.got()) != 100 {
			t.Errorf("%d of %d successes recorded, want %d of 100", n, len(successes.got()), bucketBurst)
		}
		if n := count(failures.got(), true); n != 40 {
			t.Errorf("%d failures recorded, want all", n)
		}
		other.want(t, true)
		test.want(t, true)
	})
}

func TestARecordThatExistsIsBroughtToItsEndAboveTheBudget(t *testing.T) {
	w := newWorld(testEndpoint("a"))
	headroom := fixedHeadroom(1)
	recorderTest(t, w, func(o *Options) { o.Headroom = &headroom }, func(t *testing.T, r *Recorder, start func()) {
		start()
		var got answers
		d := testRecord("a", "evt_1", delivery.Retrying, 1)
		offer(t, r, d, got.done)
		settle()
		headroom = 0
		var filler answers
		for i := range bucketBurst + 10 {
			offer(t, r, testRecord("a", fmt.Sprintf("evt_x%d", i), delivery.Delivered, 1), filler.done)
		}
		offer(t, r, testRecord("a", "evt_1", delivery.Delivered, 2), got.done)
		settle()
		got.want(t, true, true)
		if outcome := w.outcome(d); outcome != v1alpha1.DeliveryDelivered {
			t.Errorf("outcome is %q", outcome)
		}
	})
}

func TestThatADeliveryMovedOnIsWrittenAboveTheBudget(t *testing.T) {
	for _, words := range []string{"Pending 0 1", "Retrying 1 1"} {
		stored := recordFrom("Retrying 1 0")
		w := newWorld(testEndpoint("a"))
		o := newObject(&stored)
		setStatus(o, &stored)
		w.objects[w.id(o)] = o
		recorderTest(t, w, short, func(t *testing.T, r *Recorder, start func()) {
			start()
			var filler, got, again, made answers
			for i := range bucketBurst + 1 {
				offer(t, r, testRecord("a", fmt.Sprintf("evt_x%d", i), delivery.Delivered, 1), filler.done)
			}
			settle()
			moved := recordFrom(words)
			moved.QueueID = "gq"
			offer(t, r, moved, got.done)
			settle()
			got.want(t, true)
			now := &v1alpha1.DeliveryAttempt{}
			must(t, w.Get(t.Context(), keyOf(o), now))
			if now.Status.QueueID != "gq" || now.Status.HandOvers != 1 {
				t.Errorf("%s: status is %+v", words, now.Status)
			}
			// What comes after that has the bucket to answer to, as has what was never recorded.
			moved = recordFrom("Retrying 2 1")
			moved.QueueID = "gq"
			offer(t, r, moved, again.done)
			moved.EventID = "evt_2"
			offer(t, r, moved, made.done)
			settle()
			again.want(t, false)
			made.want(t, false)
		})
	}
}

func TestTheEndComesWhileTheRecordIsBeingMade(t *testing.T) {
	w := newWorld(testEndpoint("a"))
	w.took = 2 * time.Second
	recorderTest(t, w, short, func(t *testing.T, r *Recorder, start func()) {
		start()
		var got answers
		d := testRecord("a", "evt_1", delivery.Retrying, 1)
		offer(t, r, d, got.done)
		advance(time.Second) // the create is under way
		r.mu.Lock()
		r.buckets[d.UID] = bucket{at: time.Now()}
		r.mu.Unlock()
		offer(t, r, testRecord("a", "evt_1", delivery.Delivered, 2), got.done)
		advance(30 * time.Second)
		got.want(t, true, true)
		if outcome := w.outcome(d); outcome != v1alpha1.DeliveryDelivered {
			t.Errorf("outcome is %q: nobody would ever change it", outcome)
		}
	})
}

func TestFinalUpdatesAndFailuresGoFirst(t *testing.T) {
	w := newWorld(testEndpoint("a"))
	recorderTest(t, w, func(o *Options) { o.Writers = 1 }, func(t *testing.T, r *Recorder, start func()) {
		var got answers
		existing := testRecord("a", "evt_final", delivery.Retrying, 1)
		o := newObject(&existing)
		setStatus(o, &existing)
		w.objects[w.id(o)] = o
		test := testRecord("a", "evt_test", delivery.Delivered, 1)
		test.Trigger = delivery.TriggerTest
		records := []delivery.Record{
			testRecord("a", "evt_success", delivery.Delivered, 1), test,
			testRecord("a", "evt_retry", delivery.Retrying, 1),
			testRecord("a", "evt_failure", delivery.Failed, 4),
			testRecord("a", "evt_final", delivery.Delivered, 2),
		}
		for i := range records {
			offer(t, r, records[i], got.done)
		}
		start()
		settle()
		writes, last := w.written(), len(records)
		for _, write := range writes {
			if strings.HasPrefix(write, "create ") || last == len(records) {
				last--
				if want := Name(&records[last]); aName(write) != want {
					t.Errorf("writes are %v, want %s next", writes, want)
				}
			}
		}
		if last != 0 {
			t.Errorf("writes are %v", writes)
		}
	})
}

func TestMoreFailuresThanTheHistoryKeepsAreNotWritten(t *testing.T) {
	p := testEndpoint("a")
	p.Spec.History.Failed = 5
	w := newWorld(p)
	recorderTest(t, w, short, func(t *testing.T, r *Recorder, start func()) {
		var got answers
		last := delivery.Record{}
		for i := range 100 {
			last = testRecord("a", fmt.Sprintf("evt_%d", i), delivery.Failed, 4)
			offer(t, r, last, got.done)
		}
		start()
		settle()
		if n := count(got.got(), true); len(got.got()) != 100 || n < 5 || n > 5+defaultWriters {
			t.Errorf("%d of %d recorded, want the latest 5", n, len(got.got()))
		}
		if outcome := w.outcome(last); outcome != v1alpha1.DeliveryFailed {
			t.Errorf("the latest failure is %q", outcome)
		}
	})
}

func TestErrorsAreRepeatedUntilTheyPass(t *testing.T) {
	resource := schema.GroupResource{Resource: "deliveryattempts"}
	terminating := apierrors.NewForbidden(resource, "x", errors.New("terminating"))
	terminating.ErrStatus.Details.Causes = []metav1.StatusCause{{Type: corev1.NamespaceTerminatingCause}}
	cases := map[string]struct {
		err         error
		times       int // that a write is refused
		want        bool
		wantRefused int
	}{
		"the API server is away":         {errors.New("connection refused"), 2 * maxRefusals, true, 2 * maxRefusals},
		"a right is missing for a while": {apierrors.NewForbidden(resource, "x", errors.New("no")), 5, true, 5},
		"a quota is used up":             {apierrors.NewForbidden(resource, "x", errors.New("exceeded quota")), 1000, false, maxRefusals},
		"the namespace is going":         {terminating, 5, false, 1},
		"the record is never allowed":    {apierrors.NewInvalid(schema.GroupKind{}, "x", nil), 5, false, 1},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			w, refused := newWorld(testEndpoint("a")), 0
			w.refuse = func(string) error {
				if refused >= tc.times {
					return nil
				}
				refused++
				return tc.err
			}
			recorderTest(t, w, nil, func(t *testing.T, r *Recorder, start func()) {
				start()
				var got answers
				offer(t, r, testRecord("a", "evt_1", delivery.Failed, 4), got.done)
				advance(10 * time.Minute)
				synctest.Wait()
				got.want(t, tc.want)
				if refused != tc.wantRefused {
					t.Errorf("%d writes were refused, want %d", refused, tc.wantRefused)
				}
			})
		})
	}
}

func TestTheCacheIsBehind(t *testing.T) {
	// The cache knows the endpoint, and nothing of the record that the leader before has made.
	server, cache := newWorld(testEndpoint("a")), newWorld(testEndpoint("a"))
	d := testRecord("a", "evt_1", delivery.Retrying, 1)
	if err := server.Create(t.Context(), newObject(&d)); err != nil {
		t.Fatal(err)
	}
	recorderTest(t, server, func(o *Options) { o.Client = &behind{server, cache} }, func(t *testing.T, r *Recorder, start func()) {
		start()
		var got answers
		offer(t, r, d, got.done)
		settle()
		offer(t, r, testRecord("a", "evt_1", delivery.Delivered, 2), got.done)
		settle()
		got.want(t, true, true)
		if outcome := server.outcome(d); outcome != v1alpha1.DeliveryDelivered {
			t.Errorf("outcome is %q", outcome)
		}
	})
}

func TestADeliveryOfAnotherEndpointOfTheNameIsLeftOut(t *testing.T) {
	w := newWorld(testEndpoint("a"))
	recorderTest(t, w, nil, func(t *testing.T, r *Recorder, start func()) {
		start()
		var got answers
		d := testRecord("a", "evt_1", delivery.Failed, 4)
		d.UID = "uid-of-the-one-before"
		offer(t, r, d, got.done)
		offer(t, r, testRecord("deleted", "evt_1", delivery.Failed, 4), got.done)
		settle()
		got.want(t, false, false)
		if writes := w.written(); len(writes) != 0 {
			t.Errorf("writes are %v", writes)
		}
	})
}

func TestANamespaceThatTookItsPartBlocksItselfAlone(t *testing.T) {
	elsewhere := testEndpoint("b")
	elsewhere.Namespace = "elsewhere"
	w := newWorld(testEndpoint("a"), elsewhere)
	recorderTest(t, w, func(o *Options) { o.MaxWaiting = 2 * namespacePart }, func(t *testing.T, r *Recorder, start func()) {
		var got answers
		for i := range 2 {
			offer(t, r, testRecord("a", fmt.Sprintf("evt_%d", i), delivery.Failed, 4), got.done)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		err := r.Offer(ctx, testNamespace, testRecord("a", "evt_3", delivery.Failed, 4), got.done)
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("offered beyond the namespace's part: %v", err)
		}
		other := testRecord("b", "evt_4", delivery.Failed, 4)
		other.Ref.Namespace = "elsewhere"
		offer(t, r, other, got.done)
		start()
		offer(t, r, testRecord("a", "evt_3", delivery.Failed, 4), got.done)
		settle()
		got.want(t, true, true, true, true)
		if len(r.room.byNamespace) != 0 || len(r.room.all) != 0 {
			t.Errorf("places are taken although all was answered: %v", r.room.byNamespace)
		}
	})
}

func TestAFullRecorderBlocks(t *testing.T) {
	w := newWorld()
	recorderTest(t, w, func(o *Options) { o.MaxWaiting = namespacePart }, func(t *testing.T, r *Recorder, start func()) {
		var got answers
		filler := func(namespace string) delivery.Record {
			d := testRecord("a", "evt_1", delivery.Failed, 4)
			d.Ref.Namespace = namespace
			return d
		}
		for i := range namespacePart {
			offer(t, r, filler(fmt.Sprintf("n%d", i)), got.done)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := r.Offer(ctx, "another", filler("another"), got.done); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("offered into a full recorder: %v", err)
		}
		if got := len(r.room.byNamespace); got != namespacePart {
			t.Errorf("%d namespaces are known, want %d: one that gave up is not", got, namespacePart)
		}
		start()
		settle()
		got.want(t, false, false, false, false) // their endpoints do not exist
	})
}

func TestAHistoryOfNoneCostsNoWrites(t *testing.T) {
	p := testEndpoint("a")
	p.Spec.History.Succeeded = 0
	w := newWorld(p)
	recorderTest(t, w, nil, func(t *testing.T, r *Recorder, start func()) {
		start()
		var delivered, failed answers
		offer(t, r, testRecord("a", "evt_1", delivery.Delivered, 1), delivered.done)
		offer(t, r, testRecord("a", "evt_2", delivery.Failed, 4), failed.done)
		settle()
		delivered.want(t, false)
		failed.want(t, true)
	})
}

// shelfFake says what it is told to.
type shelfFake struct {
	backlog    atomic.Int64
	activeFull bool
	queues     map[string][]types.NamespacedName
}

func (s *shelfFake) Backlog() int           { return int(s.backlog.Load()) }
func (s *shelfFake) ActiveFull(string) bool { return s.activeFull }

func (s *shelfFake) OfQueue(namespace, queueID string) ([]types.NamespacedName, bool) {
	return s.queues[namespace+"/"+queueID], true
}

func TestNoRecordsAreMadeWhileDeletionsAreFarBehind(t *testing.T) {
	w, s := newWorld(testEndpoint("a")), &shelfFake{activeFull: true}
	s.backlog.Store(fullBacklog + 1)
	recorderTest(t, w, func(o *Options) { o.Shelf = s }, func(t *testing.T, r *Recorder, start func()) {
		start()
		var failed, active answers
		offer(t, r, testRecord("a", "evt_1", delivery.Failed, 4), failed.done)
		offer(t, r, testRecord("a", "evt_2", delivery.Retrying, 1), active.done)
		settle()
		failed.want(t)
		active.want(t, false)
		s.backlog.Store(0)
		settle()
		failed.want(t, true)
	})
}

func count(all []bool, want bool) (n int) {
	for _, b := range all {
		if b == want {
			n++
		}
	}
	return n
}
