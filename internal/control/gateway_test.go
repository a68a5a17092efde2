// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package control

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	. "github.com/onsi/gomega"

	"github.com/garyclub/webhook-operator/internal/delivery"
	"github.com/garyclub/webhook-operator/internal/endpoint"
)

// withGateway takes the pod gw of the namespace system for a gateway; only a and b are served.
func withGateway(o *ServerOptions) {
	o.Gateway = func(i Identity) bool { return i.Namespace == "system" && i.Pod == "gw" }
	o.GatewayAddress = "gateway.system.svc:9445"
	o.Serves = func(namespace string) bool { return namespace == "a" || namespace == "b" }
}

func TestAGatewayGetsTheEndpointsOfAllNamespaces(t *testing.T) {
	s, soon := newStand(t, withGateway), eventually(t)
	unique := func(namespace string) *endpoint.Endpoint {
		return newEndpoint(namespace, "one-"+namespace, func(p *endpoint.Endpoint) { p.UID = "uid-" + namespace })
	}
	a, b := unique("a"), unique("b")
	s.registry.Set(a)
	s.registry.Set(b)
	s.registry.Complete()
	gateway, sidecar := s.dispatcher("system", "gw"), s.dispatcher("a", "p")
	// The gateway counts in both namespaces, the sidecar in its own.
	soon(taken(s, "a", a)).Should(Equal([2]int{2, 2}))
	soon(taken(s, "b", b)).Should(Equal([2]int{1, 1}))
	if len(gateway.list()) != 2 || len(sidecar.list()) != 1 {
		t.Errorf("the gateway has %d endpoints, the sidecar %d; want 2 and 1", len(gateway.list()), len(sidecar.list()))
	}
	for name, d := range map[string]*dispatcher{"gateway": gateway, "sidecar": sidecar} {
		if got := d.heard(); !slices.Equal(got, []string{"gateway.system.svc:9445"}) {
			t.Errorf("the %s was told %q as the gateway's address, want it once", name, got)
		}
	}

	before := s.sent()
	changed := unique("b")
	withURL("https://example.com/new")(changed)
	changed.Revision = endpoint.Revision(changed)
	s.registry.Set(changed)
	soon(taken(s, "b", changed)).Should(Equal([2]int{1, 1}))
	if got := s.sent() - before; got != 1 {
		t.Errorf("one change sent %v endpoints", got)
	}
	s.registry.Remove(a.Ref)
	soon(func() int { return len(gateway.list()) }).Should(Equal(1))
	if gateway.get("one-b") == nil {
		t.Error("another endpoint than the removed one is gone")
	}
	gateway.stop()
	soon(taken(s, "b", changed)).Should(Equal([2]int{0, 0}))
}

func TestEndpointsOfOneNameInTwoNamespacesAreTwo(t *testing.T) {
	a, b := newEndpoint("a", "one"), newEndpoint("b", "one", func(p *endpoint.Endpoint) { p.UID = "uid-b" })
	l := newWorkingList([]*endpoint.Endpoint{a, b})
	if len(l.all()) != 2 || len(l.revisions()) != 2 {
		t.Errorf("%d endpoints are kept, want 2", len(l.all()))
	}
}

func TestWhatAChangeOfAGatewaysListIsNewsFor(t *testing.T) {
	one := func(where string) *endpoint.Endpoint {
		namespace, name, _ := strings.Cut(where, "/")
		return newEndpoint(namespace, name)
	}
	a, b1, b2, c := one("a/x"), one("b/x"), one("b/y"), one("c/x")
	cases := map[string]struct {
		session session
		list    []*endpoint.Endpoint
		want    []string
	}{
		"a sidecar's":       {session{namespace: "a"}, []*endpoint.Endpoint{a}, []string{"a"}},
		"the first list":    {session{}, []*endpoint.Endpoint{a}, []string{everywhere}},
		"nothing":           {session{has: true, taken: []*endpoint.Endpoint{a, c}}, []*endpoint.Endpoint{a, c}, nil},
		"added and removed": {session{has: true, taken: []*endpoint.Endpoint{a, b1, c}}, []*endpoint.Endpoint{a, b1, b2}, []string{"b", "c"}},
		"changed":           {session{has: true, taken: []*endpoint.Endpoint{a, b1, b2}}, []*endpoint.Endpoint{one("a/x"), b1, b2}, []string{"a"}},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			if got := touched(&tc.session, tc.list); !slices.Equal(got, tc.want) {
				t.Errorf("touched are %q, want %q", got, tc.want)
			}
		})
	}
}

func TestOnlyAGatewayNamesNamespaces(t *testing.T) {
	for name, tc := range map[string]struct {
		token string
		want  map[string]string // of what names it to where it is recorded
	}{
		"a sidecar": {"a.a.p", map[string]string{"a": "a", "b": "a", "system": "a", "no/label": "a"}},
		"a gateway": {"a.system.gw", map[string]string{"a": "a", "b": "b", "system": "", "no/label": "", "": ""}},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStand(t, withGateway)
			stream, err := s.idle(tc.token).Report(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			for named, want := range tc.want {
				r := newRecord("evt_1")
				r.Ref.Namespace = named
				if err := stream.SendRecords(numbered(r)); err != nil {
					t.Fatal(err)
				}
				if taken, _, err := stream.Recv(); err != nil || taken[1] != (want != "") {
					t.Errorf("namespace %q: taken %v, error %v", named, taken, err)
				}
				c := delivery.Counters{UID: "uid", Ref: endpoint.Ref{Namespace: named, Name: "one"}, Succeeded: 3}
				if err := stream.SendCounters([]delivery.Counters{c}, 1); err != nil {
					t.Fatal(err)
				}
				if _, _, err := stream.Recv(); err != nil {
					t.Fatal(err)
				}
				s.sink.mu.Lock()
				records, counters := s.sink.records, s.sink.counters
				s.sink.records, s.sink.counters = nil, map[string][]delivery.Counters{}
				s.sink.mu.Unlock()
				got := ""
				if len(records) == 1 {
					got = records[0].Ref.Namespace
				}
				for _, all := range counters {
					if all[0].Ref.Namespace != got {
						t.Errorf("counters of %q were taken for %q, and the record for %q", named, all[0].Ref.Namespace, got)
					}
				}
				if got != want {
					t.Errorf("namespace %q was recorded in %q, want %q", named, got, want)
				}
			}
		})
	}
}

func TestTheSourceIsTheTokensPod(t *testing.T) {
	s := newStand(t, nil)
	for _, persistent := range []bool{false, true} {
		client := s.idle("a.mine.p")
		client.o.Persistent = persistent
		stream, err := client.Report(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if err := stream.SendRecords(numbered(newRecord("evt_1"))); err != nil {
			t.Fatal(err)
		}
		if _, _, err := stream.Recv(); err != nil {
			t.Fatal(err)
		}
		want := delivery.Source{Namespace: "mine", Pod: "p", PodUID: "mine/p", QueueID: "q", Persistent: persistent}
		s.sink.mu.Lock()
		if diff := cmp.Diff(want, s.sink.source); diff != "" {
			t.Errorf("source (-want +got):\n%s", diff)
		}
		if got := s.sink.records[0].QueueID; got != "q" {
			t.Errorf("the record names the queue %q", got)
		}
		s.sink.records = nil
		s.sink.mu.Unlock()
	}
}

func TestAPodIsConnectedWhileItHasAStream(t *testing.T) {
	s, soon := newStand(t, nil), eventually(t)
	s.registry.Complete()
	if s.server.Connected("a/p") {
		t.Error("connected before it came")
	}
	d := s.dispatcher("a", "p")
	soon(func() bool { return s.server.Connected("a/p") }).Should(BeTrue())
	if s.server.Connected("a/other") {
		t.Error("another pod is connected")
	}
	d.stop()
	soon(func() bool { return s.server.Connected("a/p") }).Should(BeFalse())
}
