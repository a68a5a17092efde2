// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package pebble

import (
	"bytes"
	"encoding/hex"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/garyclub/webhook-operator/internal/delivery"
	"github.com/garyclub/webhook-operator/internal/endpoint"
	"github.com/garyclub/webhook-operator/internal/event"
)

var update = flag.Bool("update", false, "write the golden files")

func sampleRecord() *stored {
	at := time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)
	return &stored{shared: true, indexed: true, Record: delivery.Record{
		Delivery: delivery.Delivery{
			Ref: endpoint.Ref{Namespace: "team", Name: "a"}, UID: "uid", EventID: "evt_1", Trigger: delivery.TriggerEvent,
			State: delivery.Failed, Reason: "TimedOut", Accepted: at, Deadline: at.Add(time.Hour), Due: time.Time{},
			Wait: 5 * time.Second, AttemptCount: 2, MaxAttempts: 4, Interruptions: 1, Completed: at,
			RedeliverableUntil: at.Add(24 * time.Hour),
			Attempts: []delivery.Attempt{{Number: 1, Start: at, Duration: time.Second, Outcome: delivery.OutcomeTimedOut,
				Message: "no answer"}, {Number: 2, Start: at, StatusCode: 503, RetryAfter: time.Minute}},
		},
		EventType: event.BookingCreated, EventTime: time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC), CallID: "call",
		AgentID: "agent", PayloadBytes: 12, PayloadSHA: [32]byte{1, 2, 3},
	}}
}

// orderedRecord has the fields of a redelivery too.
func orderedRecord() *stored {
	s := sampleRecord()
	s.Trigger, s.Order, s.OrderName = delivery.TriggerRedelivery, "0d3a-uid", "again"
	return s
}

// TestRecordsOfOlderQueuesAreRead holds the bytes that stand on disks: they are read, and written again, as they are.
// -update writes them anew, which is right for a file that is new, and wrong for one that was there.
func TestRecordsOfOlderQueuesAreRead(t *testing.T) {
	for name, want := range map[string]*stored{"record": sampleRecord(), "record-ordered": orderedRecord()} {
		path := filepath.Join("testdata", name+".hex")
		if *update {
			if err := os.WriteFile(path, []byte(hex.EncodeToString(appendRecord(nil, want))+"\n"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		value, err := hex.DecodeString(strings.TrimSpace(string(text)))
		if err != nil {
			t.Fatal(err)
		}
		got, err := parseRecord(value)
		if diff := cmp.Diff(want, got, cmp.AllowUnexported(stored{})); err != nil || diff != "" {
			t.Errorf("%s: error %v, difference (-want +got):\n%s", name, err, diff)
		}
		if again := appendRecord(nil, want); !bytes.Equal(again, value) {
			t.Errorf("%s is written as %x, stood on disks as %x", name, again, value)
		}
	}
}

func TestCodecsKeepWhatTheyAreGiven(t *testing.T) {
	record := sampleRecord()
	got, err := parseRecord(appendRecord(nil, record))
	if diff := cmp.Diff(record, got, cmp.AllowUnexported(stored{})); err != nil || diff != "" {
		t.Errorf("record: error %v, difference (-want +got):\n%s", err, diff)
	}
	record = orderedRecord()
	got, err = parseRecord(appendRecord(nil, record))
	if diff := cmp.Diff(record, got, cmp.AllowUnexported(stored{})); err != nil || diff != "" {
		t.Errorf("record of an order: error %v, difference (-want +got):\n%s", err, diff)
	}
	order := orderInfo{began: 1, updated: 2, matched: 3, moved: 4, done: true, full: true}
	if got, err := parseOrder(appendOrder(nil, &order)); err != nil || got != order {
		t.Errorf("order is %+v, want %+v, error %v", got, order, err)
	}
	e := &event.Event{ID: "evt", Namespace: "team", Type: "custom.x", Time: record.Accepted, CallID: "c", AgentID: "a",
		Payload: []byte(`{"a":1}`), SHA256: [32]byte{9}, Accepted: record.Completed}
	gotEvent, err := parseEvent(appendEvent(nil, e))
	if diff := cmp.Diff(e, gotEvent); err != nil || diff != "" {
		t.Errorf("event: error %v, difference (-want +got):\n%s", err, diff)
	}
	p := place{lane: laneID{1}, due: 2, seq: 3}
	if marked := parseMarks(append(make([]byte, markSize), appendMark(nil, p)...)); len(marked) != 1 || marked[0] != p {
		t.Errorf("marks are %v, want only %v", marked, p)
	}
}

// fuzz checks that a decoder takes any bytes, and that what it takes it writes back so that it reads the same.
func fuzz[T any](f *testing.F, seed []byte, parse func([]byte) (T, error), format func(T) []byte) {
	f.Helper()
	f.Add(seed)
	f.Add([]byte{})
	f.Add([]byte{codecVersion, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f})
	for n := range len(seed) {
		f.Add(seed[:n])
	}
	f.Fuzz(func(t *testing.T, value []byte) {
		v, err := parse(value)
		if err != nil {
			return
		}
		once := format(v)
		again, err := parse(once)
		if err != nil || !bytes.Equal(format(again), once) {
			t.Fatalf("%x is read, written as %x, and not read as the same: %v", value, once, err)
		}
	})
}

func FuzzRecord(f *testing.F) {
	f.Add(appendRecord(nil, orderedRecord()))
	fuzz(f, appendRecord(nil, sampleRecord()), parseRecord, func(s *stored) []byte { return appendRecord(nil, s) })
}

func FuzzOutgoing(f *testing.F) {
	f.Add(appendOutgoing(nil, deliveryID{laneID{1}, 2}, orderedRecord()))
	type outgoing struct {
		id deliveryID
		s  *stored
	}
	fuzz(f, appendOutgoing(nil, deliveryID{laneID{1}, 2}, sampleRecord()), func(b []byte) (outgoing, error) {
		id, s, err := parseOutgoing(b)
		return outgoing{id, s}, err
	}, func(o outgoing) []byte { return appendOutgoing(nil, o.id, o.s) })
}

func FuzzEvent(f *testing.F) {
	seed := appendEvent(nil, &event.Event{ID: "evt", Type: "custom.x", Payload: []byte("{}")})
	fuzz(f, seed, parseEvent, func(e *event.Event) []byte { return appendEvent(nil, e) })
}

func FuzzLane(f *testing.F) {
	seed := appendLane(nil, &laneInfo{ref: endpoint.Ref{Namespace: "n", Name: "m"}, uid: "u", waiting: 2, gone: "x"})
	fuzz(f, seed, parseLane, func(l laneInfo) []byte { return appendLane(nil, &l) })
}

func FuzzCounters(f *testing.F) {
	seed := appendCounters(nil, &delivery.Counters{Succeeded: 5, Failed: -1})
	parse := func(b []byte) (delivery.Counters, error) { return parseCounters("uid", b) }
	fuzz(f, seed, parse, func(c delivery.Counters) []byte { return appendCounters(nil, &c) })
}

func FuzzKey(f *testing.F) {
	seed := appendKey(nil, &keyInfo{at: 1, eventID: "evt", deliveries: -1})
	fuzz(f, seed, parseKey, func(k keyInfo) []byte { return appendKey(nil, &k) })
}

func FuzzOrder(f *testing.F) {
	seed := appendOrder(nil, &orderInfo{began: 1, updated: 2, matched: 3, moved: 4, done: true})
	fuzz(f, seed, parseOrder, func(o orderInfo) []byte { return appendOrder(nil, &o) })
}

func FuzzTotals(f *testing.F) {
	seed := appendTotals(nil, &totals{nextSeq: 1, nextOut: 1 << 63, live: -1})
	fuzz(f, seed, parseTotals, func(v totals) []byte { return appendTotals(nil, &v) })
}

func FuzzKeysAndMarks(f *testing.F) {
	f.Add(place{}.key())
	f.Add(appendMark(nil, place{seq: 1}))
	f.Fuzz(func(_ *testing.T, b []byte) {
		_, _ = parsePlace(b)
		_, _ = parseSeqKey(b)
		_, _, _ = parseDeadKey(b)
		_, _, _ = parseKeyAgeKey(b)
		_, _ = parseOrderKey(b)
		_, _ = parseReferences(b)
		_ = parseMarks(b)
	})
}
