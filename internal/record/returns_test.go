// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package record

import (
	"errors"
	"testing"
	"time"

	"github.com/garyclub/webhook-operator/internal/delivery"
)

func TestWhichQueuesReturn(t *testing.T) {
	keeperTest(t, func(t *testing.T, k *keeper) {
		from := func(pod string, persistent bool) delivery.Source {
			return delivery.Source{Namespace: "a", Pod: pod, PodUID: pod + "-uid", QueueID: pod + "-queue", Persistent: persistent}
		}
		for _, s := range []delivery.Source{from("here", false), from("gone", false), from("kept", true), from("lost", false)} {
			k.report(s, delivery.Counters{UID: "uid", Succeeded: 1})
		}
		k.pods.set("gone-uid", false, false)
		k.pods.set("kept-uid", false, false)
		k.ledger.Lose("a", "lost-queue")
		for queue, want := range map[string]bool{
			"here-queue": true, "gone-queue": false, "kept-queue": true, "lost-queue": false, "unknown-queue": false,
		} {
			if got, err := k.losses.Returns(t.Context(), queue); err != nil || got != want {
				t.Errorf("%s: %t, %v; want %t", queue, got, err, want)
			}
		}
		k.pods.mu.Lock()
		k.pods.err = errors.New("no answer")
		k.pods.mu.Unlock()
		if _, err := k.losses.Returns(t.Context(), "here-queue"); err == nil {
			t.Error("no error when the API server cannot say")
		}
		k.pass(time.Second)
	})
}
