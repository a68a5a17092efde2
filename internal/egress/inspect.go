// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package egress

import (
	"context"
	"net"
	"time"

	"github.com/garyclub/webhook-operator/internal/endpoint"
)

// Certificate is what a receiver's certificate says.
type Certificate struct {
	Issuer   string
	NotAfter time.Time
}

// Inspect resolves and judges the endpoint's address and looks at its certificate, as an attempt would, without sending
// a request. The error is always an *Error.
func (c *Client) Inspect(ctx context.Context, p *endpoint.Endpoint) (Certificate, error) {
	target, err := parse(p.URL)
	if err != nil {
		return Certificate{}, err
	}
	config, err := tlsConfig(p.TLS)
	if err != nil {
		return Certificate{}, err
	}
	port := target.Port()
	if port == "" {
		port = "443"
	}
	conn, err := c.connect(withDeadline(ctx), config, net.JoinHostPort(target.Hostname(), port))
	if err != nil {
		return Certificate{}, classify(ctx, err)
	}
	defer func() { _ = conn.Close() }()
	leaf := conn.ConnectionState().PeerCertificates[0]
	return Certificate{Issuer: leaf.Issuer.CommonName, NotAfter: leaf.NotAfter}, nil
}
