// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package record

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/garyclub/webhook-operator/api/v1alpha1"
)

const (
	defaultPerNamespace = 1_000
	defaultInAll        = 8_000
	deleters            = 4
)

// defaultHistory is that of the kind, for records whose endpoint is not there (any more).
var defaultHistory = history{succeeded: 10, failed: 50, ttl: 7 * 24 * time.Hour}

// Informers gives access to the manager's cache.
type Informers interface {
	GetInformer(ctx context.Context, obj client.Object, opts ...cache.InformerGetOption) (cache.Informer, error)
}

// RetentionOptions of a Retention.
type RetentionOptions struct {
	// Client reads endpoints from the cache and deletes.
	Client    client.Client
	Informers Informers
	// PerNamespace and InAll bound the records; 1,000 and 8,000 by default.
	PerNamespace, InAll int
	// Metrics may be nil.
	Metrics *Metrics
}

// Retention deletes records that are over their endpoint's history, its TTL, or the limits of namespace and cluster.
// It follows the informers; nothing is asked of the API server but the deletions. A record that is active is not
// deleted, over whichever limit: instead the recorder makes no more of them (ActiveFull), so that finished ones, which
// can be deleted, are at least half. One that is active long after any deadline has no queue any more, and goes.
type Retention struct {
	o       RetentionOptions
	metrics *Metrics
	scopes  workqueue.TypedDelayingInterface[scope]
	deletes workqueue.TypedRateLimitingInterface[verdict]
	backlog atomic.Int64
	stopped sync.Once
	stop    chan struct{}
	started atomic.Bool
	ended   chan struct{}

	// seen says, once records are followed, whether all that were there at the beginning are on the shelf.
	seen atomic.Pointer[func() bool]

	mu    sync.Mutex
	shelf *shelf
}

// scope is what is judged at once: an endpoint (by namespace and UID), a namespace, or the cluster.
type scope struct{ namespace, endpoint, name string }

// NewRetention returns a retention that works when it is started.
func NewRetention(o RetentionOptions) (*Retention, error) {
	if o.Client == nil || o.Informers == nil {
		return nil, errors.New("retention: Client and Informers are required")
	}
	if o.PerNamespace == 0 {
		o.PerNamespace = defaultPerNamespace
	}
	if o.InAll == 0 {
		o.InAll = defaultInAll
	}
	if o.Metrics == nil {
		o.Metrics = NewMetrics(nil)
	}
	return &Retention{
		o: o, metrics: o.Metrics, shelf: newShelf(), stop: make(chan struct{}), ended: make(chan struct{}),
		scopes: workqueue.NewTypedDelayingQueue[scope](),
		deletes: workqueue.NewTypedRateLimitingQueue(
			workqueue.NewTypedItemExponentialFailureRateLimiter[verdict](firstRetry, lastRetry)),
	}, nil
}

// Backlog is how many deletions wait.
func (r *Retention) Backlog() int { return int(r.backlog.Load()) }

// ActiveFull says that unfinished deliveries have taken their half of a limit.
func (r *Retention) ActiveFull(namespace string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.shelf.active[namespace] >= r.o.PerNamespace/2 || r.shelf.allActive >= r.o.InAll/2
}

// OfQueue lists the records of a namespace, or of all when that is empty, that name the queue and have not ended. known
// is false before all records were seen.
func (r *Retention) OfQueue(namespace, queueID string) (keys []types.NamespacedName, known bool) {
	if seen := r.seen.Load(); seen == nil || !(*seen)() {
		return nil, false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.shelf.ofQueue(namespace, queueID), true
}

// Start follows the informers until the context ends or Stop is called.
func (r *Retention) Start(ctx context.Context) error {
	if !r.started.CompareAndSwap(false, true) {
		return errors.New("retention was started before")
	}
	defer close(r.ended)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	unfollow, err := r.follow(ctx)
	defer unfollow()
	if err != nil {
		return err
	}
	var workers sync.WaitGroup
	workers.Go(func() { r.judgeAll(ctx) })
	for range deleters {
		workers.Go(func() { r.deleteAll(WithShare(ctx, ShareDeletes)) })
	}
	select {
	case <-ctx.Done():
	case <-r.stop:
	}
	cancel()
	r.scopes.ShutDown()
	r.deletes.ShutDown()
	workers.Wait()
	return nil
}

// Stop ends the work. It may be repeated.
func (r *Retention) Stop(ctx context.Context) error {
	r.stopped.Do(func() { close(r.stop) })
	r.scopes.ShutDown()
	r.deletes.ShutDown()
	if !r.started.Load() {
		return nil
	}
	select {
	case <-r.ended:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (r *Retention) judgeAll(ctx context.Context) {
	for {
		s, shutdown := r.scopes.Get()
		if shutdown {
			return
		}
		if next := r.judge(ctx, s, time.Now()); !next.IsZero() {
			r.scopes.AddAfter(s, time.Until(next))
		}
		r.scopes.Done(s)
	}
}

// judge decides what goes, and says when to look again.
func (r *Retention) judge(ctx context.Context, s scope, now time.Time) (next time.Time) {
	var h history
	if s.endpoint != "" {
		h = r.historyOf(ctx, s)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	var gone []verdict
	switch {
	case s.endpoint != "":
		gone, next = byHistory(now, r.shelf.list(r.shelf.byEndpoint[s.endpoint]), h)
	case s.namespace != "":
		gone = byLimit(r.shelf.list(r.shelf.byNamespace[s.namespace]), r.o.PerNamespace, deletedNamespace)
	default:
		all := make([]item, 0, len(r.shelf.items))
		for _, i := range r.shelf.items {
			all = append(all, i)
		}
		gone = byLimit(all, r.o.InAll, deletedCluster)
	}
	for _, v := range gone {
		r.shelf.doom(v.item)
		r.metrics.backlog.Set(float64(r.backlog.Add(1)))
		r.deletes.Add(v)
	}
	return next
}

func (r *Retention) historyOf(ctx context.Context, s scope) history {
	p := &v1alpha1.WebhookEndpoint{}
	if err := r.o.Client.Get(ctx, types.NamespacedName{Namespace: s.namespace, Name: s.name}, p); err != nil || string(p.UID) != s.endpoint {
		return defaultHistory
	}
	h := p.Spec.History
	kept := history{succeeded: int(h.Succeeded), failed: int(h.Failed), ttl: time.Duration(h.TTLSecondsAfterFinished) * time.Second}
	if kept.ttl == 0 {
		kept.ttl = defaultHistory.ttl
	}
	return kept
}

func (r *Retention) deleteAll(ctx context.Context) {
	for {
		v, shutdown := r.deletes.Get()
		if shutdown {
			return
		}
		err := r.delete(ctx, v)
		if err == nil {
			r.deletes.Forget(v)
			r.metrics.backlog.Set(float64(r.backlog.Add(-1)))
			r.metrics.deletes.WithLabelValues(v.reason).Inc()
		} else if ctx.Err() == nil {
			logr.FromContextOrDiscard(ctx).V(1).Info("record was not deleted yet", "namespace", v.key.Namespace,
				"delivery", v.key.Name, "error", err.Error())
			r.deletes.AddRateLimited(v)
		}
		r.deletes.Done(v)
	}
}

// delete deletes exactly the object that was judged: another of its name is another delivery's, or a newer state.
func (r *Retention) delete(ctx context.Context, v verdict) error {
	o := &v1alpha1.DeliveryAttempt{}
	o.Namespace, o.Name = v.key.Namespace, v.key.Name
	err := r.o.Client.Delete(ctx, o, client.Preconditions{UID: &v.uid})
	if err == nil || apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
		return nil
	}
	return fmt.Errorf("delete record: %w", err)
}
