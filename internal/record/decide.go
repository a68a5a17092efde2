// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package record

import (
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/garyclub/webhook-operator/api/v1alpha1"
)

// abandonedAfter is beyond the longest deadline that an endpoint can have, a week: whoever held the delivery is gone.
const abandonedAfter = 8 * 24 * time.Hour

// item is what retention knows of a record.
type item struct {
	key      types.NamespacedName
	uid      types.UID
	endpoint string // the UID of its endpoint
	name     string // of its endpoint
	queue    string // its id
	outcome  v1alpha1.DeliveryOutcome
	created  time.Time
	finished time.Time // zero while it is active
}

func (i *item) active() bool { return i.finished.IsZero() }

func itemOf(o *v1alpha1.DeliveryAttempt) item {
	i := item{
		key: keyOf(o), uid: o.UID, endpoint: o.Labels[v1alpha1.LabelEndpoint], name: o.Spec.EndpointRef.Name,
		queue: o.Status.QueueID, outcome: o.Status.Outcome, created: o.CreationTimestamp.Time,
	}
	if i.outcome != v1alpha1.DeliveryDelivered && i.outcome != v1alpha1.DeliveryFailed {
		return i
	}
	i.finished = i.created
	if t := o.Status.CompletionTime; t != nil {
		i.finished = t.Time
	}
	return i
}

// verdict is a record to delete, and the limit that it is over.
type verdict struct {
	item
	reason string
}

// history is what an endpoint keeps.
type history struct {
	succeeded, failed int
	ttl               time.Duration
}

// byHistory judges the records of one endpoint: which go, oldest first, and when to look again; zero for not before
// something changes. Active ones stay until no queue can finish them any more.
func byHistory(now time.Time, items []item, h history) (gone []verdict, next time.Time) {
	kept := map[v1alpha1.DeliveryOutcome]int{v1alpha1.DeliveryDelivered: h.succeeded, v1alpha1.DeliveryFailed: h.failed}
	items = slices.Clone(items)
	slices.SortFunc(items, oldestFirst)
	slices.Reverse(items)
	for _, i := range items {
		end := i.finished.Add(h.ttl)
		if i.active() {
			end = i.created.Add(abandonedAfter)
		}
		switch {
		case !end.After(now):
			gone = append(gone, verdict{i, deletedTTL})
			continue
		case !i.active() && kept[i.outcome] <= 0:
			gone = append(gone, verdict{i, deletedHistory})
			continue
		}
		kept[i.outcome]--
		if next.IsZero() || end.Before(next) {
			next = end
		}
	}
	slices.Reverse(gone)
	return gone, next
}

// byLimit judges the records of a namespace or of the cluster: with more than the limit, delivered ones go before failed
// ones, oldest first; active ones never. It goes a little below the limit, so as not to judge at each new record.
func byLimit(items []item, limit int, reason string) (gone []verdict) {
	over := len(items) - limit
	if over <= 0 {
		return nil
	}
	over += limit / 100
	for _, outcome := range []v1alpha1.DeliveryOutcome{v1alpha1.DeliveryDelivered, v1alpha1.DeliveryFailed} {
		var candidates []item
		for _, i := range items {
			if !i.active() && i.outcome == outcome {
				candidates = append(candidates, i)
			}
		}
		slices.SortFunc(candidates, oldestFirst)
		for _, i := range candidates[:min(len(candidates), over-len(gone))] {
			gone = append(gone, verdict{i, reason})
		}
	}
	return gone
}

func oldestFirst(a, b item) int {
	if c := a.finished.Compare(b.finished); c != 0 {
		return c
	}
	if c := a.created.Compare(b.created); c != 0 {
		return c
	}
	switch {
	case a.key.Name < b.key.Name:
		return -1
	case a.key.Name > b.key.Name:
		return 1
	}
	return 0
}
