// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package control

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	. "github.com/onsi/gomega"

	"github.com/garyclub/webhook-operator/internal/control/controlpb"
	"github.com/garyclub/webhook-operator/internal/delivery"
	"github.com/garyclub/webhook-operator/internal/endpoint"
)

func newOrder(namespace string) *delivery.Order {
	at := time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)
	return &delivery.Order{
		ID: "order-uid", Name: "outage", Ref: endpoint.Ref{Namespace: namespace, Name: "one"}, Since: at, Until: at.Add(time.Hour),
		CallIDs: []string{"call_1", "call_2"}, EventIDs: []string{"evt_1"}, Limit: 7, DryRun: true,
	}
}

// executor connects a dispatcher that carries orders out, and returns once the server knows it.
func (s *stand) executor(token, namespace string, carryOut func(context.Context, delivery.Order) (delivery.Redelivered, error)) (leave func()) {
	s.t.Helper()
	ctx, cancel := context.WithCancel(s.t.Context())
	ended := make(chan struct{})
	c := s.idle(token)
	go func() {
		defer close(ended)
		c.Redeliveries(ctx, carryOut)
	}()
	NewWithT(s.t).Eventually(func() []string { return s.server.Queues(namespace) }).WithTimeout(10 * time.Second).Should(ContainElement("q"))
	leave = func() {
		cancel()
		<-ended
	}
	s.t.Cleanup(leave)
	return leave
}

func TestAnOrderReachesTheQueueAndItsResultComesBack(t *testing.T) {
	s := newStand(t, nil)
	got := make(chan delivery.Order, 1)
	want := delivery.Redelivered{Matched: 5, Moved: 3, ShareFull: true}
	s.executor("a.a.pod", "a", func(_ context.Context, o delivery.Order) (delivery.Redelivered, error) {
		got <- o
		return want, nil
	})
	result, err := s.server.Redeliver(t.Context(), "q", newOrder("a"))
	if err != nil || result != want {
		t.Fatalf("result is %+v, %v", result, err)
	}
	if diff := cmp.Diff(*newOrder("a"), <-got); diff != "" {
		t.Errorf("the order differs (-sent +taken):\n%s", diff)
	}
}

func TestOrdersAreForTheirNamespaceAlone(t *testing.T) {
	s := newStand(t, func(o *ServerOptions) { o.Gateway = func(i Identity) bool { return i.Namespace == "gateways" } })
	deaf := func(context.Context, delivery.Order) (delivery.Redelivered, error) {
		t.Error("an order of another namespace has come")
		return delivery.Redelivered{}, nil
	}
	leave := s.executor("a.b.pod", "b", deaf)
	if queues := s.server.Queues("a"); len(queues) > 0 {
		t.Errorf("queues of another namespace are %v", queues)
	}
	if _, err := s.server.Redeliver(t.Context(), "q", newOrder("a")); !errors.Is(err, ErrNotConnected) {
		t.Errorf("error is %v", err)
	}
	leave()
	s.executor("a.gateways.pod", "a", func(context.Context, delivery.Order) (delivery.Redelivered, error) {
		return delivery.Redelivered{Matched: 1}, nil
	})
	if result, err := s.server.Redeliver(t.Context(), "q", newOrder("a")); err != nil || result.Matched != 1 {
		t.Errorf("a gateway answers %+v, %v", result, err)
	}
}

func TestAnOrderIsGivenAgain(t *testing.T) {
	s := newStand(t, nil)
	fail := make(chan bool, 3)
	fail <- true
	fail <- false
	s.executor("a.a.pod", "a", func(context.Context, delivery.Order) (delivery.Redelivered, error) {
		if <-fail {
			return delivery.Redelivered{}, errors.New("no disk")
		}
		return delivery.Redelivered{Moved: 1}, nil
	})
	if _, err := s.server.Redeliver(t.Context(), "q", newOrder("a")); !errors.Is(err, ErrNotCarriedOut) {
		t.Errorf("error is %v", err)
	}
	if result, err := s.server.Redeliver(t.Context(), "q", newOrder("a")); err != nil || result.Moved != 1 {
		t.Errorf("the second time it is %+v, %v", result, err)
	}
}

func TestADispatcherThatGoesDoesNotHoldAnOrderUp(t *testing.T) {
	s := newStand(t, nil)
	began := make(chan struct{})
	leave := s.executor("a.a.pod", "a", func(ctx context.Context, _ delivery.Order) (delivery.Redelivered, error) {
		close(began)
		<-ctx.Done()
		return delivery.Redelivered{}, ctx.Err()
	})
	failed := make(chan error, 1)
	go func() {
		_, err := s.server.Redeliver(t.Context(), "q", newOrder("a"))
		failed <- err
	}()
	<-began
	leave()
	if err := <-failed; !errors.Is(err, ErrNotConnected) {
		t.Errorf("error is %v", err)
	}
	NewWithT(t).Eventually(func() []string { return s.server.Queues("a") }).WithTimeout(10 * time.Second).Should(BeEmpty())
	timeout, cancel := context.WithTimeout(t.Context(), time.Nanosecond)
	defer cancel()
	if _, err := s.server.Redeliver(timeout, "q", newOrder("a")); err == nil {
		t.Error("no error without a dispatcher")
	}
}

func TestWhatIsNoAnswerEndsTheStream(t *testing.T) {
	for name, say := range map[string]func(uid string) *controlpb.RedeliveriesRequest{
		"another order's result": func(string) *controlpb.RedeliveriesRequest {
			return &controlpb.RedeliveriesRequest{Result: &controlpb.RedeliveryResult{Uid: "other"}}
		},
		"no result": func(string) *controlpb.RedeliveriesRequest { return &controlpb.RedeliveriesRequest{} },
	} {
		t.Run(name, func(t *testing.T) {
			s := newStand(t, nil)
			stream, err := s.idle("a.a.pod").service.Redeliveries(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if err := stream.Send(&controlpb.RedeliveriesRequest{QueueId: "q"}); err != nil {
				t.Fatal(err)
			}
			NewWithT(t).Eventually(func() []string { return s.server.Queues("a") }).WithTimeout(10 * time.Second).Should(HaveLen(1))
			failed := make(chan error, 1)
			go func() {
				_, err := s.server.Redeliver(t.Context(), "q", newOrder("a"))
				failed <- err
			}()
			m, err := stream.Recv()
			if err != nil {
				t.Fatal(err)
			}
			if err := stream.Send(say(m.GetUid())); err != nil {
				t.Fatal(err)
			}
			if err := <-failed; !errors.Is(err, ErrNotConnected) {
				t.Errorf("error is %v", err)
			}
		})
	}
}

func TestAResultIsBounded(t *testing.T) {
	got := redeliveredFromProto(&controlpb.RedeliveryResult{Matched: -5, Moved: 1 << 62})
	if got.Matched != 0 || got.Moved != maxMatched {
		t.Errorf("result is %+v", got)
	}
}

func TestARedeliveryNamesItsOrderAndNothingElseDoes(t *testing.T) {
	for name, tc := range map[string]struct {
		trigger   delivery.Trigger
		uid, name string
		want      bool
	}{
		"a redelivery":            {delivery.TriggerRedelivery, "uid", "outage", true},
		"one without an order":    {delivery.TriggerRedelivery, "", "", false},
		"one with a strange name": {delivery.TriggerRedelivery, "uid", "Out/age", false},
		"an event":                {delivery.TriggerEvent, "", "", true},
		"an event with an order":  {delivery.TriggerEvent, "uid", "outage", false},
	} {
		r := newRecord("evt_1")
		r.Trigger, r.Order, r.OrderName = tc.trigger, tc.uid, tc.name
		back, err := recordFromProto("a", recordToProto(1, &r))
		if (err == nil) != tc.want {
			t.Errorf("%s: error is %v", name, err)
		}
		if err == nil && (back.Order != tc.uid || back.OrderName != tc.name) {
			t.Errorf("%s: order is %q, %q", name, back.Order, back.OrderName)
		}
	}
}

func TestQueuesAreInOrder(t *testing.T) {
	all := newExecutors()
	for _, e := range []executorKey{{"a", "3"}, {"b", "0"}, {everywhere, "2"}, {"a", "1"}, {everywhere, "1"}} {
		all.open(e.namespace, e.queueID)
	}
	if got := all.serving("a"); !slices.Equal(got, []string{"1", "2", "3"}) {
		t.Errorf("queues are %v", got)
	}
	if e := all.find("a", "1"); e.key.namespace != "a" {
		t.Errorf("the namespace's own is %+v", e.key)
	}
}
