// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package event

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var accepted = time.Date(2026, 2, 15, 14, 32, 1, 0, time.UTC)

func page(t testing.TB) []byte {
	t.Helper()
	payload, err := os.ReadFile(filepath.Join("testdata", "call_completed.json"))
	if err != nil {
		t.Fatal(err)
	}
	return payload
}

func TestParseReadsThePagesPayload(t *testing.T) {
	payload := page(t)
	got, err := Parse("clinic", payload, accepted)
	if err != nil {
		t.Fatal(err)
	}
	want := &Event{
		Namespace: "clinic", Type: CallCompleted, Time: time.Date(2026, 2, 15, 14, 32, 0, 0, time.UTC),
		CallID: "call_abc123", AgentID: "agent_xyz",
		Payload: page(t), SHA256: sha256.Sum256(payload), Accepted: accepted,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("event differs (-want +got):\n%s", diff)
	}
}

func TestParseAccepts(t *testing.T) {
	for name, tc := range map[string]struct {
		payload string
		want    Event
	}{
		"custom type without a call": {
			`{"event":"custom.voicemail-left","timestamp":"2026-01-01T00:00:00Z"}`, Event{Type: "custom.voicemail-left"},
		},
		"custom type with a call": {
			`{"event":"custom.a","timestamp":"2026-01-01T00:00:00Z","call":{"id":"c","agent_id":"a"}}`,
			Event{Type: "custom.a", CallID: "c", AgentID: "a"},
		},
		"members in another order, escapes, an offset": {
			`{"call":{"agent_id":null,"\u0069d":"caf\u00e9"},"timestamp":"2026-01-01T02:00:00.5+02:00","event":"booking.created"}`,
			Event{Type: BookingCreated, CallID: "café"},
		},
		"white space around": {
			" \r\n" + `{"event":"contact.created","timestamp":"2026-01-01T00:00:00Z","call":{"id":"c"}}` + "\n\t ",
			Event{Type: ContactCreated, CallID: "c"},
		},
		"names of the envelope further down": {
			`{"event":"custom.a","timestamp":"2026-01-01T00:00:00Z","data":{"event":1,"timestamp":2,"call":3}}`, Event{Type: "custom.a"},
		},
		"brackets within strings": {
			`{"event":"custom.a","timestamp":"2026-01-01T00:00:00Z","d":"\"` + strings.Repeat("[{", 100) + `"}`, Event{Type: "custom.a"},
		},
		"as deep as may be": {
			`{"event":"custom.a","timestamp":"2026-01-01T00:00:00Z","d":` + strings.Repeat("[", 31) + strings.Repeat("]", 31) + `}`,
			Event{Type: "custom.a"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := Parse("n", []byte(tc.payload), accepted)
			if err != nil {
				t.Fatal(err)
			}
			if got.Type != tc.want.Type || got.CallID != tc.want.CallID || got.AgentID != tc.want.AgentID {
				t.Errorf("got %q %q %q, want %q %q %q", got.Type, got.CallID, got.AgentID, tc.want.Type, tc.want.CallID, tc.want.AgentID)
			}
			if string(got.Payload) != tc.payload {
				t.Errorf("the payload was changed to %q", got.Payload)
			}
			if got.Time.Location() != time.UTC || got.Time.Truncate(time.Second) != time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC) {
				t.Errorf("time = %v", got.Time)
			}
		})
	}
}

func TestParseRefuses(t *testing.T) {
	long := strings.Repeat("x", MaxCallIDBytes+1)
	envelope := func(members string) string {
		return `{"event":"call.completed","timestamp":"2026-01-01T00:00:00Z",` + members + `}`
	}
	timestamp := func(s string) string { return `{"event":"custom.a","timestamp":` + s + `}` }
	for name, tc := range map[string]struct {
		payload   string
		wantField string
		wantRule  string // a part of it
	}{
		"nothing":                   {"", "", "JSON object"},
		"white space":               {" \n", "", "JSON object"},
		"an array":                  {`[{"event":"call.completed"}]`, "", "JSON object"},
		"null":                      {`null`, "", "JSON object"},
		"a string":                  {`"SECRET"`, "", "JSON object"},
		"no JSON":                   {`SECRET`, "", "at byte 0"},
		"cut off":                   {`{"event":"SECRET`, "", "at byte"},
		"two objects":               {`{} {}`, "", "nothing after it"},
		"text after it":             {`{} SECRET`, "", "at byte 3"},
		"a byte order mark":         {"\ufeff{}", "", "at byte 0"},
		"no UTF-8":                  {"{\"a\":\"\xff\"}", "", "UTF-8"},
		"half a surrogate":          {`{"a":"\ud800"}`, "", "at byte"},
		"duplicate names":           {`{"SECRET":1,"SECRET":2}`, "", "two members of one name"},
		"duplicate names by escape": {`{"call":{"id":"SECRET","\u0069d":"SECRET"}}`, "", "two members of one name"},
		"duplicate names far down":  {`{"a":[{"SECRET":1,"SECRET":2}]}`, "", "two members of one name"},
		"too deep":                  {`{"a":` + strings.Repeat("[", 32) + strings.Repeat("]", 32) + `}`, "", "at most 32 deep"},
		"far too deep":              {strings.Repeat("[", 100_000), "", "at most 32 deep"},
		"too large":                 {`{"a":"` + strings.Repeat("S", MaxPayloadBytes) + `"}`, "", "at most 262144 bytes"},

		"no event":           {`{"timestamp":"2026-01-01T00:00:00Z"}`, "event", "must be one of call.completed"},
		"event of no type":   {`{"event":"SECRET","timestamp":"2026-01-01T00:00:00Z"}`, "event", "must be one of"},
		"event in capitals":  {`{"event":"Call.Completed"}`, "event", "must be one of"},
		"event is a number":  {`{"event":1}`, "event", "must be one of"},
		"custom has no name": {`{"event":"custom."}`, "event", "must be one of"},

		"no timestamp":                                   {`{"event":"custom.a"}`, "timestamp", "RFC 3339"},
		"timestamp is a number":                          {timestamp(`1700000000`), "timestamp", "RFC 3339"},
		"timestamp is null":                              {timestamp(`null`), "timestamp", "RFC 3339"},
		"timestamp without zone":                         {timestamp(`"2026-01-01T00:00:00"`), "timestamp", "RFC 3339"},
		"timestamp of one digit":                         {timestamp(`"2026-01-01T0:00:00Z"`), "timestamp", "RFC 3339"},
		"timestamp with a comma":                         {timestamp(`"2026-01-01T00:00:00,5Z"`), "timestamp", "RFC 3339"},
		"timestamp with an offset of a day":              {timestamp(`"2026-01-01T00:00:00+24:00"`), "timestamp", "RFC 3339"},
		"timestamp with an offset of an hour in minutes": {timestamp(`"2026-01-01T00:00:00+01:60"`), "timestamp", "RFC 3339"},
		"timestamp of no day":                            {timestamp(`"2026-02-30T00:00:00Z"`), "timestamp", "RFC 3339"},
		"timestamp that is the zero time":                {timestamp(`"0001-01-01T00:00:00Z"`), "timestamp", "1970"},
		"timestamp that is no year in UTC":               {timestamp(`"9999-12-31T23:59:59-01:00"`), "timestamp", "9999"},

		"no call":               {envelope(`"a":1`), "call.id", "required"},
		"call is null":          {envelope(`"call":null`), "call.id", "required"},
		"call is a string":      {envelope(`"call":"SECRET"`), "call", "object"},
		"call is an array":      {envelope(`"call":["SECRET"]`), "call", "object"},
		"no call.id":            {envelope(`"call":{}`), "call.id", "required"},
		"call.id is empty":      {envelope(`"call":{"id":""}`), "call.id", "required"},
		"call.id is a number":   {envelope(`"call":{"id":7}`), "call.id", "string"},
		"call.id is long":       {envelope(`"call":{"id":"` + long + `"}`), "call.id", "at most 128 bytes"},
		"call.id has a newline": {envelope(`"call":{"id":"SECRET\n"}`), "call.id", "control"},
		"call.id has a C1":      {envelope(`"call":{"id":"SECRET\u0085"}`), "call.id", "control"},
		"agent_id is an object": {envelope(`"call":{"id":"c","agent_id":{}}`), "call.agent_id", "string"},
		"agent_id is long":      {envelope(`"call":{"id":"c","agent_id":"` + long + `"}`), "call.agent_id", "at most 128"},
		"agent_id has a NUL":    {envelope(`"call":{"id":"c","agent_id":"\u0000"}`), "call.agent_id", "control"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Parse("n", []byte(tc.payload), accepted)
			var field *FieldError
			if !errors.As(err, &field) {
				t.Fatalf("error = %v, want a FieldError", err)
			}
			if field.Field != tc.wantField || !strings.Contains(field.Rule, tc.wantRule) {
				t.Errorf("error = %q %q, want %q and %q", field.Field, field.Rule, tc.wantField, tc.wantRule)
			}
			if strings.Contains(err.Error(), "SECRET") {
				t.Errorf("the error shows the payload: %v", err)
			}
		})
	}
}

func TestParseAllocates(t *testing.T) {
	payload := page(t)
	got := testing.AllocsPerRun(100, func() { _, _ = Parse("n", payload, accepted) })
	if got > 40 {
		t.Errorf("%v allocations, want at most 40", got)
	}
}

func BenchmarkParse(b *testing.B) {
	payload := page(b)
	b.SetBytes(int64(len(payload)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Parse("n", payload, accepted); err != nil {
			b.Fatal(err)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(page(f))
	for _, s := range []string{
		``, `{}`, `[]`, `{"event":"custom.a","timestamp":"2026-01-01T00:00:00Z"}`, `{"call":{"id":"\u0000"}}`,
		`{"event":"call.completed","timestamp":"2026-01-01T00:00:00Z","call":{"id":"c","agent_id":null}} x`, "{\"a\":\"\xff\"}",
		`{"a":` + strings.Repeat("[", 40),
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, payload []byte) {
		before := bytes.Clone(payload)
		e, err := Parse("n", payload, accepted)
		if !bytes.Equal(before, payload) {
			t.Fatal("the payload was changed")
		}
		if err != nil {
			var field *FieldError
			if !errors.As(err, &field) || field.Rule == "" {
				t.Fatalf("error = %v, want a FieldError with a rule", err)
			}
			return
		}
		if !bytes.Equal(e.Payload, before) || e.SHA256 != sha256.Sum256(before) {
			t.Error("the event has other bytes")
		}
		if !e.Type.Known() || e.Type.DescribesCall() && e.CallID == "" {
			t.Errorf("type %q with call %q was accepted", e.Type, e.CallID)
		}
		if len(e.CallID) > MaxCallIDBytes || len(e.AgentID) > MaxCallIDBytes || len(payload) > MaxPayloadBytes {
			t.Error("a bound was passed")
		}
		if _, err := e.Time.MarshalJSON(); err != nil || e.Time.IsZero() {
			t.Errorf("time %v cannot be written: %v", e.Time, err)
		}
	})
}
