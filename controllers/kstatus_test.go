// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"fmt"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/cli-utils/pkg/kstatus/status"

	"github.com/garyclub/webhook-operator/api/v1alpha1"
	"github.com/garyclub/webhook-operator/internal/reconcile"
)

// What GitOps tools make of every state that Ready can be in, by the published rules: Current when it is ready, Failed when
// only a change can help, InProgress for all that may pass.
func TestKstatusOfEveryState(t *testing.T) {
	verdicts := []metav1.Condition{
		{Status: metav1.ConditionTrue, ObservedGeneration: 3, Reason: v1alpha1.ReasonAccepted},
		{Status: metav1.ConditionFalse, ObservedGeneration: 3, Reason: v1alpha1.ReasonSecretNotFound, Message: "why"},
		{Status: metav1.ConditionUnknown, ObservedGeneration: 3, Reason: v1alpha1.ReasonInspecting, Message: "wait"},
		{Status: metav1.ConditionTrue, ObservedGeneration: 2, Reason: v1alpha1.ReasonAccepted},
		{},
	}
	seen := map[status.Status]int{}
	for _, accepted := range verdicts {
		for _, key := range verdicts {
			for p := proofNotNeeded; p <= proofFailed; p++ {
				for flags := range 16 {
					f := readyFacts{generation: 3, accepted: accepted, signingKey: key, proof: p, testMessage: "failed", testPend: "soon",
						suspended: flags&1 != 0, gone: flags&2 != 0, stalled: flags&4 != 0, waiting: flags&8 != 0}
					c, stalled := ready(f)
					got := kstatusOf(t, 3, c, stalled)
					seen[got]++
					if want := wantKstatus(c, stalled); got != want {
						t.Errorf("%+v: %s/%s, stalled %t, is %s to kstatus, want %s", f, c.Status, c.Reason, stalled, got, want)
					}
					if older := kstatusOf(t, 4, c, stalled); older != status.InProgressStatus && !stalled {
						t.Errorf("%+v: judged at an older generation it is %s", f, older)
					}
				}
			}
		}
	}
	for _, s := range []status.Status{status.CurrentStatus, status.InProgressStatus, status.FailedStatus} {
		if seen[s] == 0 {
			t.Errorf("no state is %s", s)
		}
	}
}

func wantKstatus(c metav1.Condition, stalled bool) status.Status {
	switch {
	case c.Status == metav1.ConditionTrue:
		return status.CurrentStatus
	case stalled:
		return status.FailedStatus
	}
	return status.InProgressStatus
}

// kstatusOf writes the conditions as summarise does, and asks the library.
func kstatusOf(t *testing.T, generation int64, c metav1.Condition, stalled bool) status.Status {
	t.Helper()
	obj := &v1alpha1.WebhookEndpoint{TypeMeta: metav1.TypeMeta{APIVersion: v1alpha1.GroupVersion.String(), Kind: endpointKind}}
	obj.Generation, obj.Status.ObservedGeneration = generation, 3
	w := &work{obj: obj, verdict: reconcile.Verdict{}}
	w.set(c)
	setProgress(w, c, stalled)
	content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(obj)
	if err != nil {
		t.Fatal(err)
	}
	result, err := status.Compute(&unstructured.Unstructured{Object: content})
	if err != nil {
		t.Fatal(fmt.Errorf("kstatus: %w", err))
	}
	return result.Status
}
