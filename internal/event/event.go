// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package event holds what happened: a call event as its producer posted it. The payload is kept and passed on byte for
// byte; only its envelope is read.
package event

import (
	"crypto/sha256"
	"encoding/hex"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
)

// Type names what happened.
type Type string

// The types of the product's page. Others are of the form custom.<name>.
const (
	CallCompleted  Type = "call.completed"
	BookingCreated Type = "booking.created"
	ContactCreated Type = "contact.created"
)

// MaxTypeLength bounds a type, in bytes.
const MaxTypeLength = 71

// Types lists the types of the product's page, which all describe a call.
func Types() []Type { return []Type{CallCompleted, BookingCreated, ContactCreated} }

var customName = regexp.MustCompile(`^[a-z0-9]([a-z0-9_.-]{0,61}[a-z0-9])?$`)

// Known says whether t is a type that an endpoint can subscribe to.
func (t Type) Known() bool {
	if t.DescribesCall() {
		return true
	}
	name, custom := strings.CutPrefix(string(t), "custom.")
	return custom && customName.MatchString(name)
}

// DescribesCall says whether t is one of the page's types, whose events must carry call.id.
func (t Type) DescribesCall() bool { return slices.Contains(Types(), t) }

// Class is the closed form of a type for metric labels: the page's types as they are, all others as "custom".
func (t Type) Class() string {
	if t.DescribesCall() {
		return string(t)
	}
	return "custom"
}

// Event is one call event.
type Event struct {
	// ID is evt_ and 32 hexadecimal digits. It is the webhook-id of every attempt of every delivery of this event.
	ID string
	// Namespace is the producer's.
	Namespace string
	Type      Type
	// Time is the timestamp of the envelope.
	Time time.Time
	// CallID and AgentID are call.id and call.agent_id; empty when the payload has none.
	CallID  string
	AgentID string
	// Payload is the posted bytes; nobody changes them.
	Payload []byte
	// SHA256 is the digest of Payload.
	SHA256 [sha256.Size]byte
	// Accepted is when the event was taken in.
	Accepted time.Time
}

// NewID returns a fresh event id, ordered by time (UUIDv7).
func NewID() string {
	id := uuid.Must(uuid.NewV7())
	return "evt_" + hex.EncodeToString(id[:])
}

// IDFromKey derives the id from the namespace and the producer's idempotency key, so that a repeat at another
// dispatcher carries the same webhook-id.
func IDFromKey(namespace, key string) string {
	sum := sha256.Sum256([]byte(namespace + "\x00" + key))
	return "evt_" + hex.EncodeToString(sum[:16])
}
