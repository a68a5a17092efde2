// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package dispatcher

import (
	"context"
	"maps"
	"sync"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/time/rate"

	"github.com/garyclub/webhook-operator/internal/ingest"
)

const (
	// heldFor is how long what the queue said of the namespaces is good: what was added since is known, and what went out
	// counts for that long still.
	heldFor = 100 * time.Millisecond
	// deliveryBytes is what a delivery costs beyond its payload, and eventBytes what an event does, as in the queue.
	deliveryBytes = 1024
	eventBytes    = 512
	// maxRequests are the requests of one namespace under way, those whose bodies come slowly included.
	maxRequests = 64
	// maxPaced bounds the namespaces whose rate is known; when more than that post at once, the rest shares one rate.
	maxPaced = 4096
)

// The quotas of a namespace.
const (
	quotaShare    = "share"
	quotaRate     = "rate"
	quotaRequests = "requests"
	quotaHandover = "hand-over"
)

// quotas keep the namespaces of a gateway apart: none fills the queue, or keeps the listener busy, for the others.
type quotas struct {
	// share is the bytes that one namespace's deliveries may hold. rate and burst are the events it may post; a rate of 0
	// is no limit.
	share int64
	rate  rate.Limit
	burst int
	now   func() time.Time
	// held asks the queue what each namespace holds.
	held func() map[string]int64
	log  logr.Logger

	refused map[string]prometheus.Counter
	report  rate.Sometimes

	mu    sync.Mutex
	asked time.Time        // when held was asked
	known map[string]int64 // what it said
	added map[string]int64 // what was stored since, and what is being stored
	under map[string]int64 // what is being stored
	// unmatched is what came before the first list of endpoints, which the queue does not say. What it was before a
	// restart is not known.
	unmatched map[string]int64

	paced map[string]*rate.Limiter
	rest  *rate.Limiter
	busy  map[string]int // requests under way
}

func newQuotas(o *Options, held func() map[string]int64, now func() time.Time, r prometheus.Registerer, log logr.Logger) *quotas {
	q := &quotas{share: o.namespaceShare(), rate: rate.Limit(o.NamespaceEventsPerSecond), burst: o.NamespaceBurst, now: now, held: held, log: log,
		refused: map[string]prometheus.Counter{}, report: rate.Sometimes{Interval: 10 * time.Second},
		added: map[string]int64{}, under: map[string]int64{}, unmatched: map[string]int64{}, paced: map[string]*rate.Limiter{}, busy: map[string]int{}}
	q.rest = rate.NewLimiter(q.rate, q.burst)
	refused := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "webhook_gateway_quota_refused_total",
		Help: "Requests, and deliveries of a hand-over, that were refused because their namespace had used up a quota.",
	}, []string{"quota"})
	for _, name := range []string{quotaShare, quotaRate, quotaRequests, quotaHandover} {
		q.refused[name] = refused.WithLabelValues(name)
	}
	r.MustRegister(refused, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "webhook_gateway_largest_share_ratio",
		Help: "How much of its share of the queue the namespace uses that uses the most of it.",
	}, q.largest))
	return q
}

// enter admits a request of the namespace until ctx, which is the request's, ends. What can be told without its body is
// told now, so that those who are refused cost no more than that.
func (q *quotas) enter(ctx context.Context, namespace string) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	switch {
	case q.rate > 0 && q.limiter(namespace).TokensAt(q.now()) < 1:
		return q.refuse(quotaRate, namespace, ingest.ErrRate)
	case q.holds(namespace) >= q.share:
		return q.refuse(quotaShare, namespace, ingest.ErrShare)
	case q.busy[namespace] >= maxRequests:
		return q.refuse(quotaRequests, namespace, ingest.ErrCrowd)
	}
	q.busy[namespace]++
	context.AfterFunc(ctx, func() {
		q.mu.Lock()
		defer q.mu.Unlock()
		if q.busy[namespace]--; q.busy[namespace] == 0 {
			delete(q.busy, namespace)
		}
	})
	return nil
}

// full says whether a namespace's deliveries hold its share.
func (q *quotas) full(namespace string) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.holds(namespace) >= q.share
}

// post admits that many events, which cost the bytes. When it does, stored is to be called.
func (q *quotas) post(namespace string, events int, bytes int64) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.rate > 0 && !q.limiter(namespace).AllowN(q.now(), events) {
		return q.refuse(quotaRate, namespace, ingest.ErrRate)
	}
	if !q.reserve(namespace, bytes) {
		return q.refuse(quotaShare, namespace, ingest.ErrShare)
	}
	return nil
}

// take admits a delivery of a hand-over; last says that it is lost where it is. When it does, stored is to be called.
func (q *quotas) take(namespace string, bytes int64, last bool) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.reserve(namespace, bytes) {
		return true
	}
	if last {
		q.reserved(namespace, bytes)
		return true
	}
	_ = q.refuse(quotaHandover, namespace, nil)
	return false
}

// reserve sets the bytes apart when there is room for them. A namespace that holds nothing always has room: what is
// larger than a share is for the queue to judge.
func (q *quotas) reserve(namespace string, bytes int64) bool {
	if holds := q.holds(namespace); holds > 0 && holds+bytes > q.share {
		return false
	}
	q.reserved(namespace, bytes)
	return true
}

func (q *quotas) reserved(namespace string, bytes int64) {
	q.added[namespace] += bytes
	q.under[namespace] += bytes
}

// stored ends what post or take has begun; not kept means that the bytes did not come into the queue.
func (q *quotas) stored(namespace string, bytes int64, kept bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.under[namespace] -= bytes; q.under[namespace] == 0 {
		delete(q.under, namespace)
	}
	if !kept {
		q.added[namespace] = max(0, q.added[namespace]-bytes)
	}
}

// holds is what the namespace holds, at most: what the queue stored while it was asked counts twice until the next time.
func (q *quotas) holds(namespace string) int64 {
	q.look()
	return q.known[namespace] + q.added[namespace] + q.unmatched[namespace]
}

// waits counts what is to be matched later, until matched.
func (q *quotas) waits(namespace string, bytes int64) {
	if bytes == 0 {
		return
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.unmatched[namespace] += bytes
}

// matched ends what waits has begun, and counts what the deliveries hold.
func (q *quotas) matched(namespace string, bytes, deliveries int64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.unmatched[namespace] -= bytes; q.unmatched[namespace] <= 0 {
		delete(q.unmatched, namespace) // less than nothing when it is from before a restart
	}
	if deliveries > 0 {
		q.added[namespace] += deliveries
	}
}

func (q *quotas) look() {
	now := q.now()
	if q.known != nil && now.Sub(q.asked) < heldFor {
		return
	}
	q.asked = now
	clear(q.added)
	maps.Copy(q.added, q.under)
	q.known = q.held()
}

// limiter is the namespace's; those that have not posted for a while are forgotten, since theirs would be as a new one.
func (q *quotas) limiter(namespace string) *rate.Limiter {
	if l, ok := q.paced[namespace]; ok {
		return l
	}
	if len(q.paced) >= maxPaced {
		now := q.now()
		for other, l := range q.paced {
			if l.TokensAt(now) >= float64(q.burst) {
				delete(q.paced, other)
			}
		}
	}
	if len(q.paced) >= maxPaced {
		return q.rest
	}
	l := rate.NewLimiter(q.rate, q.burst)
	q.paced[namespace] = l
	return l
}

// refuse counts and says once in a while which namespace it was; the metric has no room for its name.
func (q *quotas) refuse(quota, namespace string, err error) error {
	q.refused[quota].Inc()
	q.report.Do(func() { q.log.Info("a namespace has used up a quota", "namespace", namespace, "quota", quota) })
	return err
}

func (q *quotas) largest() float64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.look()
	most := int64(0)
	for _, bytes := range q.known {
		most = max(most, bytes)
	}
	for namespace, bytes := range q.unmatched {
		most = max(most, q.known[namespace]+bytes)
	}
	return float64(most) / float64(q.share)
}
