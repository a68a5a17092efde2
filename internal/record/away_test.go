// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package record

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/garyclub/webhook-operator/internal/delivery"
)

func TestWhichQueuesAreAway(t *testing.T) {
	keeperTest(t, func(t *testing.T, k *keeper) {
		lately, longAgo := now(), now().Add(-2*letterTime)
		for _, tc := range []struct {
			pod        string
			persistent bool
			failed     int64
			at         time.Time
			alive      bool
		}{
			{"here", false, 1, lately, true},
			{"connected", false, 1, lately, true},
			{"gone", false, 1, lately, false},
			{"kept", true, 1, lately, false},
			{"fine", false, 0, time.Time{}, true},
			{"old", false, 1, longAgo, true},
			{"lost", false, 1, lately, true},
		} {
			from := delivery.Source{Namespace: "a", Pod: tc.pod, PodUID: tc.pod + "-uid", QueueID: tc.pod, Persistent: tc.persistent}
			k.report(from, delivery.Counters{UID: "uid", Succeeded: 1, Failed: tc.failed, LastFailure: tc.at})
			k.pods.set(from.PodUID, tc.alive, true)
		}
		k.ledger.Lose("a", "lost")
		got, err := k.losses.Away(t.Context(), "uid", []string{"connected"})
		slices.Sort(got)
		if want := []string{"here", "kept"}; err != nil || !slices.Equal(got, want) {
			t.Errorf("away are %v, %v; want %v", got, err, want)
		}
		if got, err := k.losses.Away(t.Context(), "other", nil); err != nil || len(got) > 0 {
			t.Errorf("of another endpoint: %v, %v", got, err)
		}
		k.pods.mu.Lock()
		k.pods.err = errors.New("no answer")
		k.pods.mu.Unlock()
		if _, err := k.losses.Away(t.Context(), "uid", nil); err == nil {
			t.Error("no error when the API server cannot say")
		}
		k.ledger.loaded.Store(false)
		if _, err := k.losses.Away(t.Context(), "uid", nil); !errors.Is(err, ErrNotLoaded) {
			t.Errorf("before the ledger is loaded: %v", err)
		}
		k.ledger.loaded.Store(true)
	})
}
