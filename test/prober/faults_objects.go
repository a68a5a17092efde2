// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package prober

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/garyclub/webhook-operator/api/v1alpha1"
)

// rotateKey gives the receiver the next key, then the endpoint both.
func (s *stand) rotateKey(ctx context.Context, f Fault) error {
	p := steadfast()[f.Target.Number]
	r := s.recv[p.receiver]
	keys := r.keys(p.path())
	old, next := keys[len(keys)-1], newSigningKey()
	err := r.change(func(o *Orders) {
		at := o.Endpoints[p.path()]
		at.Keys = append(append([]string(nil), at.Keys...), next)
		o.Endpoints[p.path()] = at
	})
	if err != nil {
		return err
	}
	return s.insist(ctx, func(ctx context.Context) error {
		secret := &corev1.Secret{}
		if err := s.sys.Client.Get(ctx, client.ObjectKey{Namespace: p.namespace, Name: keysSecret(p)}, secret); err != nil {
			return err
		}
		secret.Data = map[string][]byte{v1alpha1.KeySigningKey: []byte(next), v1alpha1.KeyPreviousSigningKey: []byte(old)}
		return s.sys.Client.Update(ctx, secret)
	})
}

func (s *stand) suspend(ctx context.Context, f Fault) error {
	p := steadfast()[f.Target.Number]
	if err := s.patch(ctx, p, func(o *v1alpha1.WebhookEndpointSpec) { o.Suspend = true }); err != nil {
		return err
	}
	await(ctx, f.For)
	return s.patch(ctx, p, func(o *v1alpha1.WebhookEndpointSpec) { o.Suspend = false })
}

// alter changes what deliveries do not depend on.
func (s *stand) alter(ctx context.Context, f Fault) error {
	p := steadfast()[f.Target.Number]
	return s.patch(ctx, p, func(o *v1alpha1.WebhookEndpointSpec) {
		o.DisplayName = "changed at " + f.At.String()
		o.MaxInFlight = 32 + int32(f.At.Milliseconds()%32)
	})
}

func (s *stand) deleteAndRecreate(ctx context.Context, f Fault) error {
	p := places(Recreated)[f.Target.Number]
	old, err := s.deleted(ctx, p)
	if err != nil {
		return err
	}
	await(ctx, f.For)
	return s.recreate(ctx, p, old)
}

func (s *stand) delete(ctx context.Context, f Fault) error {
	_, err := s.deleted(ctx, places(Deleted)[f.Target.Number])
	return err
}

// deleted deletes an endpoint and returns its UID.
func (s *stand) deleted(ctx context.Context, p place) (uid string, err error) {
	err = s.insist(ctx, func(ctx context.Context) error {
		o, err := s.get(ctx, p)
		if err != nil {
			return client.IgnoreNotFound(err)
		}
		uid = string(o.UID)
		return client.IgnoreNotFound(s.sys.Client.Delete(ctx, o))
	})
	return uid, err
}

// leave has the receiver answer 410 for some time. What is held since goes on with the new generation.
func (s *stand) leave(ctx context.Context, f Fault) error {
	p := places(Gone)[f.Target.Number]
	if err := s.recv[p.receiver].behave(p.path(), Behaviour{Status: 410}); err != nil {
		return err
	}
	await(ctx, f.For)
	if err := s.recv[p.receiver].behave(p.path(), p.behaviour); err != nil {
		return err
	}
	return s.welcome(ctx, p, f.At.String())
}

// welcome makes a new generation, which ends the hold of a 410.
func (s *stand) welcome(ctx context.Context, p place, occasion string) error {
	return s.patch(ctx, p, func(o *v1alpha1.WebhookEndpointSpec) {
		o.DisplayName = "back since " + occasion
	})
}
