// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"errors"
	"fmt"
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
	"sigs.k8s.io/controller-runtime/pkg/predicate"

	"github.com/garyclub/webhook-operator/api/v1alpha1"
	"github.com/garyclub/webhook-operator/internal/conditions"
	"github.com/garyclub/webhook-operator/internal/delivery"
	"github.com/garyclub/webhook-operator/internal/reconcile"
)

// +kubebuilder:rbac:groups=webhooks.gary.club,resources=redeliveries,verbs=get;list;watch;delete
// +kubebuilder:rbac:groups=webhooks.gary.club,resources=redeliveries/status,verbs=patch

const (
	// redeliveryWorkers is how many orders are carried out at once.
	redeliveryWorkers = 4
	// redeliveryPatience is how long a queue that is not there is waited for: as long as a dispatcher takes to start again.
	redeliveryPatience = time.Minute
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

// Queues knows which queues have gone for good; record.Losses does.
type Queues interface {
	// Returns says whether the queue's disk is still there.
	Returns(ctx context.Context, queueID string) (bool, error)
}

// RedeliveryReconciler has orders carried out by the dispatchers. Commit point: the status patch at the end. The queues
// know which orders they have carried out, so that a pass that is repeated, by this leader or the next one, gets the same
// results and moves nothing twice. Unlike the other reconcilers it waits for answers, each within a bound, in workers of
// its own.
type RedeliveryReconciler struct {
	client.Client
	Events events.EventRecorder
	Orders Orders
	Queues Queues
	// Now is time.Now by default.
	Now func() time.Time
	// WriteContext marks status writes for the manager's write budget; it may be nil.
	WriteContext func(context.Context) context.Context
}

// SetupWithManager adds the reconciler to a manager whose cache has CacheOptions.
func (r *RedeliveryReconciler) SetupWithManager(mgr ctrl.Manager) error {
	if r.Events == nil || r.Orders == nil || r.Queues == nil {
		return errors.New("redeliveries: Events, Orders and Queues are needed")
	}
	if r.Now == nil {
		r.Now = time.Now
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
	patcher := reconcile.NewPatcher(r.Client, obj)
	after, moved, err := r.carryOut(ctx, obj)
	if err != nil {
		return ctrl.Result{}, err
	}
	if r.WriteContext != nil {
		ctx = r.WriteContext(ctx)
	}
	if !equality.Semantic.DeepEqual(patcher.Base.Status, obj.Status) {
		if err := patcher.PatchStatus(ctx, obj); err != nil {
			return ctrl.Result{}, err
		}
	}
	if obj.Status.CompletionTime != nil && moved > 0 {
		r.tell(ctx, obj, moved)
	}
	return ctrl.Result{RequeueAfter: after}, nil
}

// carryOut makes one pass over the queues and says in obj's status how far that came, and when to come back.
func (r *RedeliveryReconciler) carryOut(ctx context.Context, obj *v1alpha1.Redelivery) (after time.Duration, moved int, err error) {
	now := metav1.NewTime(r.Now())
	err = r.Get(ctx, client.ObjectKey{Namespace: obj.Namespace, Name: obj.Spec.EndpointRef.Name}, &v1alpha1.WebhookEndpoint{})
	if apierrors.IsNotFound(err) {
		r.end(obj, now, conditions.False(v1alpha1.ConditionComplete, v1alpha1.ReasonEndpointNotFound,
			"there is no WebhookEndpoint of the name in spec.endpointRef in this namespace"))
		return ttl(obj), 0, nil
	}
	if err != nil {
		return 0, 0, fmt.Errorf("read endpoint: %w", err)
	}
	if obj.Status.StartTime == nil {
		obj.Status.StartTime = &now
		r.goOn(obj, running(nil))
		return time.Millisecond, 0, nil // so that it is seen to be under way
	}
	order := orderOf(obj)
	t := ask(ctx, r.Orders, &order)
	if t.away, err = r.away(ctx, &order, r.Orders.Queues(obj.Namespace)); err != nil {
		return 0, 0, err
	}
	obj.Status.Matched, obj.Status.Redelivered = int64(t.matched), int64(t.moved)
	obj.Status.Queues = &v1alpha1.RedeliveryQueues{Asked: int32(t.asked + t.away), Answered: int32(t.answered)}
	if !t.whole() && now.Sub(obj.Status.StartTime.Time) < redeliveryPatience {
		r.goOn(obj, running(t))
		return redeliveryAgain, 0, nil
	}
	r.end(obj, now, complete(&obj.Spec, t))
	return ttl(obj), t.moved, nil
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

// maxAway bounds the queues that are looked for.
const maxAway = 100

// away counts the queues that are not connected, may come back, and reported deliveries that the order names. What a queue
// held that has gone was handed over, or is lost.
func (r *RedeliveryReconciler) away(ctx context.Context, o *delivery.Order, connected []string) (int, error) {
	all := &v1alpha1.DeliveryAttemptList{}
	if err := r.List(ctx, all, client.InNamespace(o.Ref.Namespace)); err != nil {
		return 0, fmt.Errorf("list deliveries: %w", err)
	}
	here, missing := map[string]bool{}, map[string]bool{}
	for _, id := range connected {
		here[id] = true
	}
	for i := range all.Items {
		if id := all.Items[i].Status.QueueID; !here[id] && len(missing) < maxAway && concerns(o, &all.Items[i], r.Now()) {
			missing[id] = true
		}
	}
	n := 0
	for id := range missing {
		returns, err := r.Queues.Returns(ctx, id)
		if err != nil {
			return 0, err
		}
		if returns {
			n++
		}
	}
	return n, nil
}

// expire deletes what has been complete for its time.
func (r *RedeliveryReconciler) expire(ctx context.Context, obj *v1alpha1.Redelivery) (ctrl.Result, error) {
	if left := obj.Status.CompletionTime.Add(ttl(obj)).Sub(r.Now()); left > 0 {
		return ctrl.Result{RequeueAfter: left}, nil
	}
	err := r.Delete(ctx, obj, client.Preconditions{UID: &obj.UID})
	return ctrl.Result{}, client.IgnoreNotFound(err)
}

func ttl(obj *v1alpha1.Redelivery) time.Duration {
	const unset = 7 * 24 * time.Hour // the default of the API
	if s := obj.Spec.TTLSecondsAfterFinished; s != nil {
		return max(time.Duration(*s)*time.Second, time.Millisecond)
	}
	return unset
}

// tell writes an Event on the endpoint: who looks there sees why deliveries come again.
func (r *RedeliveryReconciler) tell(ctx context.Context, obj *v1alpha1.Redelivery, moved int) {
	about := &v1alpha1.WebhookEndpoint{}
	if err := r.Get(ctx, client.ObjectKey{Namespace: obj.Namespace, Name: obj.Spec.EndpointRef.Name}, about); err != nil {
		return // it is being deleted
	}
	about = &v1alpha1.WebhookEndpoint{ObjectMeta: metav1.ObjectMeta{Namespace: about.Namespace, Name: about.Name, UID: about.UID}}
	r.Events.Eventf(about, obj, corev1.EventTypeNormal, reasonOrdered, "Redeliver", "%d failed deliveries are sent again, as Redelivery %s orders", moved, obj.Name)
}
