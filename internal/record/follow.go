// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package record

import (
	"context"
	"fmt"

	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/garyclub/webhook-operator/api/v1alpha1"
)

// follow hears of records and of endpoints, whose history may change.
func (r *Retention) follow(ctx context.Context) (unfollow func(), err error) {
	var undo []func()
	unfollow = func() {
		for _, f := range undo {
			f()
		}
	}
	for _, f := range []struct {
		object client.Object
		put    func(any)
		gone   func(any)
	}{
		{&v1alpha1.DeliveryAttempt{}, r.recordSeen, r.recordGone},
		{&v1alpha1.WebhookEndpoint{}, r.endpointSeen, func(any) {}},
	} {
		informer, err := r.o.Informers.GetInformer(ctx, f.object)
		if err != nil {
			return unfollow, fmt.Errorf("informer: %w", err)
		}
		registration, err := informer.AddEventHandler(toolscache.ResourceEventHandlerFuncs{
			AddFunc: f.put, UpdateFunc: func(_, o any) { f.put(o) }, DeleteFunc: f.gone,
		})
		if err != nil {
			return unfollow, fmt.Errorf("follow informer: %w", err)
		}
		if _, records := f.object.(*v1alpha1.DeliveryAttempt); records {
			seen := registration.HasSynced
			r.seen.Store(&seen)
		}
		undo = append(undo, func() { _ = informer.RemoveEventHandler(registration) }) // only fails when it is gone
	}
	return unfollow, nil
}

func (r *Retention) recordSeen(o any) {
	record, ok := o.(*v1alpha1.DeliveryAttempt)
	if !ok {
		return
	}
	i := itemOf(record)
	r.mu.Lock()
	r.shelf.put(i)
	inNamespace, inAll := len(r.shelf.byNamespace[i.key.Namespace]), len(r.shelf.items)
	r.mu.Unlock()
	r.metrics.objects.Set(float64(inAll))
	r.scopes.Add(scope{namespace: i.key.Namespace, endpoint: i.endpoint, name: i.name})
	if inNamespace > r.o.PerNamespace {
		r.scopes.Add(scope{namespace: i.key.Namespace})
	}
	if inAll > r.o.InAll {
		r.scopes.Add(scope{})
	}
}

func (r *Retention) recordGone(o any) {
	if last, unknown := o.(toolscache.DeletedFinalStateUnknown); unknown {
		o = last.Obj
	}
	record, ok := o.(*v1alpha1.DeliveryAttempt)
	if !ok {
		return
	}
	r.mu.Lock()
	r.shelf.gone(keyOf(record))
	inAll := len(r.shelf.items)
	r.mu.Unlock()
	r.metrics.objects.Set(float64(inAll))
}

func (r *Retention) endpointSeen(o any) {
	if p, ok := o.(*v1alpha1.WebhookEndpoint); ok {
		r.scopes.Add(scope{namespace: p.Namespace, endpoint: string(p.UID), name: p.Name})
	}
}
