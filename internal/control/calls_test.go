// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package control

import (
	"context"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	. "github.com/onsi/gomega"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/garyclub/webhook-operator/internal/control/controlpb"
	"github.com/garyclub/webhook-operator/internal/delivery"
	"github.com/garyclub/webhook-operator/internal/endpoint"
	"github.com/garyclub/webhook-operator/internal/event"
)

// idle is a client that only opens what the test asks for.
func (s *stand) idle(token string) *Client {
	s.t.Helper()
	c, err := NewClient(ClientOptions{
		Address: s.address, CAFile: s.caFile, TokenFile: writeFile(s.t, "token", token), QueueID: "q",
		Known: func() []*endpoint.Endpoint { return nil }, Apply: func([]*endpoint.Endpoint) error { return nil },
	})
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = c.Close() })
	return c
}

func newRecord(eventID string) delivery.Record {
	at := time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)
	return delivery.Record{
		Delivery: delivery.Delivery{
			Ref: endpoint.Ref{Namespace: "a", Name: "one"}, UID: "uid", EventID: eventID, Trigger: delivery.TriggerEvent,
			State: delivery.Retrying, Reason: "", Accepted: at, Deadline: at.Add(time.Hour), Due: at.Add(time.Minute),
			AttemptCount: 1, MaxAttempts: 4, RedeliverableUntil: at.Add(2 * time.Hour),
			Attempts: []delivery.Attempt{{
				Number: 1, Start: at, Duration: time.Second, Outcome: delivery.OutcomeTimedOut, Message: "no answer in time",
			}},
		},
		EventType: event.CallCompleted, EventTime: at, CallID: "call_1", AgentID: "agent", PayloadBytes: 7, PayloadSHA: [32]byte{9},
	}
}

func numbered(records ...delivery.Record) func(func(uint64, delivery.Record) bool) {
	return func(yield func(uint64, delivery.Record) bool) {
		for i, r := range records {
			if !yield(uint64(i+1), r) {
				return
			}
		}
	}
}

func TestRecordsAreAnsweredExactlyOnce(t *testing.T) {
	s := newStand(t, nil)
	var held []func(bool)
	s.sink.answer = func(r delivery.Record, done func(bool)) { held = append(held, done) }
	stream, err := s.idle("a.a.p").Report(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var records []delivery.Record
	for i := range 500 {
		records = append(records, newRecord(fmt.Sprintf("evt_%d", i)))
	}
	if err := stream.SendRecords(numbered(records...)); err != nil {
		t.Fatal(err)
	}
	eventually(t)(func() int {
		s.sink.mu.Lock()
		defer s.sink.mu.Unlock()
		return len(held)
	}).Should(Equal(500))
	records[7].QueueID = "q" // which the server adds
	if diff := cmp.Diff(records[7], s.sink.records[7]); diff != "" {
		t.Errorf("record differs after its way (-sent +offered):\n%s", diff)
	}
	go func() {
		for i := range held { // in another order than they came, and one of them twice
			held[499-i](i%2 == 0)
		}
		held[3](true)
	}()
	got, messages := map[uint64]bool{}, 0
	for len(got) < 500 {
		taken, _, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		messages++
		for seq, recorded := range taken {
			if _, twice := got[seq]; twice {
				t.Errorf("record %d was answered twice", seq)
			}
			got[seq] = recorded
			if want := (500-seq)%2 == 0; recorded != want {
				t.Errorf("record %d: recorded = %v, want %v", seq, recorded, want)
			}
		}
	}
	if messages > 100 {
		t.Errorf("500 answers came in %d messages: want batches", messages)
	}
}

func TestInvalidReportsAreLeftOut(t *testing.T) {
	s := newStand(t, nil)
	stream, err := s.idle("a.a.p").Report(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	bad := map[string]func(*delivery.Record){
		"name":     func(r *delivery.Record) { r.Ref.Name = "No/Name" },
		"event id": func(r *delivery.Record) { r.EventID = "" },
		"type":     func(r *delivery.Record) { r.EventType = "call.complete" },
		"trigger":  func(r *delivery.Record) { r.Trigger = "Whim" },
		"state":    func(r *delivery.Record) { r.State = 77 },
		"outcome":  func(r *delivery.Record) { r.Attempts = []delivery.Attempt{{Number: 1, Outcome: "Lost"}} },
		"attempts": func(r *delivery.Record) { r.Attempts = make([]delivery.Attempt, delivery.MaxKeptAttempts+1) },
		"reason":   func(r *delivery.Record) { r.Reason = "two words" },
	}
	var records []delivery.Record
	for _, name := range slices.Sorted(maps.Keys(bad)) {
		r := newRecord("evt_1")
		bad[name](&r)
		records = append(records, r)
	}
	records = append(records, newRecord("evt_good"))
	if err := stream.SendRecords(numbered(records...)); err != nil {
		t.Fatal(err)
	}
	got := map[uint64]bool{}
	for len(got) < len(records) {
		taken, _, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		maps.Copy(got, taken)
	}
	for seq, recorded := range got {
		if recorded != (seq == uint64(len(records))) {
			t.Errorf("record %d: recorded = %v", seq, recorded)
		}
	}
	if len(s.sink.records) != 1 {
		t.Errorf("%d records were offered, want the good one", len(s.sink.records))
	}
}

func TestCountersAreAnsweredAndNamespaceIsTheTokens(t *testing.T) {
	s := newStand(t, nil)
	stream, err := s.idle("a.mine.p").Report(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	sent := delivery.Counters{UID: "uid", Ref: endpoint.Ref{Namespace: "other", Name: "one"}, Succeeded: 3, Gone: "inc"}
	negative := delivery.Counters{UID: "uid", Ref: endpoint.Ref{Name: "two"}, Failed: -1}
	if err := stream.SendCounters([]delivery.Counters{sent, negative}, 9); err != nil {
		t.Fatal(err)
	}
	_, version, err := stream.Recv()
	if err != nil || version != 9 {
		t.Fatalf("version %d, error %v; want 9", version, err)
	}
	sent.Ref.Namespace = "mine"
	if diff := cmp.Diff(map[string][]delivery.Counters{"mine/q": {sent}}, s.sink.counters); diff != "" {
		t.Errorf("counters (-want +got):\n%s", diff)
	}
}

func TestRefusals(t *testing.T) {
	s := newStand(t, func(o *ServerOptions) {
		o.MaxStreams = 1
		o.Serves = func(namespace string) bool { return namespace != "elsewhere" }
	})
	open := func(token string) error {
		stream, err := s.idle(token).Report(t.Context())
		if err != nil {
			return err
		}
		_, _, err = stream.Recv()
		return err
	}
	wantCode(t, open("nonsense"), codes.Unauthenticated)
	wantCode(t, open("a.elsewhere.p"), codes.PermissionDenied)
	s.server.Serving(false)
	wantCode(t, open("a.a.p"), codes.Unavailable)
	s.server.Serving(true)

	ctx, cancel := context.WithCancel(t.Context())
	stream, err := s.idle("a.a.p").Report(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.SendCounters(nil, 1); err != nil {
		t.Fatal(err)
	}
	if _, _, err := stream.Recv(); err != nil {
		t.Fatal(err)
	}
	wantCode(t, open("a.a.p"), codes.ResourceExhausted)
	cancel()
	s.sink.mu.Lock()
	s.sink.refuse = true
	s.sink.mu.Unlock()
	eventually(t)(func() codes.Code {
		stream, err := s.idle("a.a.p").Report(t.Context())
		if err == nil {
			err = stream.SendRecords(numbered(newRecord("evt_1")))
		}
		if err == nil {
			_, _, err = stream.Recv()
		}
		if err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("the sink's error got out: %v", err)
		}
		return status.Code(err)
	}).Should(Equal(codes.Unavailable))
}

func TestAStreamOfEndpointsBeginsWithHello(t *testing.T) {
	s := newStand(t, nil)
	for name, m := range map[string]*controlpb.EndpointsRequest{
		"taken":         {Message: &controlpb.EndpointsRequest_Taken{Taken: 1}},
		"no queue id":   {Message: &controlpb.EndpointsRequest_Hello{Hello: &controlpb.Hello{}}},
		"nothing in it": {},
	} {
		t.Run(name, func(t *testing.T) {
			stream, err := s.idle("a.a.p").service.Endpoints(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if err := stream.Send(m); err != nil {
				t.Fatal(err)
			}
			_, err = stream.Recv()
			wantCode(t, err, codes.InvalidArgument)
		})
	}
}

func TestStreamsOfOnePodAreBounded(t *testing.T) {
	sessions := newSessions(100)
	for range maxStreamsPerPod {
		if _, err := sessions.admit("one"); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := sessions.admit("one"); err == nil {
		t.Error("one pod has more streams than its share")
	}
	release, err := sessions.admit("two")
	if err != nil {
		t.Fatal(err)
	}
	release()
	release()
	if sessions.streams != maxStreamsPerPod || len(sessions.byPod) != 1 {
		t.Errorf("%d streams of %d pods are counted after a release", sessions.streams, len(sessions.byPod))
	}
}

func TestAnotherCAIsTrustedWhenTheFileSaysSo(t *testing.T) {
	s := newStand(t, nil)
	_, other := newCertificate(t)
	good, err := os.ReadFile(s.caFile)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(s.caFile, other, 0o600); err != nil {
		t.Fatal(err)
	}
	c := s.idle("a.a.p")
	_, err = c.Report(t.Context())
	wantCode(t, err, codes.Unavailable)
	if err := os.WriteFile(s.caFile, append(other, good...), 0o600); err != nil {
		t.Fatal(err)
	}
	eventually(t)(func() error {
		_, err := c.Report(t.Context())
		return err
	}).Should(Succeed())
}

func TestTheTokenIsReadAgain(t *testing.T) {
	now := time.Unix(0, 0)
	f := &fileToken{path: writeFile(t, "token", "first\n"), now: func() time.Time { return now }}
	get := func() string {
		m, err := f.GetRequestMetadata(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return m["authorization"]
	}
	if got := get(); got != "Bearer first" {
		t.Errorf("authorization = %q", got)
	}
	if err := os.WriteFile(f.path, []byte("second"), 0o600); err != nil {
		t.Fatal(err)
	}
	now = now.Add(tokenKept)
	if got := get(); got != "Bearer second" {
		t.Errorf("authorization = %q after the file changed", got)
	}
}
