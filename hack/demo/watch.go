// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"regexp"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/garyclub/webhook-operator/api/v1alpha1"
)

// lookInterval is how often kubectl is asked: what changes in between is shown together.
const lookInterval = 2 * time.Second

// watch shows what kubectl shows, each time that it changed, until done says that there is no more to come.
func (d *demo) watch(ctx context.Context, resource string, done func(context.Context) error) error {
	tick := time.NewTicker(lookInterval)
	defer tick.Stop()
	shown := ""
	for {
		unfinished := done(ctx) // before the look, so that the last one shows the end
		out, err := d.Kubectl(ctx, "-n", namespace, "get", resource, "--sort-by=.metadata.name")
		if err != nil {
			return fmt.Errorf("kubectl get %s: %w: %s", resource, err, out)
		}
		if what := withoutAges(out); what != shown {
			shown = what
			say("kubectl get %s", resource)
			fmt.Print(out)
		}
		if unfinished == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", ctx.Err(), unfinished)
		case <-tick.C:
		}
	}
}

var age = regexp.MustCompile(`\s+\d+[smh](\d+s)?\b|\s+<invalid>`)

func withoutAges(table string) string { return age.ReplaceAllString(strings.TrimSpace(table), "") }

func (d *demo) endpoints(ctx context.Context) (map[string]*v1alpha1.WebhookEndpoint, error) {
	list := &v1alpha1.WebhookEndpointList{}
	if err := d.Client.List(ctx, list, client.InNamespace(namespace)); err != nil {
		return nil, err
	}
	byName := map[string]*v1alpha1.WebhookEndpoint{}
	for i := range list.Items {
		byName[list.Items[i].Name] = &list.Items[i]
	}
	return byName, nil
}

// dispatcherHasAll: a new endpoint gets events from the moment that the dispatcher has it, whatever its test comes to.
func (d *demo) dispatcherHasAll(ctx context.Context) error {
	all, err := d.endpoints(ctx)
	if err != nil {
		return err
	}
	for _, m := range manners {
		p := all[m.endpoint]
		if p == nil || p.Status.Dispatchers == nil || p.Status.Dispatchers.UpToDate < 1 ||
			!meta.IsStatusConditionTrue(p.Status.Conditions, v1alpha1.ConditionAccepted) {
			return fmt.Errorf("endpoint %s is not with the dispatcher", m.endpoint)
		}
	}
	return nil
}

// deliveries are the records of posted events, without those of test events.
func (d *demo) deliveries(ctx context.Context) ([]v1alpha1.DeliveryAttempt, error) {
	list := &v1alpha1.DeliveryAttemptList{}
	if err := d.Client.List(ctx, list, client.InNamespace(namespace)); err != nil {
		return nil, err
	}
	var all []v1alpha1.DeliveryAttempt
	for i := range list.Items {
		if list.Items[i].Spec.Trigger == v1alpha1.TriggerEvent {
			all = append(all, list.Items[i])
		}
	}
	return all, nil
}

func (d *demo) allFinished(ctx context.Context) error {
	all, err := d.deliveries(ctx)
	if err != nil {
		return err
	}
	finished, want := 0, 0
	for i := range all {
		if all[i].Status.CompletionTime != nil {
			finished++
		}
	}
	for _, p := range d.posted {
		want += p.matches
	}
	if finished < want {
		return fmt.Errorf("%d of %d deliveries have ended", finished, want)
	}
	return nil
}

// allCounted: the counters come after the records, and the slowest test events end last.
func (d *demo) allCounted(ctx context.Context) error {
	all, err := d.endpoints(ctx)
	if err != nil {
		return err
	}
	for _, m := range manners {
		p := all[m.endpoint]
		ready := meta.FindStatusCondition(p.Status.Conditions, v1alpha1.ConditionReady)
		if ready == nil || string(ready.Status) != m.ready || ready.Reason != m.status {
			return fmt.Errorf("endpoint %s: Ready is not %s/%s", m.endpoint, m.ready, m.status)
		}
		if c := p.Status.Deliveries; c == nil || c.Pending != 0 || int(c.Succeeded+c.Failed) != m.deliveries {
			return fmt.Errorf("endpoint %s: its counters do not add up to %d", m.endpoint, m.deliveries)
		}
	}
	return nil
}
