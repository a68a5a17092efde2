// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package conditions

import (
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestSetKeepsTheTransitionTimeWhileTheStatusStays(t *testing.T) {
	var list []metav1.Condition
	Set(&list, 1, False("Ready", "TestPending", "one"))
	begin := metav1.Unix(1000, 0)
	list[0].LastTransitionTime = begin

	Set(&list, 2, False("Ready", "TestFailed", "two"))
	got := Get(list, "Ready")
	if !got.LastTransitionTime.Equal(&begin) || got.Reason != "TestFailed" || got.Message != "two" || got.ObservedGeneration != 2 {
		t.Errorf("after a new reason: %+v", got)
	}
	Set(&list, 3, True("Ready", "Ready", "three"))
	if got := Get(list, "Ready"); got.LastTransitionTime.Equal(&begin) {
		t.Error("a new status kept the transition time")
	}
	if len(list) != 1 {
		t.Errorf("%d conditions, want 1", len(list))
	}
}

func TestGetAndDelete(t *testing.T) {
	var list []metav1.Condition
	if got := Get(list, "Stalled"); got.Status != "" {
		t.Errorf("a missing condition is %+v", got)
	}
	Set(&list, 1, True("Stalled", "Suspended", strings.Repeat("x", 5000)))
	if got := len(Get(list, "Stalled").Message); got != maxMessage {
		t.Errorf("message has %d bytes, want %d", got, maxMessage)
	}
	Delete(&list, "Stalled")
	Delete(&list, "Stalled")
	if len(list) != 0 {
		t.Errorf("left after Delete: %v", list)
	}
}
