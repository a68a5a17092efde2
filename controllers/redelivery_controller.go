// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/events"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/predicate"

	"github.com/garyclub/webhook-operator/api/v1alpha1"
	"github.com/garyclub/webhook-operator/internal/conditions"
	"github.com/garyclub/webhook-operator/internal/delivery"
	"github.com/garyclub/webhook-operator/internal/endpoint"
	"github.com/garyclub/webhook-operator/internal/reconcile"
)

// +kubebuilder:rbac:groups=webhooks.gary.club,resources=redeliveries,verbs=list;watch;delete
// +kubebuilder:rbac:groups=webhooks.gary.club,resources=redeliveries/status,verbs=patch

const (
	// redeliveryWorkers is how many orders are carried out at once.
	redeliveryWorkers = 4
	// redeliveryPatience is how long a queue that is not there is waited for: as long as a dispatcher takes to start again.
	redeliveryPatience = time.Minute
	// redeliverySettle is how long no order ends after this manager became the leader: dispatchers connect within it.
	redeliverySettle = 20 * time.Second
	// redeliveryAgain is how soon queues that have not answered are asked once more.
	redeliveryAgain = 2 * time.Second
	// reasonOrdered is of an Event on the endpoint.
	reasonOrdered = "Redelivered"
)

// Orders gives orders to the dispatchers that hold the payloads; control.Server does.
type Orders interface {
	// Queues lists the queues of the connected dispatchers that deliver in the namespace, in order.
	Queues(namespace string) []string
	// Redeliver waits for the queue's result. The same order moves nothing twice.
	Redeliver(ctx context.Context, queueID string, o *delivery.Order) (delivery.Redelivered, error)
}

// Queues knows which queues are missed; record.Losses does.
type Queues interface {
	// Away lists the queues that are not connected, may come back, and may hold failed deliveries of the endpoint.
	Away(ctx context.Context, endpointUID string, connected []string) ([]string, error)
}

// InForce says whether the generation of an endpoint is what all connected dispatchers deliver by, so that an order that is
// given now goes where the endpoint points now.
type InForce func(ref endpoint.Ref, uid string, generation int64) bool

// RedeliveryReconciler has orders carried out by the dispatchers. Commit point: the status patch at the end. The queues
// know which orders they have carried out, so that a pass that is repeated, by this leader or the next one, gets the same
// results and moves nothing twice. Unlike the other reconcilers it waits for answers, each within a bound, in workers of
// its own.
type RedeliveryReconciler struct {
	client.Client
	Events events.EventRecorder
	Orders Orders
	Queues Queues
	// InForce is needed.
	InForce InForce
	// Now is time.Now by default.
	Now func() time.Time
	// WriteContext and DeleteContext mark status writes and deletions for the manager's write budget; they may be nil.
	WriteContext, DeleteContext func(context.Context) context.Context

	// Settle is redeliverySettle by default.
	Settle time.Duration

	began atomic.Pointer[time.Time] // this manager's term
}

// SetupWithManager adds the reconciler to a manager whose cache has CacheOptions.
func (r *RedeliveryReconciler) SetupWithManager(mgr ctrl.Manager) error {
	if r.Events == nil || r.Orders == nil || r.Queues == nil || r.InForce == nil {
		return errors.New("redeliveries: Events, Orders, Queues and InForce are needed")
	}
	if r.Now == nil {
		r.Now = time.Now
	}
	if r.Settle == 0 {
		r.Settle = redeliverySettle
	}
	if err := mgr.Add(manager.RunnableFunc(r.begin)); err != nil {
		return fmt.Errorf("redeliveries: %w", err)
	}
	return ctrl.NewControllerManagedBy(mgr).
		For(&v1alpha1.Redelivery{}, builder.WithPredicates(predicate.GenerationChangedPredicate{})).
		WithOptions(controller.Options{MaxConcurrentReconciles: redeliveryWorkers}).
		Complete(r)
}

// Reconcile carries one order out, or deletes it when it has been complete for long enough.
func (r *RedeliveryReconciler) Reconcile(ctx context.Context, request ctrl.Request) (ctrl.Result, error) {
	obj := &v1alpha1.Redelivery{}
	if err := r.Get(ctx, request.NamespacedName, obj); err != nil || !obj.DeletionTimestamp.IsZero() {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	if obj.Status.CompletionTime != nil {
		return r.expire(ctx, obj)
	}
	if r.began.Load() == nil {
		return ctrl.Result{RequeueAfter: cacheLag}, nil // begin runs at the same time
	}
	patcher := reconcile.NewPatcher(r.Client, obj)
	after, err := r.carryOut(ctx, obj)
	if err != nil {
		return ctrl.Result{}, err
	}
	if !equality.Semantic.DeepEqual(patcher.Base.Status, obj.Status) {
		if err := patcher.PatchStatus(mark(ctx, r.WriteContext), obj); err != nil {
			return ctrl.Result{}, err
		}
	}
	if obj.Status.CompletionTime != nil && obj.Status.Redelivered > 0 {
		r.tell(ctx, obj)
	}
	return ctrl.Result{RequeueAfter: after}, nil
}

// mark puts a write into its share of the budget.
func mark(ctx context.Context, share func(context.Context) context.Context) context.Context {
	if share == nil {
		return ctx
	}
	return share(ctx)
}

// carryOut makes one pass over the queues and says in obj's status how far that came, and when to come back.
func (r *RedeliveryReconciler) carryOut(ctx context.Context, obj *v1alpha1.Redelivery) (after time.Duration, err error) {
	now := metav1.NewTime(r.Now())
	if obj.Status.StartTime == nil {
		obj.Status.StartTime = &now
		r.goOn(obj, waitingFor("dispatchers are asked"))
		return cacheLag, nil // so that it is seen to be under way
	}
	began := *r.began.Load()
	patient := now.Sub(latestOf(obj.Status.StartTime.Time, began)) < redeliveryPatience // a new leader waits anew
	p := &v1alpha1.WebhookEndpoint{}
	err = r.Get(ctx, client.ObjectKey{Namespace: obj.Namespace, Name: obj.Spec.EndpointRef.Name}, p)
	switch {
	case apierrors.IsNotFound(err) && patient:
		r.goOn(obj, waitingFor("the endpoint is not there yet"))
		return redeliveryAgain, nil
	case apierrors.IsNotFound(err):
		r.end(obj, now, conditions.False(v1alpha1.ConditionComplete, v1alpha1.ReasonEndpointNotFound,
			"there is no WebhookEndpoint of the name in spec.endpointRef in this namespace"))
		return ttl(obj), nil
	case err != nil:
		return 0, fmt.Errorf("read endpoint: %w", err)
	case patient && !r.InForce(endpoint.Ref{Namespace: p.Namespace, Name: p.Name}, string(p.UID), p.Generation):
		r.goOn(obj, waitingFor("the endpoint's latest change is on its way to the dispatchers"))
		return redeliveryAgain, nil
	}
	t, err := r.pass(ctx, obj, string(p.UID))
	if err != nil {
		return 0, err
	}
	t.show(&obj.Status)
	if !t.whole() && patient || now.Sub(began) < r.Settle {
		r.goOn(obj, running(t))
		return redeliveryAgain, nil
	}
	r.end(obj, now, complete(&obj.Spec, t))
	return ttl(obj), nil
}

// pass asks the queues that are connected, and looks for those that are not.
func (r *RedeliveryReconciler) pass(ctx context.Context, obj *v1alpha1.Redelivery, endpointUID string) (*tally, error) {
	order, queues, t := orderOf(obj), r.Orders.Queues(obj.Namespace), tallyOf(&obj.Status)
	away, err := r.Queues.Away(ctx, endpointUID, queues)
	if err != nil {
		return nil, err
	}
	t.away = len(away)
	ask(ctx, r.Orders, &order, queues, t)
	return t, nil
}

// begin notes when this manager became the leader.
func (r *RedeliveryReconciler) begin(context.Context) error {
	now := r.Now()
	r.began.Store(&now)
	return nil
}

func latestOf(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

func (r *RedeliveryReconciler) goOn(obj *v1alpha1.Redelivery, c metav1.Condition) {
	s := &obj.Status
	s.ObservedGeneration = obj.Generation
	conditions.Set(&s.Conditions, obj.Generation, c)
	conditions.Set(&s.Conditions, obj.Generation, conditions.True(v1alpha1.ConditionReconciling, c.Reason, c.Message))
}

func (r *RedeliveryReconciler) end(obj *v1alpha1.Redelivery, now metav1.Time, c metav1.Condition) {
	s := &obj.Status
	s.ObservedGeneration, s.CompletionTime = obj.Generation, &now
	conditions.Set(&s.Conditions, obj.Generation, c)
	conditions.Delete(&s.Conditions, v1alpha1.ConditionReconciling)
	if c.Status == metav1.ConditionFalse {
		conditions.Set(&s.Conditions, obj.Generation, conditions.True(v1alpha1.ConditionStalled, c.Reason, c.Message))
	}
}

// expire deletes what has been complete for its time.
func (r *RedeliveryReconciler) expire(ctx context.Context, obj *v1alpha1.Redelivery) (ctrl.Result, error) {
	if left := obj.Status.CompletionTime.Add(ttl(obj)).Sub(r.Now()); left > 0 {
		return ctrl.Result{RequeueAfter: left}, nil
	}
	err := r.Delete(mark(ctx, r.DeleteContext), obj, client.Preconditions{UID: &obj.UID})
	return ctrl.Result{}, client.IgnoreNotFound(err)
}

func ttl(obj *v1alpha1.Redelivery) time.Duration {
	const unset = 7 * 24 * time.Hour // the default of the API
	if s := obj.Spec.TTLSecondsAfterFinished; s != nil {
		return max(time.Duration(*s)*time.Second, cacheLag)
	}
	return unset
}

// tell writes an Event on the endpoint: who looks there sees why deliveries come again.
func (r *RedeliveryReconciler) tell(ctx context.Context, obj *v1alpha1.Redelivery) {
	about := &v1alpha1.WebhookEndpoint{}
	if err := r.Get(ctx, client.ObjectKey{Namespace: obj.Namespace, Name: obj.Spec.EndpointRef.Name}, about); err != nil {
		return // it is being deleted
	}
	about = &v1alpha1.WebhookEndpoint{ObjectMeta: metav1.ObjectMeta{Namespace: about.Namespace, Name: about.Name, UID: about.UID}}
	r.Events.Eventf(about, obj, corev1.EventTypeNormal, reasonOrdered, "Redeliver", "%d failed deliveries are sent again, as Redelivery %s orders", obj.Status.Redelivered, obj.Name)
}
