// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package record

import (
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/garyclub/webhook-operator/api/v1alpha1"
)

const (
	// recentTime is longer than an informer is behind while writes succeed; a write that finds itself outdated reads anew.
	recentTime = time.Minute
	maxRecent  = 4_096
)

// recent keeps what was just written, which the informer may not have seen yet: otherwise each quick update would be
// refused once, and refused writes count; and a record could be taken for missing, and not be brought to its end.
type recent struct {
	byKey map[types.NamespacedName]written
	order []written // by time
}

type written struct {
	object *v1alpha1.DeliveryAttempt
	at     time.Time
}

func newRecent() *recent { return &recent{byKey: map[types.NamespacedName]written{}} }

func keyOf(o *v1alpha1.DeliveryAttempt) types.NamespacedName {
	return types.NamespacedName{Namespace: o.Namespace, Name: o.Name}
}

func (r *recent) put(o *v1alpha1.DeliveryAttempt, now time.Time) {
	w := written{object: o, at: now}
	r.byKey[keyOf(o)] = w
	r.order = append(r.order, w)
	r.expire(now)
}

func (r *recent) get(key types.NamespacedName, now time.Time) *v1alpha1.DeliveryAttempt {
	r.expire(now)
	return r.byKey[key].object
}

func (r *recent) drop(key types.NamespacedName) { delete(r.byKey, key) }

func (r *recent) expire(now time.Time) {
	for len(r.order) > 0 && (len(r.order) > maxRecent || now.Sub(r.order[0].at) > recentTime) {
		oldest := r.order[0]
		r.order[0] = written{}
		r.order = r.order[1:]
		if r.byKey[keyOf(oldest.object)].object == oldest.object {
			delete(r.byKey, keyOf(oldest.object))
		}
	}
}
