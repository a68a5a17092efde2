// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package egress

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"net"
	"net/http"

	"golang.org/x/net/http2"

	"github.com/garyclub/webhook-operator/internal/endpoint"
)

// transport returns the connections of the endpoint's TLS identity. All endpoints without special wishes share one.
func (c *Client) transport(p *endpoint.Endpoint) (*http.Transport, error) {
	key := identity(p.TLS)
	c.mu.Lock()
	defer c.mu.Unlock()
	if t, ok := c.transports[key]; ok {
		return t, nil
	}
	config, err := tlsConfig(p.TLS)
	if err != nil {
		return nil, err
	}
	if len(c.transports) >= maxTransports {
		// Rotations leave identities behind that nobody uses. Requests under way keep their connections.
		for old, t := range c.transports {
			t.CloseIdleConnections()
			delete(c.transports, old)
			break
		}
	}
	t := &http.Transport{
		DialTLSContext: func(ctx context.Context, _, address string) (net.Conn, error) {
			conn, err := c.connect(ctx, config, address)
			if err != nil {
				return nil, err // not a nil *tls.Conn in an interface
			}
			return conn, nil
		},
		DialContext:       func(context.Context, string, string) (net.Conn, error) { return nil, ErrURL }, // never unencrypted
		ForceAttemptHTTP2: true,
		HTTP2: &http.HTTP2Config{SendPingTimeout: pingAfter, PingTimeout: pingTimeout, WriteByteTimeout: writeTimeout,
			MaxReceiveBufferPerStream: streamBytes},
		DisableCompression:     true,
		MaxIdleConns:           maxIdle,
		MaxIdleConnsPerHost:    c.options.IdlePerHost,
		IdleConnTimeout:        idleTimeout,
		MaxResponseHeaderBytes: maxHeaderBytes,
		Proxy:                  nil, // the environment has no say
	}
	if err := speakHTTP2(t); err != nil {
		return nil, err
	}
	c.transports[key] = t
	return t, nil
}

// speakHTTP2 has the transport speak HTTP/2 by golang.org/x/net and not by the copy of it within net/http: in that of
// Go 1.26 a receiver that overflows a stream's window has the client wait for itself, with a lock that the attempts at
// every other receiver need, past all deadlines. What it is set to stands in the transport's HTTP2 all the same.
func speakHTTP2(t *http.Transport) error {
	_, err := http2.ConfigureTransports(t) //nolint:staticcheck // see above; deprecated for those whose net/http is newer
	return err
}

func tlsConfig(t endpoint.TLS) (*tls.Config, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: t.ServerName, NextProtos: []string{"h2", "http/1.1"}}
	if len(t.CABundle) > 0 {
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(t.CABundle) {
			return nil, ErrTLSMaterial
		}
	}
	if len(t.ClientCert) > 0 {
		certificate, err := tls.X509KeyPair(t.ClientCert, t.ClientKey)
		if err != nil {
			return nil, ErrTLSMaterial
		}
		config.Certificates = []tls.Certificate{certificate}
	}
	return config, nil
}

// CheckTLS says whether the endpoint's TLS material can be read.
func CheckTLS(t endpoint.TLS) error {
	_, err := tlsConfig(t)
	return err
}

func identity(t endpoint.TLS) string {
	if len(t.CABundle) == 0 && len(t.ClientCert) == 0 && t.ServerName == "" {
		return "" // almost all of them
	}
	h := sha256.New()
	for _, part := range [][]byte{t.CABundle, t.ClientCert, t.ClientKey, []byte(t.ServerName)} {
		_ = binary.Write(h, binary.BigEndian, uint64(len(part)))
		h.Write(part)
	}
	return string(h.Sum(nil))
}
