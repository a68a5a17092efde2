// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package manager

import (
	"context"
	"errors"

	"k8s.io/client-go/rest"

	"github.com/garyclub/webhook-operator/controllers"
	"github.com/garyclub/webhook-operator/internal/record"
)

// records makes what turns reports into objects: all of it works on the leader alone.
func (a *assembly) records(context.Context, *rest.Config) error {
	retention, err := record.NewRetention(record.RetentionOptions{Client: a.mgr.GetClient(), Informers: a.mgr.GetCache(), Metrics: a.metrics})
	if err != nil {
		return err
	}
	a.recorder, err = record.New(record.Options{Client: a.mgr.GetClient(), Reader: a.mgr.GetAPIReader(), Headroom: a.budget,
		Shelf: retention, Metrics: a.metrics})
	if err != nil {
		return err
	}
	a.ledger, err = record.NewLedger(record.LedgerOptions{Client: a.mgr.GetClient(), Reader: a.mgr.GetAPIReader(),
		Namespace: a.options.Namespace, OnChange: a.endpointChanged, Metrics: a.metrics})
	if err != nil {
		return err
	}
	return errors.Join(a.mgr.Add(leading{retention.Start}), a.mgr.Add(leading{a.recorder.Start}), a.mgr.Add(leading{a.ledger.Start}))
}

// counters gives the reconciler the ledger's totals in its own type.
type counters struct{ ledger *record.Ledger }

func (c counters) Loaded() bool { return c.ledger.Loaded() }

func (c counters) Totals(namespace, uid string) (controllers.Totals, bool) {
	totals, known := c.ledger.Totals(namespace, uid)
	return controllers.Totals(totals), known
}

// statusShare marks the reconciler's status writes for the budget.
func statusShare(ctx context.Context) context.Context {
	return record.WithShare(ctx, record.ShareStatus)
}

// deleteShare marks the deletions of orders.
func deleteShare(ctx context.Context) context.Context {
	return record.WithShare(ctx, record.ShareDeletes)
}
