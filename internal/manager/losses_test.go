// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package manager

import (
	"context"
	"errors"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/garyclub/webhook-operator/internal/control"
	"github.com/garyclub/webhook-operator/internal/endpoint"
)

func TestWhetherAPodIsThere(t *testing.T) {
	away := errors.New("connection refused")
	cases := map[string]struct {
		phase     corev1.PodPhase
		uid, name string
		err       error
		want      bool
	}{
		"it runs":                     {phase: corev1.PodRunning, name: "p", uid: "u", want: true},
		"it waits":                    {phase: corev1.PodPending, name: "p", uid: "u", want: true},
		"its node does not answer":    {phase: corev1.PodUnknown, name: "p", uid: "u", want: true},
		"it was evicted":              {phase: corev1.PodFailed, name: "p", uid: "u"},
		"it has ended":                {phase: corev1.PodSucceeded, name: "p", uid: "u"},
		"another one has its name":    {phase: corev1.PodRunning, name: "p", uid: "before"},
		"there is none of that name":  {phase: corev1.PodRunning, name: "q", uid: "u"},
		"the API server does not say": {phase: corev1.PodRunning, name: "p", uid: "u", err: away},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			c := newClient(interceptor.Funcs{Get: func(ctx context.Context, c client.WithWatch, key client.ObjectKey, o client.Object, options ...client.GetOption) error {
				if tc.err != nil {
					return tc.err
				}
				return c.Get(ctx, key, o, options...)
			}})
			pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "n", Name: "p", UID: types.UID("u")}, Status: corev1.PodStatus{Phase: tc.phase}}
			if err := c.Create(t.Context(), pod); err != nil {
				t.Fatal(err)
			}
			got, err := livePods{c}.Exists(t.Context(), "n", tc.name, tc.uid)
			if got != tc.want || !errors.Is(err, tc.err) {
				t.Errorf("exists is %v, error %v", got, err)
			}
		})
	}
}

func TestWhetherAnEndpointIsThere(t *testing.T) {
	r := endpoint.NewRegistry()
	r.Set(&endpoint.Endpoint{Ref: endpoint.Ref{Namespace: "a", Name: "one"}, UID: "u"})
	e := liveEndpoints{r, func(namespace string) bool { return namespace == "a" }}
	if e.Exists() != nil {
		t.Error("it is known what exists before the registry is complete")
	}
	r.Complete()
	exists := e.Exists()
	if !exists("a", "u") || exists("a", "other") || !exists("elsewhere", "other") {
		t.Error("the wrong endpoints exist")
	}
}

func TestWhoIsAGateway(t *testing.T) {
	o := DefaultOptions()
	for i, want := range map[control.Identity]bool{
		{Namespace: "webhook-system", ServiceAccount: "webhook-gateway"}: true,
		{Namespace: "webhook-system", ServiceAccount: "default"}:         false,
		{Namespace: "acme", ServiceAccount: "webhook-gateway"}:           false,
	} {
		if o.isGateway(i) != want {
			t.Errorf("%+v is a gateway: %v", i, !want)
		}
	}
}
