// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package control

import (
	"context"
	"encoding/base64"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"

	"github.com/garyclub/webhook-operator/internal/control/controlpb"
	"github.com/garyclub/webhook-operator/internal/delivery"
	"github.com/garyclub/webhook-operator/internal/endpoint"
)

// FuzzReport feeds what a dispatcher sends: what is taken of it is within the bounds that objects have, belongs to the
// caller's namespace, and would be sent again as it came.
func FuzzReport(f *testing.F) {
	now := time.Unix(1_700_000_000, 0).UTC()
	record := recordToProto(7, &delivery.Record{
		Delivery: delivery.Delivery{Ref: endpoint.Ref{Namespace: "clinic", Name: "zapier"}, UID: "uid-1", EventID: "evt_1",
			Trigger: delivery.TriggerEvent, State: delivery.Failed, Reason: "Rejected", Accepted: now, Deadline: now.Add(time.Hour),
			Completed: now, AttemptCount: 1, MaxAttempts: 4, Hops: 1,
			Attempts: []delivery.Attempt{{Number: 1, Start: now, Duration: time.Second, Outcome: delivery.OutcomeRejected, StatusCode: 500, Message: "answered 500"}}},
		EventType: "call.completed", EventTime: now, CallID: "call_1", AgentID: "agent_1", PayloadBytes: 10})
	counters := countersToProto(&delivery.Counters{UID: "uid-1", Ref: endpoint.Ref{Namespace: "clinic", Name: "zapier"},
		Succeeded: 3, Failed: 1, LastSuccess: now, Gone: "g1"})
	for _, m := range []*controlpb.ReportRequest{
		{}, {Records: []*controlpb.Record{record}}, {Counters: []*controlpb.Counters{counters}, CountersVersion: 1},
		{Records: []*controlpb.Record{{}}, Counters: []*controlpb.Counters{{Succeeded: -1}}},
	} {
		f.Add(marshal(f, m))
	}
	f.Fuzz(func(t *testing.T, content []byte) {
		m := &controlpb.ReportRequest{}
		if proto.Unmarshal(content, m) != nil {
			return // gRPC refuses it
		}
		for _, sent := range m.GetRecords() {
			checkRecord(t, sent)
		}
		for _, sent := range m.GetCounters() {
			checkCounters(t, sent)
		}
	})
}

func marshal(f *testing.F, m proto.Message) []byte {
	f.Helper()
	content, err := proto.Marshal(m)
	if err != nil {
		f.Fatal(err)
	}
	return content
}

func checkRecord(t *testing.T, sent *controlpb.Record) {
	t.Helper()
	if _, err := recordFromProto("", sent); err == nil {
		t.Error("a record of no namespace was taken")
	}
	r, err := recordFromProto("clinic", sent)
	if err != nil {
		checkInvalid(t, err)
		return
	}
	if r.Ref.Namespace != "clinic" || len(r.Ref.Name) > maxNameLength || len(r.UID) > maxIDLength || len(r.EventID) > maxIDLength ||
		len(r.CallID) > maxCallLength || len(r.AgentID) > maxCallLength || len(r.Attempts) > delivery.MaxKeptAttempts {
		t.Errorf("a bound was passed: %+v", r)
	}
	if !slices.Contains(states, r.State) || !r.EventType.Known() || r.PayloadBytes < 0 || r.AttemptCount < 0 || r.MaxAttempts < 0 {
		t.Errorf("record %+v was taken", r)
	}
	for _, a := range r.Attempts {
		if len(a.Message) > delivery.MaxMessageBytes || !utf8.ValidString(a.Message) || a.Number < 1 || a.Duration < 0 {
			t.Errorf("attempt %+v was taken", a)
		}
	}
	again, err := recordFromProto("clinic", recordToProto(sent.GetSeq(), &r))
	if err != nil {
		t.Fatalf("what was taken would not be taken again: %+v", r)
	}
	if diff := cmp.Diff(r, again); diff != "" {
		t.Errorf("it would be another record (-first +second):\n%s", diff)
	}
}

func checkCounters(t *testing.T, sent *controlpb.Counters) {
	t.Helper()
	c, err := countersFromProto("clinic", sent)
	if err != nil {
		checkInvalid(t, err)
		return
	}
	if min(c.Succeeded, c.Failed, c.Unrecorded, c.Pending) < 0 || c.Ref.Namespace != "clinic" || len(c.Gone) > maxIDLength {
		t.Errorf("counters %+v were taken", c)
	}
	if again, err := countersFromProto("clinic", countersToProto(&c)); err != nil || !cmp.Equal(c, again) {
		t.Errorf("counters %+v would be sent again as %+v, %v", c, again, err)
	}
}

func checkInvalid(t *testing.T, err error) {
	t.Helper()
	if err.Error() != errInvalid.Error() {
		t.Errorf("the error says more than the rule: %v", err)
	}
}

// FuzzEndpoints feeds what the manager sends to a dispatcher that knows two endpoints: the list stays whole, and what is
// in it is saved and loaded as it is.
func FuzzEndpoints(f *testing.F) {
	one := newEndpoint("a", "one")
	for _, m := range []*controlpb.EndpointsResponse{
		{}, {Endpoints: []*controlpb.Endpoint{endpointToProto(one)}, Complete: true}, {RemovedUids: []string{one.UID, one.UID}},
		{Endpoints: []*controlpb.Endpoint{{Name: "one", Uid: "uid-two"}, {Name: "x", Uid: "uid-two"}, {}}},
		{Endpoints: []*controlpb.Endpoint{{Name: "two", Namespace: "a", Uid: "uid-one"}}, RemovedUids: []string{"uid-one"}},
	} {
		f.Add(marshal(f, m))
	}
	f.Fuzz(func(t *testing.T, content []byte) {
		m := &controlpb.EndpointsResponse{}
		if proto.Unmarshal(content, m) != nil {
			return // gRPC refuses it
		}
		list := newWorkingList([]*endpoint.Endpoint{newEndpoint("a", "one"), newEndpoint("a", "two")})
		err := list.change(m)
		for ref, p := range list.byRef {
			if p.Ref != ref || p.Name == "" || p.UID == "" {
				t.Errorf("%+v stands under %+v", p.Ref, ref)
			}
		}
		if err == nil { // else the stream ends, and the list with it
			checkSaved(t, list)
		}
	})
}

func checkSaved(t *testing.T, list *workingList) {
	t.Helper()
	saved, err := encodeLastKnown(list.all())
	if err != nil {
		t.Fatalf("the list cannot be saved: %v", err)
	}
	loaded, err := decodeLastKnown(saved)
	if err != nil || len(loaded) != len(list.byRef) {
		t.Fatalf("%d endpoints were saved and %d loaded, %v", len(list.byRef), len(loaded), err)
	}
	for _, p := range loaded {
		if diff := cmp.Diff(list.byRef[p.Ref], p); diff != "" {
			t.Errorf("it is loaded as another (-saved +loaded):\n%s", diff)
		}
	}
}

// FuzzClaimedNamespace: what a token claims, before anybody has looked at it, is bounded.
func FuzzClaimedNamespace(f *testing.F) {
	claim := func(body string) string { return "e30." + base64.RawURLEncoding.EncodeToString([]byte(body)) + ".sig" }
	f.Add(claim(`{"sub":"system:serviceaccount:clinic:default"}`))
	f.Add(claim(`{"sub":"system:serviceaccount::"}`))
	f.Add(claim(`{"sub":"system:serviceaccount:` + strings.Repeat("n", 64) + `:default"}`))
	f.Add(claim(`{"sub":1,"sub":"x"}`))
	f.Add("..")
	f.Add("")
	f.Fuzz(func(t *testing.T, token string) {
		name := claimedNamespace(token)
		if len(name) > 63 || strings.Contains(name, ":") {
			t.Errorf("%q claims the namespace %q", token, name)
		}
		pace, now := NewTokenPace(), time.Unix(1_700_000_000, 0)
		pace.Good(token, now)
		if !pace.Allow(token, now) {
			t.Error("the first question about a token was refused")
		}
	})
}

// FuzzBearer: a token is what stands behind the scheme in the one header, or nothing.
func FuzzBearer(f *testing.F) {
	for _, s := range []string{"", "Bearer a.b.c", "bearer  x", "Bearer", "Basic eDp5", "Bearer a b"} {
		f.Add(s, "")
	}
	f.Add("Bearer a.b.c", "Bearer d.e.f")
	f.Fuzz(func(t *testing.T, first, second string) {
		values := metadata.Pairs("authorization", first)
		if second != "" {
			values.Append("authorization", second)
		}
		token := bearer(metadata.NewIncomingContext(context.Background(), values))
		if second != "" && token != "" {
			t.Errorf("of two headers the token %q was taken", token)
		}
		if !strings.HasSuffix(first, token) || token != "" && !strings.EqualFold(first[:len("Bearer ")], "Bearer ") {
			t.Errorf("the token of %q is %q", first, token)
		}
	})
}
