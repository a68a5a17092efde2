// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package egress

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/net/http2"
)

// classify turns whatever the network said into one of the errors above. The text of err is dropped: it may quote the
// URL, or what the receiver sent.
func classify(ctx context.Context, err error) *Error {
	if known, ok := errors.AsType[*Error](err); ok {
		return known
	}
	switch {
	case errors.Is(ctx.Err(), context.DeadlineExceeded), errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded):
		return ErrTimedOut
	case errors.Is(ctx.Err(), context.Canceled), errors.Is(err, context.Canceled):
		return ErrCanceled
	}
	if known := classifyTLS(err); known != nil {
		return known
	}
	return classifyNetwork(err)
}

func classifyTLS(err error) *Error {
	var (
		invalid   x509.CertificateInvalidError
		authority x509.UnknownAuthorityError
		name      x509.HostnameError
		verify    *tls.CertificateVerificationError
		record    tls.RecordHeaderError
		alert     tls.AlertError
	)
	switch {
	case errors.As(err, &name):
		return ErrWrongName
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return ErrExpired
	case errors.As(err, &invalid), errors.As(err, &authority), errors.As(err, &verify):
		return ErrUntrusted
	case errors.As(err, &record), errors.As(err, &alert):
		return ErrHandshake
	}
	return classifyAlert(err.Error())
}

// classifyAlert knows the errors that crypto/tls and net/http have no types for.
func classifyAlert(text string) *Error {
	_, alert, remote := strings.Cut(text, "remote error: tls: ")
	switch {
	case remote && (strings.Contains(alert, "certificate") || alert == "access denied"):
		return ErrClientCert
	case strings.Contains(text, "tls: "):
		return ErrHandshake
	case strings.Contains(text, "net/http: invalid header field"):
		return ErrHeader
	}
	return nil
}

// resetByPeer is the cause of a stream's error that the receiver has sent, and not we have found.
const resetByPeer = "received from peer"

// connectionLost begins the errors without a type by which HTTP/2 says that a connection ended below a request: by a ping
// without an answer, by us, or by a GOAWAY.
var connectionLost = []string{"http2: client conn", "http2: Transport received "}

func lost(err error) bool {
	return slices.ContainsFunc(connectionLost, func(prefix string) bool { return strings.HasPrefix(err.Error(), prefix) })
}

func classifyNetwork(err error) *Error {
	var (
		dns     *net.DNSError
		network *net.OpError
		timeout net.Error
		stream  http2.StreamError
		goAway  http2.GoAwayError //nolint:staticcheck // what speakHTTP2 has attempts fail with
	)
	switch {
	case errors.As(err, &dns) && dns.IsNotFound:
		return ErrHostNotFound
	case errors.As(err, &dns):
		return ErrDNS
	case errors.Is(err, syscall.ECONNREFUSED):
		return ErrRefused
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return ErrReset
	case errors.As(err, &goAway), errors.As(err, &stream) && stream.Cause != nil && stream.Cause.Error() == resetByPeer, lost(err):
		return ErrReset
	case errors.As(err, &timeout) && timeout.Timeout():
		return ErrTimedOut
	case errors.As(err, &network):
		return ErrUnreachable
	}
	return ErrAnswer
}
