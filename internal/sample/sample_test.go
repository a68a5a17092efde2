// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package sample

import (
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/garyclub/webhook-operator/internal/event"
)

func TestPayloadIsAnEventOfItsType(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 987, time.FixedZone("", 3600))
	callID := NewCallID()
	for _, want := range append(event.Types(), "custom.voicemail-left") {
		t.Run(string(want), func(t *testing.T) {
			payload := Payload(want, now, callID)
			got, err := event.Parse("n", payload, now)
			if err != nil {
				t.Fatalf("%v in\n%s", err, payload)
			}
			if got.Type != want || got.CallID != callID || got.AgentID != "agent_test" {
				t.Errorf("type %q, call %q, agent %q", got.Type, got.CallID, got.AgentID)
			}
			if !got.Time.Equal(now.Truncate(time.Second)) {
				t.Errorf("time = %v, want %v", got.Time, now)
			}
			if !strings.Contains(string(payload), "test event") {
				t.Error("a person cannot see that it is a test event")
			}
		})
	}
}

func TestPayloadQuotesTheCallID(t *testing.T) {
	e, err := event.Parse("n", Payload(event.CallCompleted, time.Now(), `a"b$EVENT`), time.Now())
	if err != nil || e.CallID != `a"b$EVENT` {
		t.Errorf("event %v, error %v", e, err)
	}
}

func TestNewCallID(t *testing.T) {
	a, b := NewCallID(), NewCallID()
	if !regexp.MustCompile(`^call_test_[0-9a-f]{16}$`).MatchString(a) || a == b {
		t.Errorf("call ids %q and %q", a, b)
	}
}
