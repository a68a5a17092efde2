// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package control

import (
	"errors"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr/funcr"
	"github.com/google/go-cmp/cmp"
	. "github.com/onsi/gomega"

	"github.com/garyclub/webhook-operator/internal/endpoint"
)

const patience = 30 * time.Second

func eventually(t *testing.T) func(actual any) AsyncAssertion {
	g := NewWithT(t)
	return func(actual any) AsyncAssertion {
		return g.Eventually(actual).WithTimeout(patience).WithPolling(5 * time.Millisecond)
	}
}

func taken(s *stand, namespace string, p *endpoint.Endpoint) func() [2]int {
	return func() [2]int {
		connected, upToDate := s.server.Taken(namespace, p.UID, p.Revision)
		return [2]int{connected, upToDate}
	}
}

func TestFirstListOfThousandsThenOneChangeThenNothingAtResume(t *testing.T) {
	s, soon := newStand(t, nil), eventually(t)
	list := many("a", 5000)
	for _, p := range list {
		s.registry.Set(p)
	}
	s.registry.Complete()
	d := s.dispatcher("a", "p")
	soon(taken(s, "a", list[4999])).Should(Equal([2]int{1, 1}))
	if diff := cmp.Diff(list[4321], d.get("e-04321")); diff != "" {
		t.Errorf("endpoint differs after its way (-sent +taken):\n%s", diff)
	}
	if d.applies() != 1 || len(d.list()) != 5000 {
		t.Errorf("%d endpoints applied in %d steps, want 5000 in 1", len(d.list()), d.applies())
	}

	before := s.sent()
	changed := newEndpoint("a", "e-00042", withURL("https://example.com/new"))
	s.registry.Set(changed)
	soon(taken(s, "a", changed)).Should(Equal([2]int{1, 1}))
	if got := s.sent() - before; got != 1 {
		t.Errorf("one change sent %v endpoints", got)
	}

	before = s.sent()
	d.stop()
	soon(taken(s, "a", changed)).Should(Equal([2]int{0, 0}))
	again := s.dispatcher("a", "p", d.list()...)
	soon(taken(s, "a", changed)).Should(Equal([2]int{1, 1}))
	if got := s.sent() - before; got != 0 {
		t.Errorf("resume sent %v endpoints", got)
	}
	if !again.connected() || again.applies() != 1 {
		t.Errorf("connected = %v, applied %d times; want the known list to be confirmed once",
			again.connected(), again.applies())
	}
}

func TestRemovedAndReplacedEndpoints(t *testing.T) {
	s, soon := newStand(t, nil), eventually(t)
	keep, remove, replace := newEndpoint("a", "keep"), newEndpoint("a", "remove"), newEndpoint("a", "replace")
	for _, p := range []*endpoint.Endpoint{keep, remove, replace} {
		s.registry.Set(p)
	}
	s.registry.Complete()
	d := s.dispatcher("a", "p")
	soon(d.connected).Should(BeTrue())
	s.registry.Remove(remove.Ref)
	s.registry.Set(newEndpoint("a", "replace", func(p *endpoint.Endpoint) { p.UID = "uid-second" }))
	soon(func() bool {
		p := d.get("replace")
		return d.get("remove") == nil && p != nil && p.UID == "uid-second" && d.get("keep") != nil
	}).Should(BeTrue())

	// What was removed while nobody was connected is told at the next stream.
	d.stop()
	s.registry.Remove(keep.Ref)
	again := s.dispatcher("a", "p", d.list()...)
	soon(func() bool { return again.get("keep") == nil && again.get("replace") != nil }).Should(BeTrue())
}

func TestNamespacesAreApart(t *testing.T) {
	s, soon := newStand(t, nil), eventually(t)
	a, b := newEndpoint("a", "one"), newEndpoint("b", "one", withURL("https://example.com/b"))
	s.registry.Set(a)
	s.registry.Set(b)
	s.registry.Complete()
	da, db := s.dispatcher("a", "p"), s.dispatcher("b", "p")
	soon(taken(s, "a", a)).Should(Equal([2]int{1, 1}))
	soon(taken(s, "b", b)).Should(Equal([2]int{1, 1}))
	if len(da.list()) != 1 || da.get("one").URL != a.URL || len(db.list()) != 1 || db.get("one").URL != b.URL {
		t.Error("a dispatcher has another namespace's endpoint")
	}
	soon(func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.changes["a"] > 0 && s.changes["b"] > 0
	}).Should(BeTrue())
}

func TestIncompleteRegistryTakesNothingAway(t *testing.T) {
	s, soon := newStand(t, nil), eventually(t)
	known := newEndpoint("a", "known")
	s.registry.Set(newEndpoint("a", "other"))
	d := s.dispatcher("a", "p", known)
	soon(func() [2]int { return taken(s, "a", known)() }).Should(Equal([2]int{1, 0}))
	NewWithT(t).Consistently(func() bool { return d.get("known") != nil && d.applies() == 0 }).
		WithTimeout(300 * time.Millisecond).Should(BeTrue())
	s.registry.Set(known)
	s.registry.Complete()
	soon(taken(s, "a", known)).Should(Equal([2]int{1, 1}))
	if d.get("known") == nil || d.get("other") == nil {
		t.Error("an endpoint is missing")
	}
}

func TestUpToDateOnlyAfterApply(t *testing.T) {
	s, soon := newStand(t, nil), eventually(t)
	p := newEndpoint("a", "one")
	s.registry.Set(p)
	s.registry.Complete()
	d := s.dispatcher("a", "p")
	soon(taken(s, "a", p)).Should(Equal([2]int{1, 1}))
	d.setFail(errors.New("disk full"))
	next := newEndpoint("a", "one", withURL("https://example.com/next"))
	s.registry.Set(next)
	NewWithT(t).Consistently(func() int { return taken(s, "a", next)()[1] }).
		WithTimeout(300 * time.Millisecond).Should(BeZero())
	d.setFail(nil)
	soon(taken(s, "a", next)).Should(Equal([2]int{1, 1}))
}

func TestLeaderChangesEndStreams(t *testing.T) {
	s, soon := newStand(t, nil), eventually(t)
	p := newEndpoint("a", "one")
	s.registry.Set(p)
	s.registry.Complete()
	d := s.dispatcher("a", "p")
	soon(d.connected).Should(BeTrue())
	s.server.Serving(false)
	soon(d.connected).Should(BeFalse())
	soon(taken(s, "a", p)).Should(Equal([2]int{0, 0}))
	if d.get("one") == nil {
		t.Error("the endpoint went with the leader")
	}
	s.server.Serving(true)
	soon(d.connected).Should(BeTrue())
}

func TestReconnectsAfterTheServerRestarted(t *testing.T) {
	s, soon := newStand(t, nil), eventually(t)
	s.registry.Complete()
	d := s.dispatcher("a", "p")
	soon(d.connected).Should(BeTrue())
	s.stop()
	soon(d.connected).Should(BeFalse())
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", s.address)
	if err != nil {
		t.Fatal(err)
	}
	s.serve(listener, nil)
	s.server.Serving(true)
	soon(d.connected).Should(BeTrue())
}

func TestConnectionsAgeOutAndResume(t *testing.T) {
	s, soon := newStand(t, func(o *ServerOptions) { o.MaxConnectionAge = 200 * time.Millisecond }), eventually(t)
	p := newEndpoint("a", "one")
	s.registry.Set(p)
	s.registry.Complete()
	d := s.dispatcher("a", "p")
	soon(taken(s, "a", p)).Should(Equal([2]int{1, 1}))
	soon(func() float64 { return counterOf(t, d.client.metrics.reconnects) }).Should(BeNumerically(">=", 1))
	soon(d.connected).Should(BeTrue())
	if s.sent() != 1 {
		t.Errorf("sent %v endpoints, want the one once", s.sent())
	}
}

func TestAnEndpointTooLargeIsHeld(t *testing.T) {
	s, soon := newStand(t, nil), eventually(t)
	huge := newEndpoint("a", "huge", func(p *endpoint.Endpoint) {
		p.Headers = []endpoint.Header{{Name: "X", Value: strings.Repeat("x", maxEndpointBytes+1)}}
	})
	s.registry.Set(huge)
	s.registry.Set(newEndpoint("a", "one"))
	s.registry.Complete()
	d := s.dispatcher("a", "p")
	soon(taken(s, "a", huge)).Should(Equal([2]int{1, 1}))
	if p := d.get("huge"); p == nil || p.Hold != endpoint.HoldUnresolved || p.Headers != nil {
		t.Error("the endpoint is not held, or not there")
	}
	if d.get("one") == nil {
		t.Error("its neighbour is not there")
	}
}

func TestCauseIsLoggedOnceAtTheDefaultLevel(t *testing.T) {
	s, soon := newStand(t, nil), eventually(t)
	var mu sync.Mutex
	var lines []string
	shown := func() []string {
		mu.Lock()
		defer mu.Unlock()
		return slices.Clone(lines)
	}
	s.log = funcr.New(func(_, args string) {
		mu.Lock()
		defer mu.Unlock()
		lines = append(lines, args)
	}, funcr.Options{})
	_, other := newCertificate(t)
	trusted, wrong := s.caFile, writeFile(t, "wrong.crt", string(other))
	s.caFile = wrong
	d := s.dispatcher("a", "p")
	soon(func() float64 { return counterOf(t, d.client.metrics.reconnects) }).Should(BeNumerically(">", 2))
	if got := shown(); len(got) != 1 || !strings.Contains(got[0], "certificate") {
		t.Errorf("a CA that does not fit is logged as %q, want one line that says so", got)
	}
	content, err := os.ReadFile(trusted)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(wrong, content, 0o600); err != nil {
		t.Fatal(err)
	}
	s.registry.Complete()
	soon(d.connected).Should(BeTrue())
}
