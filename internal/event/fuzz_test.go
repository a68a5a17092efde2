// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package event

import (
	"encoding/json"
	"strings"
	"testing"
	"time"
)

// FuzzParseReadsWhatReceiversRead: what the envelope is taken to say is what another decoder reads out of the same bytes,
// so that nobody is told of another event than the one that was matched.
func FuzzParseReadsWhatReceiversRead(f *testing.F) {
	f.Add(page(f))
	for _, s := range []string{
		`{"event":"custom.a","timestamp":"2026-01-01T00:00:00Z","Event":"custom.b","call":{"ID":"x","id":"y"}}`,
		`{"\u0065vent":"custom.a","timestamp":"2026-01-01T00:00:00+01:00","call":{"id":"\ud83d\ude00","agent_id":null}}`,
		`{"event":"custom.a","timestamp":"2026-01-01T00:00:00Z","n":1e999,"m":-0,"o":123456789012345678901234567890}`,
		`{"event":"custom.a","timestamp":"2026-12-31T23:59:60Z"}`,
		"\ufeff{\"event\":\"custom.a\",\"timestamp\":\"2026-01-01T00:00:00Z\"}",
		"{\"event\":\"custom.a\",\"timestamp\":\"2026-01-01T00:00:00Z\",\"a\":\"\x00\"}",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, payload []byte) {
		e, err := Parse("n", payload, accepted)
		if err != nil {
			return
		}
		var all map[string]json.RawMessage
		if err := json.Unmarshal(payload, &all); err != nil {
			t.Fatalf("%q was taken, and is no JSON to others: %v", payload, err)
		}
		if got := text(t, all["event"]); got != string(e.Type) {
			t.Errorf("the type is %q here and %q there", e.Type, got)
		}
		at, err := time.Parse(time.RFC3339, text(t, all["timestamp"]))
		if err != nil || !at.Equal(e.Time) {
			t.Errorf("the time is %s here and %s there (%v)", e.Time, at, err)
		}
		var call map[string]json.RawMessage
		if raw, ok := all["call"]; ok {
			if err := json.Unmarshal(raw, &call); err != nil {
				t.Fatalf("call was taken, and is no object to others: %v", err)
			}
		}
		if id, agent := text(t, call["id"]), text(t, call["agent_id"]); id != e.CallID || agent != e.AgentID {
			t.Errorf("the call is %q of %q here and %q of %q there", e.CallID, e.AgentID, id, agent)
		}
	})
}

// text is a string, or what null and nothing stand for.
func text(t *testing.T, raw json.RawMessage) (s string) {
	t.Helper()
	if len(raw) == 0 {
		return ""
	}
	if err := json.Unmarshal(raw, &s); err != nil {
		t.Fatalf("%q was taken, and is no text to others: %v", raw, err)
	}
	return s
}

// FuzzType: a type that is known fits everywhere that it is shown.
func FuzzType(f *testing.F) {
	for _, s := range []string{"call.completed", "custom.a", "custom.", "custom.-a", "custom.a\n", "custom." + strings.Repeat("a", 64)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if !Type(s).Known() {
			return
		}
		if len(s) > MaxTypeLength || strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789_.-") != "" {
			t.Errorf("%q is known", s)
		}
		if class := Type(s).Class(); class != s && class != "custom" {
			t.Errorf("the class of %q is %q", s, class)
		}
	})
}

// FuzzIDFromKey: an id is of the form that goes into headers and objects, whatever the key.
func FuzzIDFromKey(f *testing.F) {
	f.Add("clinic", "order-7")
	f.Add("", "")
	f.Add("a\x00b", "\xff")
	f.Fuzz(func(t *testing.T, namespace, key string) {
		id := IDFromKey(namespace, key)
		digits, ok := strings.CutPrefix(id, "evt_")
		if !ok || len(digits) != 32 || strings.Trim(digits, "0123456789abcdef") != "" {
			t.Errorf("the id is %q", id)
		}
		if id == IDFromKey(namespace, key+"x") || id == IDFromKey(namespace+"x", key) {
			t.Error("another key has the same id")
		}
	})
}
