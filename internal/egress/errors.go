// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package egress

import "github.com/garyclub/webhook-operator/internal/delivery"

// Error is what every function here fails with: made of constant texts.
type Error = delivery.Failure

// The errors that callers compare with errors.Is.
var (
	ErrAddressRefused = &Error{Outcome: delivery.OutcomeAddressRefused, Message: "the host's address is private or special, and the operator's --egress-allow does not name it"}
	ErrHostNotFound   = &Error{Outcome: delivery.OutcomeUnreachable, Message: "the host name has no address in DNS"}
	ErrExpired        = &Error{Outcome: delivery.OutcomeTLSFailed, Message: "the receiver's certificate has expired or is not valid yet"}
	ErrUntrusted      = &Error{Outcome: delivery.OutcomeTLSFailed, Message: "the receiver's certificate is not signed by a trusted authority"}
	ErrWrongName      = &Error{Outcome: delivery.OutcomeTLSFailed, Message: "the receiver's certificate is for another host name"}
	ErrHandshake      = &Error{Outcome: delivery.OutcomeTLSFailed, Message: "the TLS handshake failed; TLS 1.2 or later is needed"}
	ErrTLSMaterial    = &Error{Outcome: delivery.OutcomeTLSFailed, Message: "the endpoint's CA bundle or client certificate cannot be read"}
	ErrClientCert     = &Error{Outcome: delivery.OutcomeTLSFailed, Message: "the receiver refused the client certificate, or asks for one"}
	ErrHeader         = &Error{Outcome: delivery.OutcomeRejected, Message: "a header of the endpoint cannot be sent: its name or value has a character that HTTP forbids"}
	ErrURL            = &Error{Outcome: delivery.OutcomeAddressRefused, Message: "the URL is not an absolute https URL without user information and with an ASCII host (xn-- for an international name)"}
	ErrDNS            = &Error{Outcome: delivery.OutcomeUnreachable, Message: "the host name could not be looked up in DNS"}
	ErrRefused        = &Error{Outcome: delivery.OutcomeUnreachable, Message: "the connection was refused"}
	ErrReset          = &Error{Outcome: delivery.OutcomeUnreachable, Message: "the connection was closed before the answer was complete"}
	ErrProxy          = &Error{Outcome: delivery.OutcomeUnreachable, Message: "the egress proxy did not connect"}
	ErrUnreachable    = &Error{Outcome: delivery.OutcomeUnreachable, Message: "the host could not be reached"}
	ErrAnswer         = &Error{Outcome: delivery.OutcomeUnreachable, Message: "the answer is not valid HTTP"}
	ErrFlood          = &Error{Outcome: delivery.OutcomeUnreachable, Message: "the receiver sent more than an answer can be"}
	ErrTimedOut       = &Error{Outcome: delivery.OutcomeTimedOut, Message: "no complete answer within the timeout"}
	ErrCanceled       = &Error{Outcome: delivery.OutcomeInterrupted, Message: "the attempt was interrupted"}
)
