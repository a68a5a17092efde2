// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package record

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/apimachinery/pkg/types"

	"github.com/garyclub/webhook-operator/api/v1alpha1"
	"github.com/garyclub/webhook-operator/internal/delivery"
	"github.com/garyclub/webhook-operator/internal/endpoint"
)

func TestTheNextStepForAQueue(t *testing.T) {
	at := epoch.Add(48 * time.Hour)
	minutes := func(n int) time.Time { return at.Add(time.Duration(n) * time.Minute) }
	gone := watch{gone: minutes(-2)}
	settled := watch{gone: minutes(-2), settled: true}
	soon := at.Add(-arrivalTime + 1)
	heard := sighting{heard: minutes(-5), idle: true}
	cases := map[string]struct {
		s    sighting
		w    watch
		want step
	}{
		"first seen":               {sighting{pending: 3}, watch{}, stepAsk},
		"asked a moment ago":       {sighting{pending: 3}, watch{askAfter: minutes(1)}, stepNone},
		"asked a while ago":        {sighting{pending: 3}, watch{askAfter: at}, stepAsk},
		"gone for a moment":        {sighting{pending: 3}, watch{gone: at.Add(-lossDelay + 1)}, stepNone},
		"gone for a minute":        {sighting{pending: 3}, watch{gone: at.Add(-lossDelay)}, stepLose},
		"the ledger is not there":  {sighting{lost: true}, gone, stepNone},
		"the ledger is there":      {sighting{lost: true, lostWritten: true}, gone, stepLoseRecords},
		"nothing was pending":      {heard, gone, stepSeekRecords},
		"nothing, 1 ns too early":  {heard, watch{gone: soon}, stepSeekRecords},
		"nothing, an hour ago":     {heard, watch{gone: at.Add(-arrivalTime)}, stepLoseRecords},
		"records are being":        {heard, watch{gone: minutes(-90), repeatAfter: minutes(1)}, stepNone},
		"records are again":        {heard, watch{gone: minutes(-90), repeatAfter: at}, stepLoseRecords},
		"all is said":              {heard, settled, stepNone},
		"a day later":              {sighting{heard: minutes(-24 * 60), idle: true}, settled, stepFold},
		"it needs its place":       {sighting{heard: minutes(-5), idle: true, crowded: true}, settled, stepFold},
		"it needs it, and is busy": {sighting{heard: minutes(-5), crowded: true}, settled, stepNone},
		"a day later, it is busy":  {sighting{heard: minutes(-24 * 60)}, settled, stepNone},
		"a day later, it is lost":  {sighting{heard: minutes(-24 * 60), idle: true, lost: true, lostWritten: true}, settled, stepFold},
		"it has more, after all":   {sighting{heard: minutes(-24 * 60), idle: true, pending: 1}, settled, stepLose},
		"it was there, after all":  {sighting{pending: 3, lost: false}, gone, stepLose},
		"it was never heard of":    {sighting{idle: true}, settled, stepFold},
		"an old one, not asked of": {sighting{heard: minutes(-24 * 60), idle: true}, watch{}, stepAsk},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			if got := nextStep(&tc.s, &tc.w, at); got != tc.want {
				t.Errorf("step is %d, want %d", got, tc.want)
			}
		})
	}
}

// pods are those that exist and the dispatchers that are connected, by UID.
type pods struct {
	mu              sync.Mutex
	alive, connects map[string]bool
	asked           []string
	err             error
}

func newPods() *pods { return &pods{alive: map[string]bool{}, connects: map[string]bool{}} }

func (p *pods) Exists(ctx context.Context, _, _, uid string) (bool, error) {
	if err := ctx.Err(); err != nil {
		return false, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.asked = append(p.asked, uid)
	return p.alive[uid], p.err
}

func (p *pods) Connected(uid string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.connects[uid]
}

func (p *pods) set(uid string, alive, connected bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.alive[uid], p.connects[uid] = alive, connected
}

func (p *pods) asks() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.asked)
}

// keeper is the manager's part of the story: one after another, on one world.
type keeper struct {
	t        *testing.T
	w        *world
	pods     *pods
	shelf    *shelfFake
	metrics  *Metrics
	ledger   *Ledger
	recorder *Recorder
	losses   *Losses
	stop     func()

	mu     sync.Mutex
	exists func(namespace, uid string) bool
}

func (k *keeper) Exists() func(namespace, uid string) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.exists
}

func (k *keeper) existing(f func(namespace, uid string) bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.exists = f
}

func newKeeper(t *testing.T) *keeper {
	k := &keeper{t: t, w: newWorld(testEndpoint("a")), pods: newPods(), metrics: NewMetrics(nil),
		shelf: &shelfFake{queues: map[string][]types.NamespacedName{}}}
	k.start()
	return k
}

// start is the next leader.
func (k *keeper) start() {
	k.t.Helper()
	if k.stop != nil {
		k.stop()
	}
	var err error
	k.ledger, err = NewLedger(LedgerOptions{Client: k.w, Reader: k.w, Namespace: "webhook-system", Metrics: k.metrics})
	must(k.t, err)
	k.recorder, err = New(Options{Client: k.w, Reader: k.w, Headroom: fixedHeadroom(1), Shelf: k.shelf, Metrics: k.metrics})
	must(k.t, err)
	k.losses, err = NewLosses(LossOptions{Ledger: k.ledger, Recorder: k.recorder, Dispatchers: k.pods, Pods: k.pods, Endpoints: k, Metrics: k.metrics})
	must(k.t, err)
	must(k.t, k.ledger.Load(k.t.Context()))
	ctx, cancel := context.WithCancel(context.WithoutCancel(k.t.Context()))
	var running sync.WaitGroup
	for _, start := range []func(context.Context) error{k.ledger.Start, k.recorder.Start, k.losses.Start} {
		running.Go(func() {
			if err := start(ctx); err != nil {
				k.t.Error(err)
			}
		})
	}
	k.stop = sync.OnceFunc(func() {
		cancel()
		running.Wait()
	})
}

func keeperTest(t *testing.T, test func(t *testing.T, k *keeper)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		k := newKeeper(t)
		test(t, k)
		k.stop()
	})
}

// report has a queue report while its dispatcher is connected.
func (k *keeper) report(from delivery.Source, c ...delivery.Counters) {
	k.t.Helper()
	k.pods.set(from.PodUID, true, true)
	must(k.t, k.ledger.Count(k.t.Context(), from, c, func() {}))
	k.pass(10 * time.Second)
}

func (k *keeper) pass(d time.Duration) {
	advance(d)
	synctest.Wait()
}

// record puts a record into the cluster that the queue holds.
func (k *keeper) record(words, queueID string) delivery.Record {
	r := recordFrom(words)
	k.put(&r, queueID)
	return r
}

func (k *keeper) put(r *delivery.Record, queueID string) {
	r.QueueID = queueID
	o := newObject(r)
	setStatus(o, r)
	k.w.mu.Lock()
	defer k.w.mu.Unlock()
	k.w.objects[k.w.id(o)] = o
	k.shelf.queues[testNamespace+"/"+queueID] = append(k.shelf.queues[testNamespace+"/"+queueID], keyOf(o))
}

func (k *keeper) want(step string, want Totals) {
	k.t.Helper()
	got, _ := k.ledger.Totals(testNamespace, "uid-a")
	if got.Succeeded != want.Succeeded || got.Failed != want.Failed || got.Pending != want.Pending || got.Lost != want.Lost {
		k.t.Errorf("%s: totals are %+v, want %+v", step, got, want)
	}
}

// pages are the ledger's in the cluster, by queue id.
func (k *keeper) pages() (ids []string) {
	k.t.Helper()
	k.w.mu.Lock()
	defer k.w.mu.Unlock()
	for id, o := range k.w.objects {
		if strings.Contains(id, "ConfigMap") {
			ids = append(ids, o.GetAnnotations()[annotationQueue])
		}
	}
	slices.Sort(ids)
	return ids
}

func (k *keeper) wantPages(step string, want ...string) {
	k.t.Helper()
	if got := k.pages(); !slices.Equal(got, want) {
		k.t.Errorf("%s: there are pages of %q, want %q", step, got, want)
	}
}

func value(t *testing.T, c prometheus.Collector) float64 {
	t.Helper()
	r := prometheus.NewRegistry()
	r.MustRegister(c)
	families, err := r.Gather()
	must(t, err)
	return families[0].GetMetric()[0].GetCounter().GetValue()
}

func TestAQueueThatWentWithItsPodIsSaidToBeLost(t *testing.T) {
	keeperTest(t, func(t *testing.T, k *keeper) {
		k.report(sourceOf("q1"), counted(5, 1, 3))
		r := k.record("Retrying 2 0", "q1")
		k.pass(time.Hour)
		k.want("while all is well", Totals{Succeeded: 5, Failed: 1, Pending: 3})
		if k.pods.asks() != 0 {
			t.Error("a pod was asked for although its dispatcher is connected")
		}
		k.pods.set("pod-uid-q1", true, false) // it hangs, or starts anew
		k.pass(10 * time.Minute)
		k.want("while the pod is there", Totals{Succeeded: 5, Failed: 1, Pending: 3})
		if n := k.pods.asks(); n < 8 || n > 11 {
			t.Errorf("the pod was asked for %d times in 10 minutes", n)
		}
		before := len(k.w.written())
		k.pods.set("pod-uid-q1", false, false)
		k.pass(2 * time.Minute) // asked for, at the latest, after one
		k.pass(time.Minute)
		k.want("a while after the pod went", Totals{Succeeded: 5, Failed: 1, Lost: 3})
		if outcome := k.w.outcome(r); outcome != v1alpha1.DeliveryFailed {
			t.Errorf("outcome is %q", outcome)
		}
		want := []string{"update " + LedgerName(testNamespace, "q1"), "status " + Name(&r)}
		if got := k.w.written()[before:]; !slices.Equal(got, want) {
			t.Errorf("writes are %v, want %v", got, want)
		}
		if queues, deliveries := value(t, k.metrics.queuesLost), value(t, k.metrics.deliveriesLost); queues != 1 || deliveries != 3 {
			t.Errorf("%v queues and %v deliveries are counted", queues, deliveries)
		}
		k.start() // the next leader says it again
		k.pass(10 * time.Minute)
		k.want("after a failover", Totals{Succeeded: 5, Failed: 1, Lost: 3})
		if queues := value(t, k.metrics.queuesLost); queues != 1 {
			t.Errorf("%v queues are counted", queues)
		}
		// It turns up all the same, and then goes for good.
		k.report(sourceOf("q1"), counted(6, 1, 2))
		k.want("it turned up", Totals{Succeeded: 6, Failed: 1, Pending: 2, Lost: 3})
		k.pods.set("pod-uid-q1", false, false)
		k.pass(4 * time.Minute)
		k.want("gone for good", Totals{Succeeded: 6, Failed: 1, Lost: 5})
	})
}

// What was handed over before the pod went is said by the gateway, in time of its own.
func TestWhatLeftAQueueInTimeIsNotSaidToBeLost(t *testing.T) {
	for name, arrives := range map[string]bool{"the gateway says so": true, "nobody says anything": false} {
		t.Run(name, func(t *testing.T) {
			keeperTest(t, func(t *testing.T, k *keeper) {
				k.report(sourceOf("q1"), counted(5, 1, 0))
				r := k.record("Retrying 2 0", "q1")
				k.pods.set("pod-uid-q1", false, false)
				k.pass(reconnectTime + 50*time.Minute)
				if outcome := k.w.outcome(r); outcome != v1alpha1.DeliveryRetrying {
					t.Errorf("outcome is %q before the gateway had time", outcome)
				}
				want := v1alpha1.DeliveryFailed
				if arrives {
					moved := recordFrom("Retrying 2 1")
					moved.QueueID, want = "gq", v1alpha1.DeliveryRetrying
					must(t, k.recorder.Offer(t.Context(), testNamespace, moved, func(bool) {}))
				}
				k.pass(30 * time.Minute)
				if outcome := k.w.outcome(r); outcome != want {
					t.Errorf("outcome is %q, want %q", outcome, want)
				}
				k.want("at the end", Totals{Succeeded: 5, Failed: 1})
			})
		})
	}
}

// A namespace's part of the recorder is taken, so that each of its queues waits in vain.
func TestRecordsThatCannotBeLostHoldUpNoOtherQueue(t *testing.T) {
	keeperTest(t, func(t *testing.T, k *keeper) {
		const blocked = 30
		for i := range blocked {
			id := fmt.Sprintf("q%d", i)
			r := testRecord("a", "evt_"+id, delivery.Retrying, 2)
			k.put(&r, id)
			k.pods.set("pod-uid-"+id, false, false)
			must(t, k.ledger.Count(t.Context(), sourceOf(id), []delivery.Counters{counted(1, 0, 1)}, func() {}))
		}
		for range cap(k.recorder.room.all) / namespacePart {
			must(t, k.recorder.room.enter(t.Context(), k.recorder.stop, testNamespace))
		}
		k.pass(reconnectTime + 70*time.Second) // their records are being waited for
		other := delivery.Source{Namespace: "other", Pod: "p", PodUID: "u", QueueID: "oq"}
		k.report(other, delivery.Counters{UID: "uid-b", Ref: endpoint.Ref{Namespace: "other", Name: "b"}, Pending: 4})
		k.pods.set("u", false, false)
		k.pass(2 * time.Minute)
		if totals, _ := k.ledger.Totals("other", "uid-b"); totals.Lost != 4 {
			t.Errorf("totals of another namespace are %+v", totals)
		}
		k.want("of all that were blocked", Totals{Succeeded: blocked, Lost: blocked})
	})
}

func TestPodsInWhichSomethingMayBeLostAreAskedForFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all := newPods()
		l := &Losses{o: LossOptions{Pods: all}, watches: map[bookKey]*watch{}}
		var sightings []*sighting
		add := func(kind string, n int, pending int64, askAfter time.Time) {
			for i := range n {
				key := bookKey{"n", fmt.Sprintf("%s%02d", kind, i)}
				sightings = append(sightings, &sighting{key: key, pod: holder{podUID: kind}, pending: pending})
				l.watches[key] = &watch{askAfter: askAfter}
			}
		}
		add("idle", 50, 0, time.Time{})
		add("holds", 50, 1, epoch)
		l.ask(t.Context(), sightings)
		slices.Sort(all.asked)
		if n := len(all.asked); n != asksPerSweep || all.asked[n-asksPerSweep/4-1] != "holds" || all.asked[n-asksPerSweep/4] != "idle" {
			t.Errorf("asked for %v", all.asked)
		}
		all.asked = nil
		l.ask(t.Context(), sightings[:70])
		if n := len(all.asked); n != asksPerSweep {
			t.Errorf("asked for %d", n)
		}
		all.asked = nil
		l.ask(t.Context(), sightings[:3])
		if n := len(all.asked); n != 3 {
			t.Errorf("asked for %d of 3", n)
		}
	})
}

func persistentSource() delivery.Source {
	return delivery.Source{Namespace: testNamespace, Pod: "p-0", PodUID: "u", QueueID: "q1", Persistent: true}
}

func TestAQueueOnAVolumeThatNobodyHasHeardOfForLongIsLost(t *testing.T) {
	const day = 24 * time.Hour
	keeperTest(t, func(t *testing.T, k *keeper) {
		k.report(persistentSource(), counted(5, 1, 3))
		r := k.record("Retrying 2 0", "q1")
		k.pass(30 * day) // connected, with nothing to report
		k.start()
		k.pods.set("u", true, false) // it hangs
		k.pass(10 * day)
		k.want("while the pod is there", Totals{Succeeded: 5, Failed: 1, Pending: 3})
		k.report(persistentSource(), counted(5, 1, 3))
		k.pods.set("u", false, false)
		k.pass(7*day + 20*time.Hour)
		k.start()
		k.want("for a week", Totals{Succeeded: 5, Failed: 1, Pending: 3})
		k.pass(5 * time.Hour)
		k.want("for more than eight days", Totals{Succeeded: 5, Failed: 1, Lost: 3})
		if outcome := k.w.outcome(r); outcome != v1alpha1.DeliveryFailed {
			t.Errorf("outcome is %q", outcome)
		}
		k.start()
		k.pass(day + time.Hour)
		k.want("at the end", Totals{Succeeded: 5, Failed: 1, Lost: 3})
		k.wantPages("at the end", foldedQueue)
	})
}

// The page says that a dispatcher was there which had nothing to report, also to a leader that finds its pod gone.
func TestAQuietQueueOnAVolumeIsNotTakenForGoneWhenItsPodIsReplaced(t *testing.T) {
	keeperTest(t, func(t *testing.T, k *keeper) {
		k.report(persistentSource(), counted(5, 1, 3))
		before := len(k.w.written())
		k.pass(20 * 24 * time.Hour)
		if n := len(k.w.written()) - before; n < 19 || n > 20 {
			t.Errorf("%d writes in 20 days", n)
		}
		k.pods.set("u", false, false)
		k.start()
		k.pass(time.Hour)
		again := persistentSource()
		again.PodUID = "u2"
		k.report(again, counted(6, 1, 2))
		k.want("in its next pod", Totals{Succeeded: 6, Failed: 1, Pending: 2})
		k.wantPages("in its next pod", "q1")
	})
}

func TestANamespaceMayHaveAPartOfTheLedgerAndAPodAFewQueues(t *testing.T) {
	l := newLedger(t, newWorld())
	must(t, l.Load(t.Context()))
	take := func(namespace, podUID, queueID string) bool {
		before := l.count
		must(t, l.Count(t.Context(), delivery.Source{Namespace: namespace, Pod: "p", PodUID: podUID, QueueID: queueID},
			[]delivery.Counters{counted(1, 0, 0)}, func() {}))
		return l.count > before
	}
	taken := 0
	for i := range 2 * maxPerPod {
		if take("pod", "u", fmt.Sprintf("q%d", i)) {
			taken++
		}
	}
	if taken != maxPerPod || !take("pod", "u2", "other") || !take("pod", "", "nobody knows whose") {
		t.Errorf("%d queues of one pod are in the ledger", taken)
	}
	for i := range maxPerNamespace + 10 {
		take("busy", fmt.Sprintf("u%d", i), fmt.Sprintf("q%d", i))
	}
	if n := len(l.books["busy"]); n != maxPerNamespace || !take(testNamespace, "u", "q") {
		t.Errorf("%d queues of one namespace are in the ledger", n)
	}
	if !l.crowded("busy") || l.crowded("pod") {
		t.Error("the wrong namespaces are crowded")
	}
}

func TestQueuesThatAreGoneAreFoldedAtOnceWhenPlacesAreScarce(t *testing.T) {
	keeperTest(t, func(t *testing.T, k *keeper) {
		k.report(sourceOf("q1"), counted(5, 1, 3))
		k.report(sourceOf("q2"), counted(1, 0, 0))
		k.report(sourceOf("q3"), counted(1, 0, 0))
		k.record("Retrying 2 0", "q3")
		k.ledger.mu.Lock()
		k.ledger.count = maxQueues/crowdedPart + 10
		k.ledger.mu.Unlock()
		for _, q := range []string{"q1", "q2", "q3"} {
			k.pods.set("pod-uid-"+q, false, false)
		}
		k.pass(reconnectTime + 3*time.Minute)
		k.want("soon", Totals{Succeeded: 7, Failed: 1, Lost: 3})
		k.wantPages("soon", "q3", foldedQueue) // a record names it
		k.pass(2 * time.Hour)
		k.wantPages("later", foldedQueue)
	})
}

func TestAFailoverBetweenTheStepsLosesNone(t *testing.T) {
	keeperTest(t, func(t *testing.T, k *keeper) {
		k.report(sourceOf("q1"), counted(5, 1, 3))
		r := k.record("Retrying 2 0", "q1")
		k.pods.set("pod-uid-q1", false, false)
		k.w.refusing("status")
		k.pass(5 * time.Minute)
		k.want("the ledger has it", Totals{Succeeded: 5, Failed: 1, Lost: 3})
		if outcome := k.w.outcome(r); outcome != v1alpha1.DeliveryRetrying {
			t.Errorf("outcome is %q", outcome)
		}
		k.w.refusing("")
		k.start()
		k.pass(5 * time.Minute)
		k.want("the records have it too", Totals{Succeeded: 5, Failed: 1, Lost: 3})
		if outcome := k.w.outcome(r); outcome != v1alpha1.DeliveryFailed {
			t.Errorf("outcome is %q", outcome)
		}
	})
}

func TestWhatIsNotLost(t *testing.T) {
	cases := map[string]struct {
		from    delivery.Source
		prepare func(k *keeper)
	}{
		"a queue that outlives its pod": {from: delivery.Source{Namespace: testNamespace, Pod: "p", PodUID: "u", QueueID: "q1", Persistent: true},
			prepare: func(k *keeper) { k.pods.set("u", false, false) }},
		"one of a pod that is not known": {from: delivery.Source{Namespace: testNamespace, QueueID: "q1"},
			prepare: func(k *keeper) { k.pods.set("", false, false) }},
		"one that comes back": {from: sourceOf("q1"), prepare: func(k *keeper) {
			k.pods.set("pod-uid-q1", false, false)
			k.pass(50 * time.Second)
			k.pods.set("pod-uid-q1", true, true)
		}},
		"one whose pod cannot be asked for": {from: sourceOf("q1"), prepare: func(k *keeper) {
			k.pods.set("pod-uid-q1", false, false)
			k.pods.mu.Lock()
			defer k.pods.mu.Unlock()
			k.pods.err = errors.New("forbidden")
		}},
		"one that has moved to another pod": {from: sourceOf("q1"), prepare: func(k *keeper) {
			k.pods.set("pod-uid-q1", false, false)
			k.pass(50 * time.Second)
			k.report(delivery.Source{Namespace: testNamespace, Pod: "p2", PodUID: "u2", QueueID: "q1"}, counted(5, 1, 3))
		}},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			keeperTest(t, func(t *testing.T, k *keeper) {
				k.report(tc.from, counted(5, 1, 3))
				k.pass(5 * time.Minute) // so that it does not begin with the time to reconnect
				tc.prepare(k)
				k.pass(72 * time.Hour)
				k.want("at the end", Totals{Succeeded: 5, Failed: 1, Pending: 3})
				k.wantPages("at the end", "q1")
			})
		})
	}
}

func TestDispatchersGetTimeToComeBackToAnotherManager(t *testing.T) {
	keeperTest(t, func(t *testing.T, k *keeper) {
		k.report(sourceOf("q1"), counted(5, 1, 3))
		k.pods.set("pod-uid-q1", false, false) // as far as the new manager can see
		k.start()
		k.pass(reconnectTime - time.Second)
		if k.pods.asks() != 0 {
			t.Error("the pod was asked for at once")
		}
	})
}

func TestPodsAreAskedForSlowly(t *testing.T) {
	keeperTest(t, func(t *testing.T, k *keeper) {
		const queues = 300
		for i := range queues {
			from := sourceOf(fmt.Sprintf("q%d", i))
			k.pods.set(from.PodUID, true, false)
			must(t, k.ledger.Count(t.Context(), from, []delivery.Counters{counted(1, 0, 1)}, func() {}))
		}
		k.pass(reconnectTime)
		before := k.pods.asks()
		k.pass(time.Minute - time.Second)
		if n := k.pods.asks() - before; n > 6*asksPerSweep {
			t.Errorf("%d pods were asked for in a minute", n)
		}
		k.pass(time.Hour)
		k.pods.mu.Lock()
		defer k.pods.mu.Unlock()
		slices.Sort(k.pods.asked)
		if n := len(slices.Compact(k.pods.asked)); n != queues {
			t.Errorf("%d of %d pods were ever asked for", n, queues)
		}
	})
}

func TestWhatIsGoneIsFoldedAfterADay(t *testing.T) {
	keeperTest(t, func(t *testing.T, k *keeper) {
		gone := counted(1, 1, 0)
		gone.Gone, gone.LastFailure = "g1", epoch
		k.report(sourceOf("q1"), counted(5, 1, 3)) // lost
		k.report(sourceOf("q2"), gone)             // gone with nothing pending
		k.report(sourceOf("q3"), counted(2, 0, 1)) // lives
		for _, q := range []string{"q1", "q2"} {
			k.pods.set("pod-uid-"+q, false, false)
		}
		want := Totals{Succeeded: 8, Failed: 2, Pending: 1, Lost: 3}
		k.pass(23 * time.Hour)
		k.want("before a day has passed", want)
		k.wantPages("before a day has passed", "q1", "q2", "q3")
		k.pass(2 * time.Hour)
		k.want("a day later", want)
		k.wantPages("a day later", "q3", foldedQueue)
		if n := value(t, k.metrics.queuesFolded); n != 2 || k.ledger.count != 2 {
			t.Errorf("%v queues are counted as folded, %d are in the ledger", n, k.ledger.count)
		}
		if totals, _ := k.ledger.Totals(testNamespace, "uid-a"); !slices.Equal(totals.Gone, []string{"g1"}) || !totals.LastFailure.Equal(epoch) {
			t.Errorf("totals are %+v", totals)
		}
		k.start()
		k.want("for the next leader", want)

		// One that turns up after that is not counted twice.
		k.report(sourceOf("q1"), counted(6, 1, 2))
		k.want("it turned up", want)

		// Another one follows, into the same page.
		k.pods.set("pod-uid-q3", false, false)
		k.pass(26 * time.Hour)
		k.want("all are gone", Totals{Succeeded: 8, Failed: 2, Lost: 4})
		k.wantPages("all are gone", foldedQueue)
	})
}

func TestACrashBetweenFoldAndDeletionCountsOnce(t *testing.T) {
	keeperTest(t, func(t *testing.T, k *keeper) {
		k.report(sourceOf("q1"), counted(5, 1, 3))
		k.pods.set("pod-uid-q1", false, false)
		k.w.refusing("delete")
		want := Totals{Succeeded: 5, Failed: 1, Lost: 3}
		k.pass(26 * time.Hour)
		k.want("folded and not deleted", want)
		k.wantPages("folded and not deleted", "q1", foldedQueue)
		k.start()
		k.want("after the crash", want)
		k.pass(10 * time.Minute)
		k.wantPages("still not deleted", "q1", foldedQueue)
		k.w.refusing("")
		k.pass(10 * time.Minute)
		k.want("deleted", want)
		k.wantPages("deleted", foldedQueue)
		k.start()
		k.want("after another crash", want)
	})
}

func TestAWriteOfTheFoldWhoseAnswerWasLostCountsOnce(t *testing.T) {
	w := newWorld()
	ledgerTest(t, w, func(t *testing.T, l *Ledger) {
		report(t, l, "q1", counted(5, 1, 0))
		report(t, l, "q2", counted(2, 0, 0))
		advance(10 * time.Second)
		other := newLedger(t, w) // writes, and its answer is never seen here
		must(t, other.Load(t.Context()))
		must(t, other.Fold(t.Context(), testNamespace, []string{"q1"}))
		must(t, l.Fold(t.Context(), testNamespace, []string{"q1", "q2"}))
		wantTotals(t, l, Totals{Succeeded: 7, Failed: 1})
		must(t, l.DeleteFolded(t.Context(), 10))
		must(t, other.DeleteFolded(t.Context(), 10))
		third := newLedger(t, w)
		must(t, third.Load(t.Context()))
		wantTotals(t, third, Totals{Succeeded: 7, Failed: 1})
	})
}

func TestAQueueThatReportsIsNotFolded(t *testing.T) {
	w := newWorld()
	ledgerTest(t, w, func(t *testing.T, l *Ledger) {
		report(t, l, "busy", counted(5, 1, 0))
		report(t, l, "holds", counted(5, 1, 2))
		advance(10 * time.Second)
		done := report(t, l, "busy", counted(6, 1, 0))
		must(t, l.Fold(t.Context(), testNamespace, []string{"busy", "holds", "unknown", foldedQueue}))
		advance(10 * time.Second)
		synctest.Wait()
		wantTotals(t, l, Totals{Succeeded: 11, Failed: 2, Pending: 2})
		if done.Load() != 1 || l.count != 2 {
			t.Errorf("acknowledged %d times, %d books", done.Load(), l.count)
		}
		refused := make(chan error, 1)
		w.took = time.Second // so that a report comes while the fold is being written; nothing else is
		go func() {
			advance(500 * time.Millisecond)
			refused <- l.Count(t.Context(), sourceOf("busy"), []delivery.Counters{counted(7, 1, 0)}, func() {})
		}()
		must(t, l.Fold(t.Context(), testNamespace, []string{"busy"}))
		if wantTotals(t, l, Totals{Succeeded: 11, Failed: 2, Pending: 2}); <-refused == nil {
			t.Error("a report was taken by a page that was being folded")
		}
	})
}

func TestNamesOfFoldedQueuesAreBounded(t *testing.T) {
	p := &page{tallies: map[string]tally{}}
	kept := map[string]bool{digestOf("n", "q0"): true}
	for i := range maxFolded + 10 {
		p.fold(&page{namespace: "n", queueID: fmt.Sprintf("q%d", i)})
		p.prune(kept)
	}
	if len(p.folded) != maxFolded || p.folded[0] != digestOf("n", "q0") || p.folded[1] != digestOf("n", "q11") {
		t.Errorf("%d names are kept", len(p.folded))
	}
}

func TestCountersOfEndpointsThatAreGoneAreDropped(t *testing.T) {
	keeperTest(t, func(t *testing.T, k *keeper) {
		other := counted(3, 0, 0)
		other.UID, other.Ref.Name = "uid-b", "b"
		k.report(sourceOf("q1"), counted(5, 1, 0), other)
		k.report(sourceOf("q2"), counted(5, 1, 0))
		k.pods.set("pod-uid-q1", false, false)
		k.existing(func(_, uid string) bool { return uid == "uid-a" })
		k.pass(absentFor)
		if _, known := k.ledger.Totals(testNamespace, "uid-b"); !known {
			t.Error("dropped at once, when a cache may be behind")
		}
		k.pass(absentFor)
		if _, known := k.ledger.Totals(testNamespace, "uid-b"); known {
			t.Error("not dropped")
		}
		k.want("of the one that exists", Totals{Succeeded: 10, Failed: 2})
		k.pass(25 * time.Hour)
		k.wantPages("folded", "q2", foldedQueue)
		k.start()
		if _, known := k.ledger.Totals(testNamespace, "uid-b"); known {
			t.Error("it is in the page that was folded")
		}
		// The namespace goes.
		k.existing(func(string, string) bool { return false })
		k.pods.set("pod-uid-q2", false, false)
		k.pass(60 * time.Hour)
		k.wantPages("nothing is left")
		if k.ledger.count != 0 || len(k.ledger.books) != 0 || len(k.ledger.absent) != 0 {
			t.Errorf("%d books are left", k.ledger.count)
		}
	})
}

func TestNoCountersAreDroppedWhileItIsNotKnownWhatExists(t *testing.T) {
	keeperTest(t, func(t *testing.T, k *keeper) {
		k.report(sourceOf("q1"), counted(5, 1, 0))
		k.pass(72 * time.Hour)
		k.want("at the end", Totals{Succeeded: 5, Failed: 1})
	})
}

func TestAGatewaysCountersAreOfTheirNamespaces(t *testing.T) {
	gateway := delivery.Source{Namespace: "webhook-system", Pod: "gateway-0", PodUID: "gw", QueueID: "gq"}
	elsewhere := delivery.Counters{UID: "uid-b", Ref: endpoint.Ref{Namespace: "other", Name: "b"}, Succeeded: 2, Pending: 4}
	keeperTest(t, func(t *testing.T, k *keeper) {
		var changed []endpoint.Ref
		k.ledger.o.OnChange = func(r endpoint.Ref) { changed = append(changed, r) } // before anything is written
		k.report(gateway, counted(5, 1, 3), elsewhere)
		k.report(sourceOf("q1"), counted(1, 0, 0))
		check := func(step string, pending, lost int64) {
			t.Helper()
			k.want(step, Totals{Succeeded: 6, Failed: 1, Pending: 3 * pending, Lost: 3 * lost})
			got, known := k.ledger.Totals("other", "uid-b")
			if !known || got.Succeeded != 2 || got.Pending != 4*pending || got.Lost != 4*lost {
				t.Errorf("%s: totals of the other namespace are %+v", step, got)
			}
			if _, known := k.ledger.Totals("other", "uid-a"); known {
				t.Errorf("%s: an endpoint has counters in a namespace that it is not in", step)
			}
		}
		check("reported", 1, 0)
		slices.SortFunc(changed, func(a, b endpoint.Ref) int { return strings.Compare(a.Name, b.Name) })
		if want := []endpoint.Ref{{Namespace: testNamespace, Name: "a"}, {Namespace: testNamespace, Name: "a"}, {Namespace: "other", Name: "b"}}; !slices.Equal(changed, want) {
			t.Errorf("changed are %v, want %v", changed, want)
		}
		r := k.record("Retrying 2 0", "gq")
		k.shelf.queues["/gq"] = k.shelf.queues[testNamespace+"/gq"] // as the shelf answers for all namespaces
		k.start()
		check("for the next leader", 1, 0)
		k.pods.set("gw", false, false)
		k.pass(10 * time.Minute)
		check("lost", 0, 1)
		if outcome := k.w.outcome(r); outcome != v1alpha1.DeliveryFailed {
			t.Errorf("outcome is %q", outcome)
		}
		k.pass(26 * time.Hour)
		check("folded", 0, 1)
		k.wantPages("folded", "q1", foldedQueue)
		k.start()
		check("for the leader after that", 0, 1)
	})
}
