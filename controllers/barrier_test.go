// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"testing"

	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"github.com/garyclub/webhook-operator/api/v1alpha1"
	"github.com/garyclub/webhook-operator/internal/endpoint"
)

func TestTheRegistryIsCompleteWhenAllOfTheStartAreResolved(t *testing.T) {
	named := func(name string) *endpoint.Endpoint {
		return &endpoint.Endpoint{Ref: endpoint.Ref{Namespace: "n", Name: name}, Revision: "1"}
	}
	for name, tc := range map[string]struct {
		there []string
		// steps: +x resolves x, -x removes x, open reads the list of the start.
		steps []string
		want  int // after how many steps it is complete; 0 for never
	}{
		"nothing is there":             {nil, []string{"open"}, 1},
		"one after the other":          {[]string{"a", "b"}, []string{"open", "+a", "+a", "+b", "+c"}, 4},
		"some before the list":         {[]string{"a", "b"}, []string{"+a", "open", "+b"}, 3},
		"all before the list":          {[]string{"a"}, []string{"+a", "+c", "open"}, 3},
		"one was deleted":              {[]string{"a", "b"}, []string{"open", "+a", "-b"}, 3},
		"new ones do not matter":       {[]string{"a"}, []string{"open", "+c", "-c"}, 0},
		"the list was not read":        {[]string{"a"}, []string{"+a"}, 0},
		"what came and went meanwhile": {[]string{"a"}, []string{"+c", "-c", "open", "+a"}, 4},
	} {
		t.Run(name, func(t *testing.T) {
			var objects []client.Object
			for _, n := range tc.there {
				o := &v1alpha1.WebhookEndpoint{}
				o.Namespace, o.Name = "n", n
				objects = append(objects, o)
			}
			reader := fake.NewClientBuilder().WithScheme(scheme).WithObjects(objects...).Build()
			registry := endpoint.NewRegistry()
			completed, at := 0, 0
			b := &Barrier{Registry: registry, Complete: func() { registry.Complete(); completed++ }}
			for n, step := range tc.steps {
				switch step[0] {
				case '+':
					b.Set(named(step[1:]))
				case '-':
					b.Remove(named(step[1:]).Ref)
				default:
					if err := b.Open(t.Context(), reader); err != nil {
						t.Fatal(err)
					}
				}
				if completed > 0 && at == 0 {
					at = n + 1
				}
			}
			if _, complete, _ := registry.View("n"); at != tc.want || completed > 1 || complete != (tc.want > 0) {
				t.Errorf("complete after %d steps, told %d times", at, completed)
			}
		})
	}
}

func TestTheCacheHoldsOursOnly(t *testing.T) {
	if o := CacheOptions(nil); len(o.DefaultNamespaces) != 0 || len(o.ByObject) != 3 {
		t.Errorf("%+v", o)
	}
	if o := CacheOptions([]string{"a", "b"}); len(o.DefaultNamespaces) != 2 {
		t.Errorf("%+v", o)
	}
}
