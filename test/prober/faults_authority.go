// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package prober

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/garyclub/webhook-operator/internal/fixture/pki"
	"github.com/garyclub/webhook-operator/internal/fixture/system"
)

// The Secret in which the manager keeps the CA of its control service, and its entries.
const (
	authoritySecret         = "webhook-control-ca"
	entryCert, entryKey     = "ca.crt", "ca.key"
	entryNext, entryNextKey = "next-ca.crt", "next-ca.key"
	entryPrevious           = "previous-ca.crt"
	projectionInterval      = 2 * time.Second
	authorityPatience       = 4 * time.Minute
	connectedMetric         = "webhook_dispatcher_control_connected"
)

// rotateAuthority does within a minute what the manager does over months: a successor joins the CAs that dispatchers
// trust, and when all know it, it signs. A manager that starts reads the Secret at once, so it is killed for either step.
func (s *stand) rotateAuthority(ctx context.Context, _ Fault) error {
	next := pki.NewCA("the next control CA")
	for _, step := range []struct {
		change func(map[string][]byte)
		taken  func(context.Context, *dispatcher) error
	}{
		{func(data map[string][]byte) {
			data[entryNext], data[entryNextKey] = next.PEM(), next.KeyPEM()
		}, func(_ context.Context, d *dispatcher) error {
			trusted, err := os.ReadFile(d.CAFile())
			if err == nil && !bytes.Contains(trusted, bytes.TrimSpace(next.PEM())) {
				err = fmt.Errorf("%s does not have the successor", d.CAFile())
			}
			return err
		}},
		{func(data map[string][]byte) {
			data[entryPrevious] = data[entryCert]
			data[entryCert], data[entryKey] = next.PEM(), next.KeyPEM()
			delete(data, entryNext)
			delete(data, entryNextKey)
		}, func(ctx context.Context, d *dispatcher) error {
			m, err := metrics(ctx, d.MetricsURL())
			if err == nil && m[connectedMetric] != 1 {
				err = fmt.Errorf("%s is not connected", d.MetricsURL())
			}
			return err
		}},
	} {
		if err := s.changeAuthority(ctx, step.change); err != nil {
			return err
		}
		if err := s.inflict(ctx, Fault{Kind: Kill, Target: Target{Manager, 0}}); err != nil {
			return err
		}
		for _, d := range s.disp {
			if err := system.Eventually(ctx, authorityPatience, func() error { return step.taken(ctx, d) }); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *stand) changeAuthority(ctx context.Context, change func(map[string][]byte)) error {
	return s.insist(ctx, func(ctx context.Context) error {
		secret := &corev1.Secret{}
		if err := s.sys.Client.Get(ctx, client.ObjectKey{Namespace: system.ManagerNamespace, Name: authoritySecret}, secret); err != nil {
			return err
		}
		change(secret.Data)
		return s.sys.Client.Update(ctx, secret)
	})
}

// project brings the CAs that the manager publishes to where the dispatchers read them, as a kubelet does, until ctx ends.
func (s *stand) project(ctx context.Context) {
	for await(ctx, projectionInterval) {
		for _, d := range s.disp {
			within, cancel := context.WithTimeout(ctx, projectionInterval)
			_ = d.Trust(within) // the API server may be away: the next time, then
			cancel()
		}
	}
}
