// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/garyclub/webhook-operator/api/v1alpha1"
)

func TestWhatAPodIsJudgedToBe(t *testing.T) {
	at := time.Date(2026, 2, 15, 14, 32, 0, 0, time.UTC)
	ago := func(seconds int) time.Time { return at.Add(-time.Duration(seconds) * time.Second) }
	cases := map[string]struct {
		facts podFacts
		want  podState
	}{
		"without our container":                 {podFacts{version: "v1"}, podMissing},
		"not started yet":                       {podFacts{injected: true, version: "v1", silent: ago(600)}, podInjected},
		"started a moment ago":                  {podFacts{injected: true, version: "v1", began: ago(59), silent: ago(600)}, podInjected},
		"started a minute ago":                  {podFacts{injected: true, version: "v1", began: ago(60), silent: ago(60)}, podDisconnected},
		"connected":                             {podFacts{injected: true, version: "v1", began: ago(600), connected: true}, podInjected},
		"its stream ended a moment ago":         {podFacts{injected: true, version: "v1", began: ago(600), silent: ago(59)}, podInjected},
		"its stream ended a minute ago":         {podFacts{injected: true, version: "v1", began: ago(600), silent: ago(60)}, podDisconnected},
		"of another version":                    {podFacts{injected: true, version: "v0", began: ago(600), connected: true}, podOutdated},
		"of another version, not started":       {podFacts{injected: true, version: "v0", silent: ago(600)}, podOutdated},
		"of another version, and not connected": {podFacts{injected: true, version: "v0", began: ago(60), silent: ago(60)}, podDisconnected},
		"of a version that is not known":        {podFacts{injected: true, began: ago(60), connected: true}, podOutdated},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			if got := judgePod(tc.facts, "v1", at); got != tc.want {
				t.Errorf("state is %s, want %s", got, tc.want)
			}
		})
	}
}

func TestWhenADispatcherBegan(t *testing.T) {
	first, second := metav1.Unix(1_000, 0), metav1.Unix(2_000, 0)
	ended := &corev1.ContainerStateTerminated{StartedAt: first}
	waiting := &corev1.ContainerStateWaiting{Reason: "CrashLoopBackOff"}
	cases := map[string]struct {
		status corev1.ContainerStatus
		want   time.Time
	}{
		"another container":    {corev1.ContainerStatus{Name: "app", State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: first}}}, time.Time{}},
		"not yet":              {corev1.ContainerStatus{Name: v1alpha1.SidecarName, State: corev1.ContainerState{Waiting: waiting}}, time.Time{}},
		"it runs":              {corev1.ContainerStatus{Name: v1alpha1.SidecarName, State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: second}}, LastTerminationState: corev1.ContainerState{Terminated: ended}}, second.Time},
		"it has just ended":    {corev1.ContainerStatus{Name: v1alpha1.SidecarName, State: corev1.ContainerState{Terminated: ended}}, first.Time},
		"it ends all the time": {corev1.ContainerStatus{Name: v1alpha1.SidecarName, State: corev1.ContainerState{Waiting: waiting}, LastTerminationState: corev1.ContainerState{Terminated: ended}}, first.Time},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			pod := &corev1.Pod{Status: corev1.PodStatus{InitContainerStatuses: []corev1.ContainerStatus{tc.status}}}
			if got := begun(pod); !got.Equal(tc.want) {
				t.Errorf("it began at %v, want %v", got, tc.want)
			}
		})
	}
}

func TestNothingOfAPodsSpecIsCached(t *testing.T) {
	meta := metav1.ObjectMeta{Namespace: "n", Name: "p", UID: "u", ResourceVersion: "7", Labels: map[string]string{v1alpha1.LabelInject: "true"},
		Annotations: map[string]string{v1alpha1.AnnotationInjected: "v1", "other": "hush"}}
	running := corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: metav1.Unix(1_000, 0)}}
	pod := &corev1.Pod{
		ObjectMeta: meta,
		Spec: corev1.PodSpec{
			Containers:     []corev1.Container{{Name: "app", Env: []corev1.EnvVar{{Name: "KEY", Value: "hush"}}}},
			InitContainers: []corev1.Container{{Name: "first"}, {Name: v1alpha1.SidecarName, Args: []string{"hush"}}},
		},
		Status: corev1.PodStatus{Phase: corev1.PodRunning, PodIP: "10.0.0.1",
			ContainerStatuses:     []corev1.ContainerStatus{{Name: "app"}},
			InitContainerStatuses: []corev1.ContainerStatus{{Name: "first"}, {Name: v1alpha1.SidecarName, Image: "i", State: running}}},
	}
	want := &corev1.Pod{ObjectMeta: meta, Spec: corev1.PodSpec{InitContainers: []corev1.Container{{Name: v1alpha1.SidecarName}}},
		Status: corev1.PodStatus{Phase: corev1.PodRunning, InitContainerStatuses: []corev1.ContainerStatus{{Name: v1alpha1.SidecarName, State: running}}}}
	want.Annotations = map[string]string{v1alpha1.AnnotationInjected: "v1"}
	got, err := trimPod(pod)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("cached (-want +got):\n%s", diff)
	}
	if hasSidecar(pod) != hasSidecar(want) || !begun(pod).Equal(begun(want)) {
		t.Error("what is judged is not cached")
	}
	if got, err := trimPod("no pod"); got != "no pod" || err != nil {
		t.Error("what is no pod was changed")
	}
}
