// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package record

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/garyclub/webhook-operator/api/v1alpha1"
	"github.com/garyclub/webhook-operator/internal/delivery"
	"github.com/garyclub/webhook-operator/internal/endpoint"
	"github.com/garyclub/webhook-operator/internal/event"
)

// world stands in for cache and API server where only pace and order matter: objects by name, with resource versions.
type world struct {
	client.Client // whatever is not written here panics

	mu      sync.Mutex
	objects map[string]client.Object
	version int
	writes  []string // verb and name, in order
	// refuse is asked before each write.
	refuse func(verb string) error
	// took is how long a write takes.
	took time.Duration
}

func newWorld(objects ...client.Object) *world {
	w := &world{objects: map[string]client.Object{}}
	for _, o := range objects {
		w.objects[w.id(o)] = o
	}
	return w
}

func (w *world) id(o client.Object) string {
	return fmt.Sprintf("%T %s/%s", o, o.GetNamespace(), o.GetName())
}

func (w *world) write(verb string, o client.Object) error {
	if w.took > 0 {
		advance(w.took) // synctest's clock
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.refuse != nil {
		if err := w.refuse(verb); err != nil {
			return err
		}
	}
	stored, found := w.objects[w.id(o)]
	resource := schema.GroupResource{Resource: "things"}
	switch {
	case verb == "create" && found:
		return apierrors.NewAlreadyExists(resource, o.GetName())
	case verb != "create" && !found:
		return apierrors.NewNotFound(resource, o.GetName())
	case verb != "create" && o.GetResourceVersion() != stored.GetResourceVersion():
		return apierrors.NewConflict(resource, o.GetName(), nil)
	}
	w.version++
	o.SetResourceVersion(strconv.Itoa(w.version))
	if a, ok := o.(*v1alpha1.DeliveryAttempt); ok && verb == "create" {
		a.Status = v1alpha1.DeliveryAttemptStatus{}
	}
	w.writes = append(w.writes, verb+" "+o.GetName())
	w.objects[w.id(o)] = o.DeepCopyObject().(client.Object)
	return nil
}

func (w *world) Get(_ context.Context, key client.ObjectKey, o client.Object, _ ...client.GetOption) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	o.SetNamespace(key.Namespace)
	o.SetName(key.Name)
	stored, found := w.objects[w.id(o)]
	if !found {
		return apierrors.NewNotFound(schema.GroupResource{}, key.Name)
	}
	switch o := o.(type) {
	case *v1alpha1.DeliveryAttempt:
		stored.(*v1alpha1.DeliveryAttempt).DeepCopyInto(o)
	case *v1alpha1.WebhookEndpoint:
		stored.(*v1alpha1.WebhookEndpoint).DeepCopyInto(o)
	case *corev1.ConfigMap:
		stored.(*corev1.ConfigMap).DeepCopyInto(o)
	}
	return nil
}

func (w *world) List(_ context.Context, list client.ObjectList, _ ...client.ListOption) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, o := range w.objects {
		if m, ok := o.(*corev1.ConfigMap); ok {
			list := list.(*corev1.ConfigMapList)
			list.Items = append(list.Items, *m.DeepCopy())
		}
	}
	return nil
}

func (w *world) Create(_ context.Context, o client.Object, _ ...client.CreateOption) error {
	return w.write("create", o)
}

func (w *world) Update(_ context.Context, o client.Object, _ ...client.UpdateOption) error {
	return w.write("update", o)
}

func (w *world) Delete(_ context.Context, o client.Object, _ ...client.DeleteOption) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.refuse != nil {
		if err := w.refuse("delete"); err != nil {
			return err
		}
	}
	if _, found := w.objects[w.id(o)]; !found {
		return apierrors.NewNotFound(schema.GroupResource{}, o.GetName())
	}
	w.writes = append(w.writes, "delete "+o.GetName())
	delete(w.objects, w.id(o))
	return nil
}

func (w *world) Status() client.SubResourceWriter { return statusWriter{world: w} }

type statusWriter struct {
	client.SubResourceWriter
	world *world
}

func (s statusWriter) Update(_ context.Context, o client.Object, _ ...client.SubResourceUpdateOption) error {
	return s.world.write("status", o)
}

// refusing has the verb fail from now on; none when it is empty.
func (w *world) refusing(refused string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.refuse = func(verb string) error {
		if verb == refused {
			return errors.New("connection refused")
		}
		return nil
	}
}

func (w *world) written() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.writes)
}

func (w *world) outcome(d delivery.Record) v1alpha1.DeliveryOutcome {
	o := &v1alpha1.DeliveryAttempt{}
	if err := w.Get(context.Background(), types.NamespacedName{Namespace: d.Ref.Namespace, Name: Name(&d)}, o); err != nil {
		return "none"
	}
	return o.Status.Outcome
}

const testNamespace = "acme"

func testEndpoint(name string) *v1alpha1.WebhookEndpoint {
	p := &v1alpha1.WebhookEndpoint{}
	p.Namespace, p.Name, p.UID = testNamespace, name, types.UID("uid-"+name)
	p.Spec.History = v1alpha1.HistorySpec{Succeeded: 10, Failed: 50, TTLSecondsAfterFinished: 604_800}
	return p
}

var epoch = time.Date(2026, 2, 15, 14, 32, 0, 0, time.UTC)

// testRecord is a delivery of the event to the endpoint, after the given number of attempts.
func testRecord(endpointName, eventID string, s delivery.State, attempts int) delivery.Record {
	r := delivery.Record{
		Delivery: delivery.Delivery{
			Ref: endpoint.Ref{Namespace: testNamespace, Name: endpointName}, UID: "uid-" + endpointName,
			EventID: eventID, Trigger: delivery.TriggerEvent, State: s,
			Accepted: epoch, AttemptCount: attempts, MaxAttempts: 4,
		},
		EventType: event.CallCompleted, EventTime: epoch, CallID: "call_1", PayloadBytes: 1043,
	}
	for n := range attempts {
		outcome, code := delivery.OutcomeRejected, 500
		if s == delivery.Delivered && n == attempts-1 {
			outcome, code = delivery.OutcomeDelivered, 200
		}
		r.Attempts = append(r.Attempts, delivery.Attempt{
			Number: n + 1, Start: epoch.Add(time.Duration(n) * time.Minute), Duration: time.Second, Outcome: outcome, StatusCode: code,
		})
	}
	switch s {
	case delivery.Retrying:
		r.Due = epoch.Add(time.Hour)
	case delivery.Failed:
		r.Reason = string(delivery.OutcomeRejected)
		r.Completed = epoch.Add(time.Hour)
	case delivery.Delivered:
		r.Completed = epoch.Add(time.Hour)
	}
	return r
}

// answers collects what done was called with.
type answers struct {
	mu  sync.Mutex
	all []bool
}

func (a *answers) done(recorded bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.all = append(a.all, recorded)
}

func (a *answers) got() []bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.all)
}

func (a *answers) want(t *testing.T, want ...bool) {
	t.Helper()
	if got := a.got(); !slices.Equal(got, want) {
		t.Errorf("answers are %v, want %v", got, want)
	}
}

type fixedHeadroom float64

func (h fixedHeadroom) Headroom() float64 { return float64(h) }

// behind reads from the cache and writes to the server.
type behind struct {
	*world
	cache *world
}

func (b *behind) Get(ctx context.Context, key client.ObjectKey, o client.Object, options ...client.GetOption) error {
	return b.cache.Get(ctx, key, o, options...)
}

// advance lets synctest's clock run on.
func advance(d time.Duration) { <-time.After(d) }
