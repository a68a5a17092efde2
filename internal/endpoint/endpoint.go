// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package endpoint holds where deliveries go: a WebhookEndpoint with everything that it refers to resolved, as the
// manager streams it to dispatchers. It carries keys and URLs, so its types have no String method that shows them.
package endpoint

import (
	"slices"
	"strconv"
	"time"

	"github.com/garyclub/webhook-operator/internal/event"
)

// Ref names an endpoint. Deliveries wait under the name rather than the UID, so that an object which a GitOps tool
// deletes and creates again takes over what was waiting.
type Ref struct {
	Namespace string
	Name      string
}

// Hold says why deliveries to an endpoint wait instead of being attempted.
type Hold string

// The reasons to hold. A failed test event is not among them.
const (
	HoldNone              Hold = ""
	HoldSuspended         Hold = "Suspended"
	HoldAddressRefused    Hold = "AddressRefused"
	HoldSigningKeyMissing Hold = "SigningKeyMissing"
	HoldUnresolved        Hold = "Unresolved" // the URL, a header or TLS material cannot be resolved
	HoldGone              Hold = "Gone"       // answered 410
)

// Header is one extra request header. Its value may be a secret.
type Header struct {
	Name  string
	Value string
}

// Retry is the rule for the attempts of one delivery.
type Retry struct {
	MaxRetries     int
	InitialBackoff time.Duration
	MaxBackoff     time.Duration
	// Deadline bounds a whole delivery, from acceptance.
	Deadline time.Duration
}

// TLS is what an endpoint asks of the handshake beyond the defaults.
type TLS struct {
	CABundle   []byte // PEM; empty means the system's
	ClientCert []byte // PEM
	ClientKey  []byte // PEM
	ServerName string
}

// Endpoint is a resolved WebhookEndpoint.
type Endpoint struct {
	Ref
	UID        string
	Generation int64
	// Revision is a hash over everything here that a dispatcher acts on.
	Revision string
	// Incarnation changes with what ends the hold of a 410: the generation, the resolved URL, a requested test that
	// succeeded.
	Incarnation string

	URL          string
	Events       []event.Type
	Agents       []string // empty means all
	Hold         Hold
	Timeout      time.Duration
	SuccessCodes []string // "200" to "299", or "2xx"
	Retry        Retry
	// SigningKeys are raw bytes; the first is the current one, a second is valid during rotation.
	SigningKeys [][]byte
	Headers     []Header
	TLS         TLS
	MaxInFlight int
}

// Matches says whether e is to be delivered to this endpoint.
func (p *Endpoint) Matches(e *event.Event) bool {
	if p.Namespace != e.Namespace || !slices.Contains(p.Events, e.Type) {
		return false
	}
	return len(p.Agents) == 0 || slices.Contains(p.Agents, e.AgentID)
}

// Succeeds says whether an answer with this status code is a success.
func (p *Endpoint) Succeeds(code int) bool {
	return slices.Contains(p.SuccessCodes, strconv.Itoa(code)) ||
		code >= 200 && code <= 299 && slices.Contains(p.SuccessCodes, "2xx")
}
