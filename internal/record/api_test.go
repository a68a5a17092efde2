// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package record

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/garyclub/webhook-operator/api/v1alpha1"
	"github.com/garyclub/webhook-operator/internal/delivery"
	"github.com/garyclub/webhook-operator/internal/endpoint"
	"github.com/garyclub/webhook-operator/internal/fixture/controlplane"
)

// plane is started by the first test that asks for it, so that the others, and the fuzz workers, need none.
var plane = sync.OnceValues(func() (*controlplane.ControlPlane, error) {
	ctx := context.Background()
	c, err := controlplane.Start(ctx, controlplane.Options{})
	if err != nil {
		return nil, err
	}
	started = c
	return c, c.InstallCRDs(ctx, "../../config/crd/bases")
})

var started *controlplane.ControlPlane

func TestMain(m *testing.M) {
	code := m.Run()
	if started != nil {
		started.Stop()
	}
	os.Exit(code)
}

// cluster is the package as the manager has it: a cache, a client within the budget, and the parts, all running.
type cluster struct {
	t         *testing.T
	namespace string
	client    client.Client // with the cache
	direct    client.Client
	budget    *Budget
	recorder  *Recorder
	retention *Retention
}

type clusterOptions struct {
	rate                float64
	perNamespace, inAll int
}

func newCluster(t *testing.T, o clusterOptions) *cluster {
	t.Helper()
	c, err := plane()
	if err != nil {
		t.Fatal(err)
	}
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, v1alpha1.AddToScheme} {
		must(t, add(scheme))
	}
	k := &cluster{t: t, namespace: "n" + strconv.FormatInt(time.Now().UnixNano(), 36)}
	must(t, c.Namespace(t.Context(), k.namespace))
	k.budget, err = NewBudget(BudgetOptions{Rate: o.rate})
	must(t, err)
	paced := c.Config()
	paced.UserAgent = userAgent(k.namespace)
	paced.WrapTransport = k.budget.Wrap
	k.direct, err = client.New(c.Config(), client.Options{Scheme: scheme})
	must(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	store, err := cache.New(paced, cache.Options{Scheme: scheme, DefaultNamespaces: map[string]cache.Config{k.namespace: {}}})
	must(t, err)
	k.client, err = client.New(paced, client.Options{Scheme: scheme, Cache: &client.CacheOptions{Reader: store}})
	must(t, err)
	k.retention, err = NewRetention(RetentionOptions{Client: k.client, Informers: store, PerNamespace: o.perNamespace, InAll: o.inAll})
	must(t, err)
	k.recorder, err = New(Options{Client: k.client, Reader: k.direct, Headroom: k.budget, Shelf: k.retention})
	must(t, err)
	k.run(ctx, cancel, store.Start, k.retention.Start, k.recorder.Start)
	if !store.WaitForCacheSync(ctx) {
		t.Fatal("no cache")
	}
	return k
}

func userAgent(namespace string) string { return "record-test-" + namespace }

func (k *cluster) run(ctx context.Context, cancel func(), parts ...func(context.Context) error) {
	var running sync.WaitGroup
	for _, start := range parts {
		running.Go(func() {
			if err := start(ctx); err != nil {
				k.t.Error(err)
			}
		})
	}
	k.t.Cleanup(func() {
		cancel()
		running.Wait()
	})
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (k *cluster) endpoint(name string, change func(*v1alpha1.WebhookEndpoint)) *v1alpha1.WebhookEndpoint {
	k.t.Helper()
	p := &v1alpha1.WebhookEndpoint{}
	p.Namespace, p.Name = k.namespace, name
	p.Spec.URL = "https://hooks.example.com/catch/1"
	p.Spec.Events = []v1alpha1.EventType{"call.completed"}
	if change != nil {
		change(p)
	}
	must(k.t, k.direct.Create(k.t.Context(), p))
	k.eventually(func() error {
		return k.client.Get(k.t.Context(), client.ObjectKeyFromObject(p), &v1alpha1.WebhookEndpoint{})
	})
	return p
}

func (k *cluster) record(p *v1alpha1.WebhookEndpoint, eventID string, s delivery.State, attempts int) delivery.Record {
	r := testRecord(p.Name, eventID, s, attempts)
	r.Ref.Namespace, r.UID = p.Namespace, string(p.UID)
	if s.Done() {
		r.Completed = time.Now()
	}
	return r
}

// offer offers the record and waits for the answer.
func (k *cluster) offer(r delivery.Record) bool {
	k.t.Helper()
	answer := make(chan bool, 1)
	must(k.t, k.recorder.Offer(k.t.Context(), k.namespace, r, func(recorded bool) { answer <- recorded }))
	select {
	case recorded := <-answer:
		return recorded
	case <-time.After(time.Minute):
		k.t.Fatal("no answer within a minute")
		return false
	}
}

func (k *cluster) stored(r delivery.Record) *v1alpha1.DeliveryAttempt {
	k.t.Helper()
	o := &v1alpha1.DeliveryAttempt{}
	must(k.t, k.direct.Get(k.t.Context(), client.ObjectKey{Namespace: k.namespace, Name: Name(&r)}, o))
	return o
}

func (k *cluster) all() map[v1alpha1.DeliveryOutcome]int {
	k.t.Helper()
	list := &v1alpha1.DeliveryAttemptList{}
	must(k.t, k.direct.List(k.t.Context(), list, client.InNamespace(k.namespace)))
	found := map[v1alpha1.DeliveryOutcome]int{}
	for i := range list.Items {
		found[list.Items[i].Status.Outcome]++
	}
	return found
}

func (k *cluster) eventually(f func() error) {
	k.t.Helper()
	deadline := time.After(time.Minute)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		err := f()
		if err == nil {
			return
		}
		select {
		case <-deadline:
			k.t.Fatalf("still: %v", err)
		case <-tick.C:
		}
	}
}

func TestADeliveryFromCreationToItsEnd(t *testing.T) {
	k := newCluster(t, clusterOptions{})
	p := k.endpoint("a", nil)
	retrying := k.record(p, "evt_1", delivery.Retrying, 1)
	if !k.offer(retrying) {
		t.Fatal("left out")
	}
	o := k.stored(retrying)
	if o.Status.Outcome != v1alpha1.DeliveryRetrying || o.Status.NextAttemptTime == nil || o.Status.Attempts[0].StatusCode != 500 {
		t.Errorf("status is %+v", o.Status)
	}
	if len(o.OwnerReferences) != 1 || o.OwnerReferences[0].UID != p.UID || o.Labels[v1alpha1.LabelEndpoint] != string(p.UID) {
		t.Errorf("metadata is %+v", o.ObjectMeta)
	}
	delivered := k.record(p, "evt_1", delivery.Delivered, 2)
	for range 2 { // the second is the repeat after a lost answer
		if !k.offer(delivered) {
			t.Fatal("left out")
		}
	}
	if !k.offer(retrying) {
		t.Error("the repeat of an older state was left out")
	}
	o = k.stored(delivered)
	if o.Status.Outcome != v1alpha1.DeliveryDelivered || o.Status.AttemptCount != 2 || o.Status.CompletionTime == nil ||
		o.Status.Conditions[0].Status != metav1.ConditionTrue || o.Status.NextAttemptTime != nil {
		t.Errorf("status is %+v", o.Status)
	}
	if found := k.all(); len(found) != 1 || found[v1alpha1.DeliveryDelivered] != 1 {
		t.Errorf("records are %v", found)
	}
}

func TestAnotherManagerGoesOnWhereOneDied(t *testing.T) {
	k := newCluster(t, clusterOptions{})
	p := k.endpoint("a", nil)
	// Died between create and status: what it made has no status, and no answer was given.
	failed := k.record(p, "evt_1", delivery.Failed, 4)
	must(t, k.direct.Create(t.Context(), newObject(&failed)))
	if !k.offer(failed) {
		t.Fatal("left out")
	}
	if o := k.stored(failed); o.Status.Outcome != v1alpha1.DeliveryFailed || o.Status.Reason != "Rejected" {
		t.Errorf("status is %+v", o.Status)
	}
}

func TestWhatIsLongOrOddIsRecordedAllTheSame(t *testing.T) {
	k := newCluster(t, clusterOptions{})
	r := k.record(k.endpoint(strings.Repeat("a", 240), nil), strings.Repeat("e", 128), delivery.Failed, 4)
	r.CallID, r.AgentID = strings.Repeat("é", 128), "a\xffb"
	r.EventTime, r.Reason, r.Attempts[0].Start = time.Time{}, "1-made.up", time.Time{}
	r.Attempts[1].Message = strings.Repeat("m", 2000)
	if !k.offer(r) {
		t.Error("left out")
	}
}

func TestTheHistoryIsKept(t *testing.T) {
	k := newCluster(t, clusterOptions{})
	p := k.endpoint("a", func(p *v1alpha1.WebhookEndpoint) {
		p.Spec.History = v1alpha1.HistorySpec{Succeeded: 2, Failed: 3}
	})
	active := k.record(p, "evt_active", delivery.Retrying, 1)
	k.offer(active)
	var latest delivery.Record
	for i := range 6 {
		latest = k.record(p, fmt.Sprintf("evt_d%d", i), delivery.Delivered, 1)
		latest.Completed = epoch.Add(time.Duration(i)*time.Minute + time.Since(epoch) - time.Hour)
		k.offer(latest)
		k.offer(k.record(p, fmt.Sprintf("evt_f%d", i), delivery.Failed, 4))
	}
	k.eventually(func() error {
		found := k.all()
		if found[v1alpha1.DeliveryDelivered] != 2 || found[v1alpha1.DeliveryFailed] != 3 || found[v1alpha1.DeliveryRetrying] != 1 {
			return fmt.Errorf("records are %v", found)
		}
		return nil
	})
	k.stored(latest)
	k.stored(active)

	// A shorter history is kept too, without a new record.
	p.Spec.History.Failed = 1
	must(t, k.direct.Update(t.Context(), p))
	k.eventually(func() error {
		if found := k.all(); found[v1alpha1.DeliveryFailed] != 1 {
			return fmt.Errorf("records are %v", found)
		}
		return nil
	})
}

func TestTheNamespaceHasALimit(t *testing.T) {
	k := newCluster(t, clusterOptions{perNamespace: 5})
	a, b := k.endpoint("a", nil), k.endpoint("b", nil)
	for i := range 5 {
		k.offer(k.record(a, fmt.Sprintf("evt_%d", i), delivery.Delivered, 1))
		k.offer(k.record(b, fmt.Sprintf("evt_%d", i), delivery.Failed, 4))
	}
	k.eventually(func() error {
		if found := k.all(); found[v1alpha1.DeliveryDelivered] != 0 || found[v1alpha1.DeliveryFailed] != 5 {
			return fmt.Errorf("records are %v", found)
		}
		return nil
	})
}

func TestRecordsGoWhenTheirTimeIsUp(t *testing.T) {
	k := newCluster(t, clusterOptions{})
	p := k.endpoint("a", func(p *v1alpha1.WebhookEndpoint) {
		p.Spec.History = v1alpha1.HistorySpec{Failed: 5, TTLSecondsAfterFinished: 60}
	})
	soon, later := k.record(p, "evt_soon", delivery.Failed, 4), k.record(p, "evt_later", delivery.Failed, 4)
	soon.Completed = time.Now().Add(-57 * time.Second)
	k.offer(soon)
	k.offer(later)
	k.stored(soon)
	k.eventually(func() error {
		if found := k.all(); found[v1alpha1.DeliveryFailed] != 1 {
			return fmt.Errorf("records are %v", found)
		}
		return nil
	})
	k.stored(later)
}

func TestWritesKeepToTheBudgetAsTheAPIServerCountsThem(t *testing.T) {
	const rate = 10.0
	k := newCluster(t, clusterOptions{rate: rate})
	p := k.endpoint("a", nil)
	before, begun := k.attemptWrites(), time.Now()
	var all answers
	for i := range 400 {
		r := k.record(p, fmt.Sprintf("evt_%d", i), delivery.Delivered, 1)
		must(t, k.recorder.Offer(t.Context(), k.namespace, r, all.done))
	}
	k.eventually(func() error {
		if n := len(all.got()); n != 400 || k.retention.Backlog() > 0 {
			return fmt.Errorf("%d answers", n)
		}
		return nil
	})
	made, took := k.attemptWrites()-before, time.Since(begun)
	recorded := count(all.got(), true)
	if limit := 5*rate + took.Seconds()*rate; made > limit {
		t.Errorf("%v writes in %v, the budget is %v", made, took, limit)
	}
	if recorded < bucketBurst || recorded == 400 {
		t.Errorf("%d of 400 recorded", recorded)
	}
	t.Logf("%d of 400 recorded by %v writes in %v", recorded, made, took)
}

// attemptWrites is what the API server has counted of mutating requests for records.
func (k *cluster) attemptWrites() (sum float64) {
	k.t.Helper()
	c, err := plane()
	must(k.t, err)
	text, err := kubernetes.NewForConfigOrDie(c.Config()).RESTClient().Get().AbsPath("/metrics").DoRaw(k.t.Context())
	must(k.t, err)
	for line := range strings.Lines(string(text)) {
		if !strings.HasPrefix(line, "apiserver_request_total{") || !strings.Contains(line, `resource="deliveryattempts"`) {
			continue
		}
		for _, verb := range []string{"POST", "PUT", "PATCH", "DELETE"} {
			if strings.Contains(line, `verb="`+verb+`"`) {
				n, err := strconv.ParseFloat(strings.TrimSpace(line[strings.LastIndex(line, " "):]), 64)
				must(k.t, err)
				sum += n
			}
		}
	}
	return sum
}

func TestCountersSurviveARestartOfTheLedger(t *testing.T) {
	k := newCluster(t, clusterOptions{})
	run := func(use func(*Ledger, <-chan endpoint.Ref)) {
		changed := make(chan endpoint.Ref, 10)
		l, err := NewLedger(LedgerOptions{Client: k.direct, Reader: k.direct, Namespace: k.namespace,
			Interval: 100 * time.Millisecond, OnChange: func(r endpoint.Ref) { changed <- r }})
		must(t, err)
		must(t, l.Load(t.Context()))
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- l.Start(ctx) }()
		use(l, changed)
		cancel()
		must(t, <-ended)
	}
	countAndWait := func(l *Ledger, c delivery.Counters) {
		done := make(chan struct{})
		must(t, l.Count(t.Context(), sourceOf("5ad13e0f-0a0b-4c3c-9f52-1d1f4d0c2b11"), []delivery.Counters{c}, func() { close(done) }))
		<-done
	}
	run(func(l *Ledger, changed <-chan endpoint.Ref) {
		countAndWait(l, counted(5, 1, 2))
		countAndWait(l, counted(9, 1, 0))
		if ref := <-changed; ref.Name != "a" || ref.Namespace != testNamespace {
			t.Errorf("changed is %v", ref)
		}
	})
	maps := &corev1.ConfigMapList{}
	must(t, k.direct.List(t.Context(), maps, client.InNamespace(k.namespace), client.MatchingLabels{LabelLedger: "true"}))
	if len(maps.Items) != 1 || !strings.HasPrefix(maps.Items[0].Name, "webhooks-queue-") {
		t.Errorf("%d ConfigMaps", len(maps.Items))
	}
	run(func(l *Ledger, _ <-chan endpoint.Ref) {
		wantTotals(t, l, Totals{Succeeded: 9, Failed: 1})
		must(t, k.direct.Delete(t.Context(), &maps.Items[0])) // somebody tidies up
		countAndWait(l, counted(10, 1, 0))
		wantTotals(t, l, Totals{Succeeded: 10, Failed: 1})
	})
	run(func(l *Ledger, _ <-chan endpoint.Ref) { wantTotals(t, l, Totals{Succeeded: 10, Failed: 1}) })
}

func TestWhatALostQueueHeldIsFoundAndSaid(t *testing.T) {
	k := newCluster(t, clusterOptions{})
	p := k.endpoint("a", nil)
	held, left, done := k.record(p, "evt_1", delivery.Retrying, 1), k.record(p, "evt_2", delivery.Retrying, 1), k.record(p, "evt_3", delivery.Delivered, 1)
	for _, r := range []*delivery.Record{&held, &left, &done} {
		r.QueueID = "q1"
		k.offer(*r)
	}
	left.QueueID, left.Hops = "q2", 1
	k.offer(left)
	if o := k.stored(left); o.Status.QueueID != "q2" || o.Status.HandOvers != 1 {
		t.Errorf("status is %+v", o.Status)
	}
	k.eventually(func() error {
		open, known, err := k.recorder.Lose(t.Context(), k.namespace, "q1")
		if o := k.stored(held); o.Status.Reason != v1alpha1.ReasonQueueLost || open > 0 || !known {
			return fmt.Errorf("%d are open, known %v, error %w; the record is %q", open, known, err, o.Status.Outcome)
		}
		return nil
	})
	o := k.stored(held)
	if o.Status.Outcome != v1alpha1.DeliveryFailed || len(o.Status.Attempts) != 1 || o.Status.QueueID != "q1" ||
		o.Status.Conditions[0].Status != metav1.ConditionFalse || o.Status.Conditions[0].Reason != v1alpha1.ReasonQueueLost {
		t.Errorf("status is %+v", o.Status)
	}
	if found := k.all(); found[v1alpha1.DeliveryRetrying] != 1 || found[v1alpha1.DeliveryDelivered] != 1 {
		t.Errorf("records are %v", found)
	}
	late := k.record(p, "evt_1", delivery.Delivered, 2)
	late.QueueID = "q1"
	if k.offer(late); k.stored(late).Status.Outcome != v1alpha1.DeliveryDelivered {
		t.Errorf("status is %+v", k.stored(late).Status)
	}
}

func TestFoldedCountersAreInOneConfigMap(t *testing.T) {
	c, err := plane()
	must(t, err)
	namespace := "n" + strconv.FormatInt(time.Now().UnixNano(), 36)
	must(t, c.Namespace(t.Context(), namespace))
	direct, err := client.New(c.Config(), client.Options{})
	must(t, err)
	load := func() *Ledger {
		l, err := NewLedger(LedgerOptions{Client: direct, Reader: direct, Namespace: namespace})
		must(t, err)
		must(t, l.Load(t.Context()))
		return l
	}
	l := load()
	for _, id := range []string{"q1", "q2"} {
		must(t, l.Count(t.Context(), sourceOf(id), []delivery.Counters{counted(5, 1, 0)}, func() {}))
		must(t, l.flush(t.Context(), bookKey{testNamespace, id}))
	}
	must(t, l.Fold(t.Context(), testNamespace, []string{"q1"}))
	l = load() // the leader dies here
	wantTotals(t, l, Totals{Succeeded: 10, Failed: 2})
	must(t, l.Fold(t.Context(), testNamespace, []string{"q2"}))
	must(t, l.DeleteFolded(t.Context(), 10))
	wantTotals(t, l, Totals{Succeeded: 10, Failed: 2})
	list := &corev1.ConfigMapList{}
	must(t, direct.List(t.Context(), list, client.InNamespace(namespace), client.MatchingLabels{LabelLedger: "true"}))
	if len(list.Items) != 1 || list.Items[0].Name != LedgerName(testNamespace, foldedQueue) {
		t.Errorf("%d ConfigMaps are left", len(list.Items))
	}
	wantTotals(t, load(), Totals{Succeeded: 10, Failed: 2})
}
