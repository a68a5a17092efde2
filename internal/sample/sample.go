// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package sample holds the payloads of test events. Whoever receives one may take it for real, so each names a sample
// person and a call id that begins with call_test_.
package sample

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"strings"
	"time"

	"github.com/garyclub/webhook-operator/internal/event"
)

// CallIDPrefix begins the call id of every test event.
const CallIDPrefix = "call_test_"

// NewCallID returns a fresh call id: call_test_ and 16 hexadecimal digits.
func NewCallID() string {
	var id [8]byte
	_, _ = rand.Read(id[:]) // never fails: crypto/rand
	return CallIDPrefix + hex.EncodeToString(id[:])
}

// Payload returns a sample payload of the type, which a receiver can map its fields with.
func Payload(t event.Type, now time.Time, callID string) []byte {
	text, ok := texts[t]
	if !ok {
		text = custom
	}
	filled := strings.NewReplacer(
		"$EVENT", quote(string(t)),
		"$TIMESTAMP", quote(now.UTC().Format(time.RFC3339)),
		"$CALL_ID", quote(callID),
	).Replace(text)
	return []byte(filled)
}

func quote(s string) string {
	b, _ := json.Marshal(s) // a string has no error
	return string(b)
}

var texts = map[event.Type]string{
	event.CallCompleted:  callCompleted,
	event.BookingCreated: bookingCreated,
	event.ContactCreated: contactCreated,
}

const callCompleted = `{
  "event": $EVENT,
  "timestamp": $TIMESTAMP,
  "call": {
    "id": $CALL_ID,
    "duration_seconds": 187,
    "caller_phone": "+15555550100",
    "agent_id": "agent_test",
    "quality_score": 88,
    "sentiment": "positive",
    "goodbye": true
  },
  "contact": {
    "name": "Sample Person",
    "email": "sample.person@example.com",
    "phone": "+15555550100"
  },
  "summary": "This is a test event. Caller asked about teeth whitening options and pricing. Caller booked a consultation for next Tuesday.",
  "intent": "appointment_booking",
  "data_collected": {
    "service_requested": "teeth whitening consultation",
    "preferred_date": "next Tuesday"
  },
  "actions": [
    {
      "type": "booking",
      "details": "Test event: no consultation was booked"
    }
  ]
}
`

const bookingCreated = `{
  "event": $EVENT,
  "timestamp": $TIMESTAMP,
  "call": {
    "id": $CALL_ID,
    "caller_phone": "+15555550100",
    "agent_id": "agent_test"
  },
  "contact": {
    "name": "Sample Person",
    "email": "sample.person@example.com",
    "phone": "+15555550100"
  },
  "summary": "This is a test event. Caller booked a consultation for next Tuesday.",
  "intent": "appointment_booking",
  "data_collected": {
    "service_requested": "teeth whitening consultation",
    "preferred_date": "next Tuesday"
  },
  "actions": [
    {
      "type": "booking",
      "details": "Test event: no consultation was booked"
    }
  ]
}
`

const contactCreated = `{
  "event": $EVENT,
  "timestamp": $TIMESTAMP,
  "call": {
    "id": $CALL_ID,
    "caller_phone": "+15555550100",
    "agent_id": "agent_test"
  },
  "contact": {
    "name": "Sample Person",
    "email": "sample.person@example.com",
    "phone": "+15555550100"
  },
  "summary": "This is a test event. A first-time caller was detected."
}
`

const custom = `{
  "event": $EVENT,
  "timestamp": $TIMESTAMP,
  "call": {
    "id": $CALL_ID,
    "agent_id": "agent_test"
  },
  "summary": "This is a test event."
}
`
