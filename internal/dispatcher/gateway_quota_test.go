// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package dispatcher

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/garyclub/webhook-operator/internal/delivery"
	"github.com/garyclub/webhook-operator/internal/endpoint"
	"github.com/garyclub/webhook-operator/internal/event"
	"github.com/garyclub/webhook-operator/internal/handover"
	"github.com/garyclub/webhook-operator/internal/ingest"
)

// quotaLab is quotas of a queue whose namespaces hold what the test says.
type quotaLab struct {
	*quotas
	at       time.Time
	said     map[string]int64
	asked    int
	registry *prometheus.Registry
}

// newQuotaLab has shares of 10,000 bytes.
func newQuotaLab(change ...func(*Options)) *quotaLab {
	o := gatewayOptions()
	o.QueueMaxBytes, o.NamespaceShare = 40_000, 0.25
	for _, c := range change {
		c(&o)
	}
	l := &quotaLab{at: time.Unix(1000, 0), said: map[string]int64{}, registry: prometheus.NewRegistry()}
	held := func() map[string]int64 {
		l.asked++
		return maps.Clone(l.said)
	}
	l.quotas = newQuotas(&o, held, func() time.Time { return l.at }, l.registry, logr.Discard())
	return l
}

func (l *quotaLab) figures(t *testing.T) map[string]float64 {
	t.Helper()
	families, err := l.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	figures := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if len(m.GetLabel()) == 0 {
				figures[f.GetName()] = m.GetGauge().GetValue()
				continue
			}
			figures[m.GetLabel()[0].GetValue()] = m.GetCounter().GetValue()
		}
	}
	return figures
}

func TestShareOfANamespace(t *testing.T) {
	l := newQuotaLab()
	l.said["full"], l.said["half"] = 10_000, 5_000
	for namespace, want := range map[string]error{"full": ingest.ErrShare, "half": nil, "empty": nil} {
		if err := l.enter(t.Context(), namespace); !errors.Is(err, want) {
			t.Errorf("%s: a request's error is %v, want %v", namespace, err, want)
		}
		if err := l.post(namespace, 1, 1000); !errors.Is(err, want) {
			t.Errorf("%s: a post's error is %v, want %v", namespace, err, want)
		}
	}
	// What is being stored counts, and what was stored since the queue was asked.
	l.stored("half", 1000, true)
	for i := range 4 {
		if err := l.post("half", 1, 1000); err != nil {
			t.Fatalf("post %d: %v", i, err)
		}
	}
	if err := l.post("half", 1, 1); !errors.Is(err, ingest.ErrShare) {
		t.Errorf("beyond the share: %v, want %v", err, ingest.ErrShare)
	}
	if l.asked != 1 {
		t.Errorf("the queue was asked %d times within %s", l.asked, heldFor)
	}
	// What the queue refused is room again at once.
	l.stored("half", 1000, false)
	if err := l.post("half", 1, 1000); err != nil {
		t.Errorf("after an append that failed: %v", err)
	}
	// What went out is room again when the queue is asked next; what is still being stored counts on.
	l.said["half"], l.at = 0, l.at.Add(heldFor)
	if err := l.post("half", 1, 6000); err != nil {
		t.Errorf("after deliveries went out: %v", err)
	}
	if err := l.post("half", 1, 1); !errors.Is(err, ingest.ErrShare) {
		t.Errorf("with four posts of before under way: %v, want %v", err, ingest.ErrShare)
	}
	want := map[string]float64{"share": 4, "rate": 0, "requests": 0, "hand-over": 0, "webhook_gateway_largest_share_ratio": 1}
	if diff := cmp.Diff(want, l.figures(t)); diff != "" {
		t.Errorf("metrics differ (-want +got):\n%s", diff)
	}
}

func TestANamespaceThatHoldsNothingIsNeverFull(t *testing.T) {
	l := newQuotaLab()
	if err := l.post("a", 1, 1_000_000); err != nil {
		t.Errorf("an event larger than the share is refused for ever: %v", err)
	}
	if err := l.post("a", 1, 1); !errors.Is(err, ingest.ErrShare) {
		t.Errorf("behind it: %v, want %v", err, ingest.ErrShare)
	}
}

func TestRateOfANamespace(t *testing.T) {
	limited := func(o *Options) { o.NamespaceEventsPerSecond, o.NamespaceBurst = 100, 1000 }
	l := newQuotaLab(limited)
	if err := l.post("a", 1000, 0); err != nil {
		t.Fatalf("the burst is refused: %v", err)
	}
	if err := l.post("a", 1, 0); !errors.Is(err, ingest.ErrRate) {
		t.Errorf("behind the burst: %v, want %v", err, ingest.ErrRate)
	}
	if err := l.enter(t.Context(), "a"); !errors.Is(err, ingest.ErrRate) {
		t.Errorf("a request behind the burst: %v, want %v", err, ingest.ErrRate)
	}
	if err := l.post("b", 1000, 0); err != nil {
		t.Errorf("another namespace: %v", err)
	}
	l.at = l.at.Add(time.Second)
	if err := l.post("a", 100, 0); err != nil {
		t.Errorf("a second later: %v", err)
	}
	if err := l.post("a", 1, 0); !errors.Is(err, ingest.ErrRate) {
		t.Errorf("more than the rate: %v, want %v", err, ingest.ErrRate)
	}
	none := newQuotaLab()
	for range 1000 {
		if err := none.post("a", 1000, 0); err != nil {
			t.Fatalf("without a limit: %v", err)
		}
	}
}

func TestRatesAreBounded(t *testing.T) {
	l := newQuotaLab(func(o *Options) { o.NamespaceEventsPerSecond, o.NamespaceBurst = 1, 1000 })
	for i := range 2 * maxPaced {
		_ = l.post(fmt.Sprint("n", i), 1000, 0)
	}
	if n := len(l.paced); n > maxPaced {
		t.Errorf("%d namespaces are remembered, want at most %d", n, maxPaced)
	}
	if err := l.post("late", 1, 0); !errors.Is(err, ingest.ErrRate) {
		t.Errorf("one more namespace than fits has a rate of its own: %v", err)
	}
	l.at = l.at.Add(time.Hour)
	if err := l.post("late", 1000, 0); err != nil || len(l.paced) != 1 {
		t.Errorf("after a while %d namespaces are remembered, error %v", len(l.paced), err)
	}
}

func TestRequestsOfANamespaceUnderWay(t *testing.T) {
	l := newQuotaLab()
	ctx, answered := context.WithCancel(t.Context())
	for range maxRequests {
		if err := l.enter(ctx, "a"); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.enter(ctx, "a"); !errors.Is(err, ingest.ErrCrowd) {
		t.Errorf("one more: %v, want %v", err, ingest.ErrCrowd)
	}
	if err := l.enter(t.Context(), "b"); err != nil {
		t.Errorf("another namespace: %v", err)
	}
	answered()
	for limit := time.Now().Add(patience); l.enter(t.Context(), "a") != nil; {
		if time.Now().After(limit) {
			t.Fatal("requests that were answered count on")
		}
		<-time.After(time.Millisecond)
	}
}

// script answers a hand-over.
type script struct {
	got    []handover.Parcel
	answer handover.Verdict
	err    error
}

func (s *script) TakeOver(_ context.Context, parcels []handover.Parcel) ([]handover.Verdict, error) {
	s.got = append(s.got, parcels...)
	answers := make([]handover.Verdict, len(parcels))
	for i := range answers {
		answers[i] = s.answer
	}
	return answers, s.err
}

func TestHandOverCountsIntoTheShare(t *testing.T) {
	l := newQuotaLab()
	l.said["full"] = 10_000
	parcel := func(namespace, id string, last bool) handover.Parcel {
		return handover.Parcel{Event: &event.Event{ID: id, Payload: make([]byte, 976)}, Last: last,
			Delivery: delivery.Delivery{Ref: endpoint.Ref{Namespace: namespace, Name: "e"}}}
	}
	inner := &script{answer: handover.Added}
	sink := quotaSink{inner, l.quotas}
	got, err := sink.TakeOver(t.Context(), []handover.Parcel{parcel("full", "1", false), parcel("a", "2", false), parcel("full", "3", true)})
	if err != nil {
		t.Fatal(err)
	}
	// What would be lost is taken although the share is full.
	if diff := cmp.Diff([]handover.Verdict{handover.ShareFull, handover.Added, handover.Added}, got); diff != "" {
		t.Errorf("verdicts differ (-want +got):\n%s", diff)
	}
	if len(inner.got) != 2 || inner.got[0].Event.ID != "2" || inner.got[1].Event.ID != "3" {
		t.Errorf("the queue got %+v", inner.got)
	}
	if n := l.holds("a"); n != 2000 {
		t.Errorf("the namespace holds %d bytes, want 2000", n)
	}
	if got, err := sink.TakeOver(t.Context(), []handover.Parcel{parcel("full", "1", false)}); err != nil || got[0] != handover.ShareFull {
		t.Errorf("nothing but a full share: %v, %v", got, err)
	}
	// What was not stored does not count.
	for _, inner := range []*script{{answer: handover.Present}, {answer: handover.Unknown}, {err: handover.ErrFull}} {
		_, err := quotaSink{inner, l.quotas}.TakeOver(t.Context(), []handover.Parcel{parcel("a", "4", false)})
		if !errors.Is(err, inner.err) {
			t.Errorf("error is %v, want %v", err, inner.err)
		}
	}
	if n := l.holds("a"); n != 2000 {
		t.Errorf("the namespace holds %d bytes, want 2000 as before", n)
	}
	if len(l.under) != 0 {
		t.Errorf("%v is being stored for ever", l.under)
	}
	if got := l.figures(t)["hand-over"]; got != 2 {
		t.Errorf("%v refusals of a hand-over are counted, want 2", got)
	}
}

func TestPostsCountForEachOfTheirDeliveries(t *testing.T) {
	l := newQuotaLab()
	inner := &appends{}
	q := quotaQueue{inner, l.quotas}
	item := ingest.Item{Event: &event.Event{Namespace: "a", Payload: make([]byte, 976)}, Matched: true, Endpoints: make([]*endpoint.Endpoint, 4)}
	if _, err := q.Append(t.Context(), []ingest.Item{item}); err != nil {
		t.Fatal(err)
	}
	if n := l.holds("a"); n != 8000 {
		t.Errorf("the namespace holds %d bytes, want 8000", n)
	}
	if _, err := q.Append(t.Context(), []ingest.Item{item}); !errors.Is(err, ingest.ErrShare) || inner.calls != 1 {
		t.Errorf("beyond the share: %v after %d appends, want %v after one", err, inner.calls, ingest.ErrShare)
	}
	l.said, l.at, inner.err = map[string]int64{}, l.at.Add(heldFor), ingest.ErrFull
	if _, err := q.Append(t.Context(), []ingest.Item{item}); !errors.Is(err, ingest.ErrFull) || l.holds("a") != 0 {
		t.Errorf("an append that failed: %v, and it holds %d bytes", err, l.holds("a"))
	}
}

// Before the first list of endpoints nobody knows how many deliveries an event has, but what it takes of the queue counts.
func TestUnmatchedEventsCountUntilTheyAreMatched(t *testing.T) {
	l := newQuotaLab()
	inner := &appends{}
	q := quotaQueue{inner, l.quotas}
	item := ingest.Item{Event: &event.Event{Namespace: "a", Payload: make([]byte, 4488)}}
	holds := func(when string, want int64) {
		t.Helper()
		l.at = l.at.Add(heldFor) // the queue does not say it
		if got := l.holds("a"); got != want {
			t.Errorf("%s the namespace holds %d bytes, want %d", when, got, want)
		}
	}
	post := func(want error) {
		t.Helper()
		if _, err := q.Append(t.Context(), []ingest.Item{item}); !errors.Is(err, want) {
			t.Errorf("an append: %v, want %v", err, want)
		}
	}
	post(nil)
	holds("after one event", 5000)
	inner.repeated = true
	post(nil)
	holds("after a repeat", 5000)
	inner.repeated, inner.err = false, ingest.ErrFull
	post(ingest.ErrFull)
	holds("after an append that failed", 5000)
	inner.err = nil
	post(nil)
	holds("after the next", 10_000)
	post(ingest.ErrShare)
	if inner.calls != 4 {
		t.Errorf("the queue got %d appends, want 4", inner.calls)
	}
	if got := l.figures(t)["webhook_gateway_largest_share_ratio"]; got != 1 {
		t.Errorf("the largest share is %v, want 1", got)
	}

	d := &Dispatcher{endpoints: &endpoints{}, gateway: &gateway{quotas: l.quotas}}
	if _, ok := d.match(item.Event); ok {
		t.Fatal("matched without a list")
	}
	holds("without a list", 10_000)
	p := endpointOf("e", "https://127.0.0.1/")
	p.Namespace, p.Events = "a", nil
	d.endpoints.Store(endpoint.NewSnapshot([]*endpoint.Endpoint{p}))
	deliveries, ok := d.match(item.Event)
	if !ok {
		t.Fatal("not matched")
	}
	if got, want := l.holds("a"), 5000+int64(len(deliveries))*5512; got != want {
		t.Errorf("with %d deliveries the namespace holds %d bytes, want %d", len(deliveries), got, want)
	}
	for range 2 { // the second is from before a restart
		d.match(item.Event)
	}
	holds("after all is matched", 0)
	if len(l.unmatched) != 0 || len(l.under) != 0 {
		t.Errorf("%v is unmatched and %v is being stored for ever", l.unmatched, l.under)
	}
}

type appends struct {
	calls    int
	err      error
	repeated bool
}

func (a *appends) Append(_ context.Context, items []ingest.Item) ([]ingest.Accepted, error) {
	a.calls++
	if a.err != nil {
		return nil, a.err
	}
	accepted := make([]ingest.Accepted, len(items))
	for i := range accepted {
		accepted[i].Repeated = a.repeated
	}
	return accepted, nil
}

func TestQuotaOptions(t *testing.T) {
	for name, spoil := range map[string]func(*Options){
		"no share":                   func(o *Options) { o.NamespaceShare = 0 },
		"more than all":              func(o *Options) { o.NamespaceShare = 1.01 },
		"negative rate":              func(o *Options) { o.NamespaceEventsPerSecond = -1 },
		"burst smaller than a batch": func(o *Options) { o.NamespaceBurst = ingest.MaxBatchEvents - 1 },
	} {
		o := gatewayOptions()
		spoil(&o)
		if o.Validate() == nil {
			t.Errorf("%s: no error", name)
		}
		o.Gateway, o.Listen = false, DefaultOptions().Listen
		if err := o.Validate(); err != nil {
			t.Errorf("%s: a sidecar has no quotas, and is refused: %v", name, err)
		}
	}
	o := gatewayOptions()
	if o.maxPerNamespace() != o.MaxInFlight/2 {
		t.Errorf("a namespace may have %d attempts under way", o.maxPerNamespace())
	}
	if o.namespaceShare() != 256<<20 || o.endpointShare() != 0.0625 {
		t.Errorf("shares are %d bytes and %v", o.namespaceShare(), o.endpointShare())
	}
	if o.Gateway = false; o.endpointShare() != 0 || o.maxPerNamespace() != 0 {
		t.Errorf("a sidecar's endpoint has a share of %v, and its namespace %d attempts; want the defaults", o.endpointShare(), o.maxPerNamespace())
	}
}

// An endpoint whose share is smaller than an event would never get it.
func TestSharesHoldTheLargestEvent(t *testing.T) {
	for product, good := range map[int64]bool{4 * largestDelivery: true, 4*largestDelivery - 64: false} {
		o := gatewayOptions()
		o.QueueMaxBytes = 16 << 20
		o.NamespaceShare = float64(product) / float64(o.QueueMaxBytes)
		err := o.Validate()
		if (err == nil) != good {
			t.Errorf("a share of %d bytes: error is %v", o.namespaceShare(), err)
		}
		if err != nil && (!strings.Contains(err.Error(), "--namespace-share") || !strings.Contains(err.Error(), "--queue-max-bytes")) {
			t.Errorf("the error does not name the flags: %v", err)
		}
	}
}
