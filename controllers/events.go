// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/garyclub/webhook-operator/api/v1alpha1"
	"github.com/garyclub/webhook-operator/internal/conditions"
)

// news is one Kubernetes Event. Its text is made of conditions' messages, in which there are hosts but no paths.
type news struct{ kind, reason, note string }

// tell writes Events about what changed with the last write, so there are never more of them than status writes. The
// recorder joins what repeats into series.
func (r *WebhookEndpointReconciler) tell(w *work) {
	for _, n := range newsOf(w.Base.Status.Conditions, w.obj.Status.Conditions) {
		r.Events.Eventf(w.obj, nil, n.kind, n.reason, "Judge", "%s", n.note)
	}
}

// newsOf is the pure decision what is worth an Event: another health, not the steps on the way to it.
func newsOf(before, after []metav1.Condition) []news {
	var all []news
	if n, now := healthOf(after); now {
		if was, ok := healthOf(before); !ok || was.reason != n.reason {
			all = append(all, n)
		}
	}
	was, is := conditions.Get(before, v1alpha1.ConditionDelivering), conditions.Get(after, v1alpha1.ConditionDelivering)
	switch {
	case is.Reason == v1alpha1.ReasonFailing && was.Reason != is.Reason:
		all = append(all, news{corev1.EventTypeWarning, is.Reason, is.Message})
	case is.Reason == v1alpha1.ReasonDelivering && was.Reason == v1alpha1.ReasonFailing:
		all = append(all, news{corev1.EventTypeNormal, is.Reason, is.Message})
	}
	return all
}

// healthOf returns the Event that a settled Ready is worth.
func healthOf(list []metav1.Condition) (news, bool) {
	c := conditions.Get(list, v1alpha1.ConditionReady)
	switch c.Reason {
	case v1alpha1.ReasonReady, v1alpha1.ReasonSuspended:
		return news{corev1.EventTypeNormal, c.Reason, c.Message}, true
	case v1alpha1.ReasonTestFailed, v1alpha1.ReasonGone:
		return news{corev1.EventTypeWarning, c.Reason, c.Message}, true
	case v1alpha1.ReasonSigningKeyMissing:
		return news{corev1.EventTypeWarning, conditions.Get(list, v1alpha1.ConditionSigningKeyReady).Reason, c.Message}, true
	case v1alpha1.ReasonNotAccepted:
		if accepted := conditions.Get(list, v1alpha1.ConditionAccepted); accepted.Status == metav1.ConditionFalse {
			return news{corev1.EventTypeWarning, accepted.Reason, c.Message}, true
		}
	}
	return news{}, false
}
