// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"net/http"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	ctrlevent "sigs.k8s.io/controller-runtime/pkg/event"

	"github.com/garyclub/webhook-operator/internal/delivery"
	"github.com/garyclub/webhook-operator/internal/egress"
	"github.com/garyclub/webhook-operator/internal/endpoint"
)

// lab is a prober in a time of its own, with a scripted network.
type lab struct {
	*Prober
	net     *script
	changed chan ctrlevent.GenericEvent
	records *recorder
}

// script is a network that answers as it is told to.
type script struct {
	start time.Time

	mu       sync.Mutex
	posts    []time.Duration // since the start
	urls     []string
	answers  []int // status codes, the last repeats; 0 hangs
	looks    []time.Duration
	failures []*egress.Error // of the looks, the last repeats; nil is a good one
	notAfter time.Time
}

func newLab(t *testing.T) *lab {
	l := &lab{changed: make(chan ctrlevent.GenericEvent, 1000), records: &recorder{},
		net: &script{start: time.Now(), answers: []int{200}, failures: []*egress.Error{nil}}}
	l.Prober = NewProber(l.net, l.changed)
	l.Prober.recorder, l.Prober.metrics = l.records, NewMetrics(prometheus.NewRegistry())
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- l.Start(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return l
}

func (n *script) Post(ctx context.Context, p *endpoint.Endpoint, _ http.Header, _ []byte) (delivery.Reply, *delivery.Failure) {
	n.mu.Lock()
	n.posts, n.urls = append(n.posts, time.Since(n.start)), append(n.urls, p.URL)
	code := n.answers[0]
	if len(n.answers) > 1 {
		n.answers = n.answers[1:]
	}
	n.mu.Unlock()
	if code == 0 {
		<-ctx.Done()
		return delivery.Reply{}, egress.ErrTimedOut
	}
	return delivery.Reply{StatusCode: code}, nil
}

func (n *script) Inspect(context.Context, *endpoint.Endpoint) (egress.Certificate, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.looks = append(n.looks, time.Since(n.start))
	failure := n.failures[0]
	if len(n.failures) > 1 {
		n.failures = n.failures[1:]
	}
	if failure != nil {
		return egress.Certificate{}, failure
	}
	return egress.Certificate{Issuer: "R11", NotAfter: n.notAfter}, nil
}

func (n *script) sent() []time.Duration {
	n.mu.Lock()
	defer n.mu.Unlock()
	return append([]time.Duration(nil), n.posts...)
}

func labEndpoint(name string) *endpoint.Endpoint {
	return &endpoint.Endpoint{Ref: endpoint.Ref{Namespace: "n", Name: name}, UID: "uid-" + name, URL: "https://a.test/" + name,
		Timeout: 10 * time.Second, SuccessCodes: []string{"200"}, SigningKeys: [][]byte{make([]byte, 24)}}
}

func order(key string, retries int) TestOrder {
	return TestOrder{Key: key, EventID: "evt_" + key, Type: "call.completed", Place: "here", MaxRetries: retries}
}

func TestATestEventIsRetriedWithGrowingPauses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t)
		l.net.answers = []int{500}
		p := labEndpoint("a")
		l.Test(p, order("change", testRetries))
		advance(time.Minute)
		synctest.Wait()
		posts := l.net.sent()
		if len(posts) != 4 {
			t.Fatalf("%d requests at %v, want 4", len(posts), posts)
		}
		for n, want := range []time.Duration{5 * time.Second, 10 * time.Second, 20 * time.Second} {
			if pause := posts[n+1] - posts[n]; pause < want*8/10 || pause > want*12/10 {
				t.Errorf("pause %d is %v, want %v within a fifth", n+1, pause, want)
			}
		}
		report, done := l.Report(p.Ref, p.UID)
		if !done || report.Delivery.State != delivery.Failed || report.Last().StatusCode != 500 {
			t.Errorf("report is %+v", report)
		}
		if records := l.records.all(); len(records) != 4 || records[0].State != delivery.Retrying || records[3].State != delivery.Failed {
			t.Errorf("records are %+v", records)
		}
		if again := l.Test(p, order("change", testRetries)); again.Delivery.AttemptCount != 4 {
			t.Errorf("the same order began anew: %+v", again)
		}
		if _, done := l.Report(p.Ref, "another"); done {
			t.Error("another object of the name has this one's report")
		}
	})
}

func TestTheTestsOfOneHostAreSpaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t)
		for n := range 5 {
			l.Test(labEndpoint(strconv.Itoa(n)), order("change", 0))
		}
		other := labEndpoint("other")
		other.URL = "https://b.test/"
		l.Test(other, order("change", 0))
		advance(10 * time.Second)
		at := map[time.Duration]int{}
		for _, post := range l.net.sent() {
			at[post]++
		}
		if len(at) != 5 || at[0] != 2 || at[4*time.Second] != 1 {
			t.Errorf("requests at %v, want one a second and the other host's at once", at)
		}
	})
}

func TestAnotherOrderOrPlaceInterruptsATestThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t)
		l.net.answers = []int{0, 200}
		p := labEndpoint("a")
		l.Inspect(p)
		l.Test(p, order("first", testRetries))
		advance(2 * time.Second)
		moved := labEndpoint("a")
		moved.URL = "https://b.test/moved"
		l.Inspect(moved)
		l.Test(moved, order("second", testRetries))
		advance(time.Second)
		synctest.Wait()
		if report, done := l.Report(p.Ref, p.UID); !done || report.Order.Key != "second" || l.net.urls[1] != moved.URL {
			t.Errorf("report %+v after requests to %v", report, l.net.urls)
		}
		if records := l.records.all(); len(records) != 1 {
			t.Errorf("what was interrupted before its first answer is recorded: %+v", records)
		}
		l.net.mu.Lock()
		l.net.answers = []int{0}
		l.net.mu.Unlock()
		l.Test(moved, order("third", 0))
		advance(2 * time.Second)
		l.Forget(p.Ref)
		synctest.Wait()
		if len(l.probes) != 0 {
			t.Error("a probe of an endpoint that is gone")
		}
	})
}

func TestAnInspectionIsRepeated(t *testing.T) {
	for name, tc := range map[string]struct {
		failures []*egress.Error
		notAfter time.Duration
		within   time.Duration
		want     []time.Duration // within a fifth
	}{
		"hourly when all is well":        {failures: []*egress.Error{nil}, within: 150 * time.Minute, want: []time.Duration{0, time.Hour, 2 * time.Hour}},
		"when the certificate expires":   {failures: []*egress.Error{nil, egress.ErrExpired}, notAfter: 5 * time.Minute, within: 302 * time.Second, want: []time.Duration{0, 301 * time.Second}},
		"soon, and ever later, if not":   {failures: []*egress.Error{egress.ErrHostNotFound}, within: 40 * time.Second, want: []time.Duration{0, 5 * time.Second, 15 * time.Second, 35 * time.Second}},
		"soon again after it was mended": {failures: []*egress.Error{egress.ErrDNS, nil, egress.ErrDNS}, within: 70 * time.Minute, want: []time.Duration{0, 5 * time.Second, time.Hour, time.Hour}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := newLab(t)
				if tc.notAfter == 0 {
					tc.notAfter = 90 * 24 * time.Hour
				}
				l.net.failures, l.net.notAfter = tc.failures, time.Now().Add(tc.notAfter)
				l.Inspect(labEndpoint("a"))
				advance(tc.within)
				synctest.Wait()
				l.net.mu.Lock()
				defer l.net.mu.Unlock()
				if len(l.net.looks) < len(tc.want) {
					t.Fatalf("looked at %v, want %v", l.net.looks, tc.want)
				}
				for n, want := range tc.want {
					if at := l.net.looks[n]; at < want*8/10 || at > want*12/10 {
						t.Errorf("looked at %v, want %v", l.net.looks, tc.want)
					}
				}
				if len(l.changed) != len(l.net.looks) {
					t.Errorf("told of %d looks, there were %d", len(l.changed), len(l.net.looks))
				}
			})
		})
	}
}

func TestWhatALookMeans(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	good := Inspection{Known: true, Certificate: egress.Certificate{Issuer: "R11", NotAfter: now.AddDate(1, 0, 0)}}
	refused := Inspection{Known: true, Failure: egress.ErrAddressRefused}
	for name, tc := range map[string]struct {
		before  Inspection
		failure *egress.Error
		want    Inspection
	}{
		"all is well":                  {Inspection{Changed: true}, nil, good},
		"mended":                       {refused, nil, good},
		"a verdict":                    {good, egress.ErrAddressRefused, refused},
		"no lookup, nothing known":     {Inspection{Changed: true}, egress.ErrDNS, Inspection{Changed: true, Trouble: egress.ErrDNS}},
		"no lookup, the verdict stays": {refused, egress.ErrDNS, Inspection{Known: true, Failure: egress.ErrAddressRefused, Trouble: egress.ErrDNS}},
		"interrupted":                  {good, egress.ErrCanceled, Inspection{Known: true, Certificate: good.Certificate, Trouble: egress.ErrCanceled}},
		"no answer":                    {good, egress.ErrTimedOut, Inspection{Known: true, Failure: egress.ErrTimedOut}},
		"no answer, which may be that of a lookup": {refused, egress.ErrTimedOut, Inspection{Known: true, Failure: egress.ErrAddressRefused, Trouble: egress.ErrTimedOut}},
	} {
		t.Run(name, func(t *testing.T) {
			i := &inspection{result: tc.before}
			i.note(good.Certificate, tc.failure, now, 0.5)
			if i.result != tc.want {
				t.Errorf("got %+v", i.result)
			}
			if (i.failures == 0) != (tc.failure == nil) || !i.due.After(now) {
				t.Errorf("failures %d, due %v", i.failures, i.due.Sub(now))
			}
		})
	}
}

func TestHostPaceIsBounded(t *testing.T) {
	now, h := time.Unix(1000, 0), hostPace{}
	for n := range 3 {
		if at := h.take("a.test", now); !at.Equal(now.Add(time.Duration(n) * hostInterval)) {
			t.Errorf("turn %d is at %v", n, at.Sub(now))
		}
	}
	for n := range 5000 {
		h.take(strconv.Itoa(n), now.Add(time.Duration(n)*10*time.Millisecond))
	}
	if len(h) > maxPaced+1 {
		t.Errorf("%d hosts are remembered", len(h))
	}
}

// advance lets synctest's clock run on.
func advance(d time.Duration) { <-time.After(d) }
