// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package inject

import (
	"bytes"
	"testing"
)

// FuzzMutate: it never panics, a pod that was taken is taken a second time, and nothing changes then.
func FuzzMutate(f *testing.F) {
	for _, file := range podFiles(f) {
		f.Add(readPod(f, file))
	}
	f.Add([]byte(`{"metadata":{"labels":{"webhooks.gary.club/inject":"true"}},"spec":{"volumes":[{"name":"webhook-dispatcher-queue"}]}}`))
	f.Add([]byte(`{"metadata":{"labels":{"webhooks.gary.club/inject":"true"},"annotations":{"webhooks.gary.club/injected":"v1.2.3"}},"spec":{"initContainers":[{"name":"webhook-dispatcher","env":null},{"name":"webhook-dispatcher","env":[]}]}}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		mutated, err := Mutate(raw, "team-a", settings())
		if err != nil || bytes.Equal(raw, mutated) {
			return
		}
		again, err := Mutate(mutated, "team-a", settings())
		if err != nil {
			t.Fatalf("a second time: %v", err)
		}
		if !equal(t, mutated, again) {
			t.Errorf("a second time it differs:\n%s\n%s", mutated, again)
		}
	})
}
