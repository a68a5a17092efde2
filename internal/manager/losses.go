// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package manager

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/garyclub/webhook-operator/internal/control"
	"github.com/garyclub/webhook-operator/internal/delivery"
	"github.com/garyclub/webhook-operator/internal/endpoint"
	"github.com/garyclub/webhook-operator/internal/record"
)

// gatewayAccount is the service account, in the manager's namespace, that a gateway is known by unless a flag says another.
const gatewayAccount = "webhook-gateway"

func (o *Options) isGateway(i control.Identity) bool {
	return i.Namespace == o.Namespace && i.ServiceAccount == o.GatewayServiceAccount
}

// losses makes what notices queues that went with their pods.
func (a *assembly) losses(context.Context, *rest.Config) error {
	losses, err := record.NewLosses(record.LossOptions{Ledger: a.ledger, Recorder: a.recorder, Dispatchers: a.server,
		Pods: livePods{a.mgr.GetAPIReader()}, Endpoints: liveEndpoints{a.registry, a.options.serves}, Metrics: a.metrics})
	if err != nil {
		return err
	}
	a.lost = losses
	return a.mgr.Add(leading{losses.Start})
}

// sink is what the control service hands reports to.
type sink struct {
	recorder *record.Recorder
	*record.Ledger
}

// Offer records where the endpoint is, which control has checked: a gateway's are in many namespaces.
func (s sink) Offer(ctx context.Context, _ delivery.Source, r delivery.Record, done func(recorded bool)) error {
	return s.recorder.Offer(ctx, r.Ref.Namespace, r, done)
}

// livePods asks the API server, past the cache: one that is behind would have a queue declared lost, or never.
type livePods struct{ reader client.Reader }

// Exists also takes a pod for gone that has ended: no container of it is started again, and the API server says so only
// once all have ended. The whole object is read, since its phase is in no metadata. One that is being deleted is there
// until it is deleted: on a node that does not answer it may run for long, and come back.
func (p livePods) Exists(ctx context.Context, namespace, name, uid string) (bool, error) {
	pod := &corev1.Pod{}
	err := p.reader.Get(ctx, client.ObjectKey{Namespace: namespace, Name: name}, pod)
	if apierrors.IsNotFound(err) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("read pod: %w", err)
	}
	ended := pod.Status.Phase == corev1.PodFailed || pod.Status.Phase == corev1.PodSucceeded
	return string(pod.UID) == uid && !ended, nil
}

// liveEndpoints are those of the registry, once it is complete.
type liveEndpoints struct {
	registry *endpoint.Registry
	serves   func(namespace string) bool
}

// Exists knows nothing of namespaces that are not served: what was counted there stays, should they be served again.
func (e liveEndpoints) Exists() func(namespace, uid string) bool {
	list, complete, _ := e.registry.ViewAll()
	if !complete {
		return nil
	}
	uids := make(map[string]struct{}, len(list))
	for _, p := range list {
		uids[p.UID] = struct{}{}
	}
	return func(namespace, uid string) bool {
		_, exists := uids[uid]
		return exists || !e.serves(namespace)
	}
}
