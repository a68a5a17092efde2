// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/garyclub/webhook-operator/api/v1alpha1"
	"github.com/garyclub/webhook-operator/internal/fixture/receiver"
	"github.com/garyclub/webhook-operator/internal/sign"
)

const signingSecret = "own-signing"

// ownKey has the endpoint signed with a key of the test's.
func ownKey(s *v1alpha1.WebhookEndpointSpec) {
	s.Signing.SecretRef = &v1alpha1.SecretReference{Name: signingSecret}
}

// keys puts others in place; without any the Secret is deleted.
func (n *tenant) keys(data map[string]string) {
	n.t.Helper()
	for entry, key := range data {
		retired.Store(key, n.namespace+"/"+signingSecret+" as "+entry) // sooner or later
	}
	s := &corev1.Secret{}
	s.Namespace, s.Name = n.namespace, signingSecret
	if data == nil {
		if err := sys.Client.Delete(n.t.Context(), s); err != nil {
			n.t.Fatal(err)
		}
		return
	}
	if err := sys.Client.Get(n.t.Context(), client.ObjectKeyFromObject(s), s); err != nil {
		n.secret(signingSecret, data)
		return
	}
	s.Data, s.StringData = nil, data
	if err := sys.Client.Update(n.t.Context(), s); err != nil {
		n.t.Fatal(err)
	}
}

// paced posts an event every few milliseconds until it is stopped, which returns how many were accepted.
func (n *tenant) paced(each time.Duration) (stop func() int) {
	ctx, cancel := context.WithCancel(n.t.Context())
	accepted, ended := 0, make(chan error, 1)
	go func() {
		for tick := time.NewTicker(each); ; accepted++ {
			select {
			case <-ctx.Done():
				tick.Stop()
				ended <- nil
				return
			case <-tick.C:
			}
			a, err := post(context.WithoutCancel(ctx), n.EventsURL(), "application/json", call("call.completed", fmt.Sprintf("call_paced_%d", accepted)))
			if err != nil || a.code != 202 {
				ended <- fmt.Errorf("answer %d %s, error %w", a.code, a.text, err)
				return
			}
		}
	}()
	return sync.OnceValue(func() int {
		n.t.Helper()
		cancel()
		if err := <-ended; err != nil {
			n.t.Fatal(err)
		}
		return accepted
	})
}

// verifies says whether a receiver that has the key takes the request.
func verifies(v *standardwebhooks.Webhook, q receiver.Request) bool {
	return v.Verify(q.Body, q.Header) == nil
}

// A key is rotated in three changes while events are delivered: to both keys, and to the new one alone. At every moment a
// receiver that knows the old key until the overlap, or the new one from the overlap on, takes every request.
func TestReceiversSwitchToANewKeyAtAnyMoment(t *testing.T) {
	t.Parallel()
	n := newTenant(t, "keys-rotated")
	previous, next := sign.FormatKey(sign.NewKey()), sign.FormatKey(sign.NewKey())
	n.keys(map[string]string{v1alpha1.KeySigningKey: previous})
	r := receive(t, receiver.Options{Test: &receiver.Step{}, Script: []receiver.Step{{Delay: 5 * time.Millisecond}}})
	n.endpoint("a", r, ownKey)
	n.start()
	n.ready("a")
	withOld, withNew := verifierWith(t, previous), verifierWith(t, next)
	stop := n.paced(2 * time.Millisecond)
	some := func() { n.arrived(r, len(eventRequests(r))+100, soon) }

	some()
	n.keys(map[string]string{v1alpha1.KeySigningKey: next, v1alpha1.KeyPreviousSigningKey: previous})
	n.eventually(soon, func() error {
		all := eventRequests(r)
		if !verifies(withNew, all[len(all)-1]) {
			return fmt.Errorf("the new key is not in use yet")
		}
		return nil
	})
	some() // the overlap, in which receivers switch
	n.keys(map[string]string{v1alpha1.KeySigningKey: next})
	n.eventually(soon, func() error {
		all := eventRequests(r)
		if verifies(withOld, all[len(all)-1]) {
			return fmt.Errorf("the old key is in use still")
		}
		return nil
	})
	some()
	accepted := stop()
	if duplicates := n.delivered(r, accepted); duplicates > 0 {
		t.Errorf("%d of %d events came twice", duplicates, accepted)
	}
	counts := map[string]int{}
	for i, q := range eventRequests(r) {
		phase := fmt.Sprintf("old %t, new %t", verifies(withOld, q), verifies(withNew, q))
		if counts[phase]++; phase == "old false, new false" {
			t.Errorf("request %d of %d verifies with neither key", i, accepted)
		}
	}
	t.Logf("%d events: %v", accepted, counts)
	for _, phase := range []string{"old true, new false", "old true, new true", "old false, new true"} {
		if counts[phase] < 50 {
			t.Errorf("%d requests of phase %q", counts[phase], phase)
		}
	}
	n.counted("a", int64(accepted), 0)
}

// A key that is deleted holds deliveries, says so, and loses nothing.
func TestADeletedKeyHoldsDeliveries(t *testing.T) {
	t.Parallel()
	n := newTenant(t, "keys-deleted")
	key := sign.FormatKey(sign.NewKey())
	n.keys(map[string]string{v1alpha1.KeySigningKey: key})
	r := receive(t, receiver.Options{Test: &receiver.Step{}, Script: []receiver.Step{{Delay: 5 * time.Millisecond}}})
	n.endpoint("a", r, ownKey)
	n.start()
	n.ready("a")
	stop := n.paced(5 * time.Millisecond)
	n.arrived(r, 50, soon)
	n.keys(nil)
	n.condition("a", v1alpha1.ConditionSigningKeyReady, metav1.ConditionFalse, v1alpha1.ReasonSecretNotFound)
	n.upToDate("a")
	held := len(eventRequests(r)) // but for what was in flight
	n.eventually(soon, func() error {
		if c := n.get("a").Status.Deliveries; c == nil || c.Pending < 100 {
			return fmt.Errorf("counters %+v, want 100 pending", c)
		}
		return nil
	})
	if now := len(eventRequests(r)); now > held+16 { // spec.maxInFlight
		t.Errorf("%d requests without a key", now-held)
	}
	other := sign.FormatKey(sign.NewKey())
	n.keys(map[string]string{v1alpha1.KeySigningKey: other})
	accepted := stop()
	if duplicates := n.delivered(r, accepted); duplicates > 0 {
		t.Errorf("%d of %d events came twice", duplicates, accepted)
	}
	before, after := verifierWith(t, key), verifierWith(t, other)
	for _, q := range eventRequests(r) {
		if !verifies(before, q) && !verifies(after, q) {
			t.Error("a request was signed with neither key")
		}
	}
	n.counted("a", int64(accepted), 0)
}
