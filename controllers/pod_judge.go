// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/garyclub/webhook-operator/api/v1alpha1"
)

// podState is what is seen of a labelled pod's dispatcher: one at a time, the worst.
type podState string

const (
	podInjected     podState = "injected"     // it is there, and connected as far as it can be
	podMissing      podState = "missing"      // the pod was made past the injection
	podOutdated     podState = "outdated"     // another version than the manager's
	podDisconnected podState = "disconnected" // it has run for a minute, and is not connected for one
)

var podStates = []podState{podInjected, podMissing, podOutdated, podDisconnected}

// connectTime is what a dispatcher gets to connect, after its start and whenever its stream ends: manager and connection
// change now and then.
const connectTime = time.Minute

// podFacts are what a pod is judged by.
type podFacts struct {
	injected bool
	version  string // that was injected
	// began is when the dispatcher's container was started last; zero when it was not yet.
	began     time.Time
	connected bool
	// silent is when it was first seen not to be connected; zero while it is.
	silent time.Time
}

// judgePod is the pure decision.
func judgePod(f podFacts, version string, now time.Time) podState {
	switch {
	case !f.injected:
		return podMissing
	case !f.connected && !f.began.IsZero() && now.Sub(f.began) >= connectTime && now.Sub(f.silent) >= connectTime:
		return podDisconnected
	case f.version != version:
		return podOutdated
	}
	return podInjected
}

// judged says that a dispatcher is to be expected in the pod. One that has ended or is about to is none of a person's
// concern; what was left in its queue is the ledger's.
func judged(pod *corev1.Pod) bool {
	return pod.DeletionTimestamp.IsZero() && pod.Status.Phase != corev1.PodSucceeded && pod.Status.Phase != corev1.PodFailed
}

func hasSidecar(pod *corev1.Pod) bool {
	for i := range pod.Spec.InitContainers {
		if pod.Spec.InitContainers[i].Name == v1alpha1.SidecarName {
			return true
		}
	}
	return false
}

// begun is when the dispatcher was started last. One that a kubelet waits to start again was started before that.
func begun(pod *corev1.Pod) time.Time {
	for _, s := range pod.Status.InitContainerStatuses {
		if s.Name != v1alpha1.SidecarName {
			continue
		}
		switch {
		case s.State.Running != nil:
			return s.State.Running.StartedAt.Time
		case s.State.Terminated != nil:
			return s.State.Terminated.StartedAt.Time
		case s.LastTerminationState.Terminated != nil:
			return s.LastTerminationState.Terminated.StartedAt.Time
		}
	}
	return time.Time{}
}

// trimPod leaves of a pod in the cache what is looked at here.
func trimPod(o any) (any, error) {
	pod, ok := o.(*corev1.Pod)
	if !ok {
		return o, nil
	}
	trimmed := &corev1.Pod{TypeMeta: pod.TypeMeta}
	trimmed.Namespace, trimmed.Name, trimmed.UID, trimmed.ResourceVersion = pod.Namespace, pod.Name, pod.UID, pod.ResourceVersion
	trimmed.Labels, trimmed.DeletionTimestamp = pod.Labels, pod.DeletionTimestamp
	if version, injected := pod.Annotations[v1alpha1.AnnotationInjected]; injected {
		trimmed.Annotations = map[string]string{v1alpha1.AnnotationInjected: version}
	}
	if hasSidecar(pod) {
		trimmed.Spec.InitContainers = []corev1.Container{{Name: v1alpha1.SidecarName}}
	}
	trimmed.Status.Phase = pod.Status.Phase
	for _, s := range pod.Status.InitContainerStatuses {
		if s.Name == v1alpha1.SidecarName {
			trimmed.Status.InitContainerStatuses = []corev1.ContainerStatus{{
				Name: s.Name, State: s.State, LastTerminationState: s.LastTerminationState}}
		}
	}
	return trimmed, nil
}
