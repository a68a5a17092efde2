// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/garyclub/webhook-operator/api/v1alpha1"
	"github.com/garyclub/webhook-operator/internal/conditions"
)

// news is one Kubernetes Event. Its text is made of conditions' messages, in which there are hosts but no paths.
type news struct{ kind, reason, note string }

// reasonDeliveriesFailed is of an Event alone: between others that succeeded, some deliveries failed for good.
const reasonDeliveriesFailed = "DeliveriesFailed"

// tell writes Events about what changed with the last write, so there are never more of them than status writes. The
// recorder joins what repeats within minutes into a series, which keeps the note of its first; it compares all that is
// said of the object, so the resource version, another one after each write, is left out.
func (r *WebhookEndpointReconciler) tell(w *work) {
	about := &v1alpha1.WebhookEndpoint{ObjectMeta: metav1.ObjectMeta{Namespace: w.obj.Namespace, Name: w.obj.Name, UID: w.obj.UID}}
	for _, n := range newsOf(w.Base, w.obj) {
		r.Events.Eventf(about, nil, n.kind, n.reason, "Judge", "%s", n.note)
	}
}

// newsOf is the pure decision what is worth an Event: another health, not the steps on the way to it.
func newsOf(before, after *v1alpha1.WebhookEndpoint) []news {
	var all []news
	if n, now := healthOf(after.Status.Conditions); now {
		if was, ok := healthOf(before.Status.Conditions); !ok || was.reason != n.reason {
			all = append(all, n)
		}
	}
	return append(all, deliveryNews(before, after)...)
}

// deliveryNews is one Event at the most: how many deliveries failed for good since the last write, never one for each.
func deliveryNews(before, after *v1alpha1.WebhookEndpoint) []news {
	was := conditions.Get(before.Status.Conditions, v1alpha1.ConditionDelivering)
	is := conditions.Get(after.Status.Conditions, v1alpha1.ConditionDelivering)
	failed := failedOf(after) - failedOf(before)
	nowFailing := is.Reason == v1alpha1.ReasonFailing && was.Reason != is.Reason
	switch {
	case nowFailing && failed > 0:
		return []news{{corev1.EventTypeWarning, is.Reason, failedNote(after, failed)}}
	case nowFailing && was.Reason != v1alpha1.ReasonNoDispatcher: // which hid what was told before
		return []news{{corev1.EventTypeWarning, is.Reason, is.Message}}
	case failed > 0:
		return []news{{corev1.EventTypeWarning, reasonDeliveriesFailed, failedNote(after, failed)}}
	case is.Reason == v1alpha1.ReasonDelivering && was.Reason == v1alpha1.ReasonFailing:
		return []news{{corev1.EventTypeNormal, is.Reason, is.Message}}
	}
	return nil
}

func failedOf(o *v1alpha1.WebhookEndpoint) int64 {
	if o.Status.Deliveries == nil {
		return 0
	}
	return o.Status.Deliveries.Failed
}

func failedNote(o *v1alpha1.WebhookEndpoint, failed int64) string {
	what := "1 delivery"
	if failed > 1 {
		what = fmt.Sprintf("%d deliveries", failed)
	}
	return fmt.Sprintf("%s failed for good since the last look: kubectl get deliveryattempts -n %s --field-selector spec.endpointRef.name=%s,status.outcome=Failed",
		what, o.Namespace, o.Name)
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
