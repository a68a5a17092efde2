// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package egress

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"syscall"
	"time"
)

// dialTimeout bounds a dial whose attempt has no deadline.
const dialTimeout = 30 * time.Second

// deadlineKey keeps an attempt's deadline in its context. http.Transport dials under a context that is cut off from
// the request's, so that a later request may use the connection; without this a dial to a host that swallows packets
// would outlive its attempt by minutes.
type deadlineKey struct{}

func withDeadline(ctx context.Context) context.Context {
	deadline, ok := ctx.Deadline()
	if !ok {
		deadline = time.Now().Add(dialTimeout)
	}
	return context.WithValue(ctx, deadlineKey{}, deadline)
}

// connect is the one way a connection comes about: resolve, judge, dial, handshake.
func (c *Client) connect(ctx context.Context, config *tls.Config, address string) (*tls.Conn, error) {
	deadline, ok := ctx.Value(deadlineKey{}).(time.Time)
	if !ok {
		deadline = time.Now().Add(dialTimeout)
	}
	ctx, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, ErrURL
	}
	conn, err := c.dial(ctx, address)
	if err != nil {
		return nil, err
	}
	if config.ServerName == "" {
		config = config.Clone()
		config.ServerName = host
	}
	secure := tls.Client(newMeter(conn), config)
	if err := secure.HandshakeContext(ctx); err != nil {
		_ = conn.Close()
		return nil, classify(ctx, err)
	}
	return secure, nil
}

// dial connects to the first of the host's allowed addresses that answers. Each gets an equal share of the time that
// is left, so that one dead address of two does not use up the timeout.
func (c *Client) dial(ctx context.Context, address string) (net.Conn, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, ErrURL
	}
	allowed, err := c.resolve(ctx, host, port)
	if err != nil {
		return nil, err
	}
	var failed error
	for i, ip := range allowed {
		conn, err := c.dialOne(ctx, ip, len(allowed)-i)
		if err == nil {
			return conn, nil
		}
		failed = errors.Join(failed, err)
		if ctx.Err() != nil {
			break
		}
	}
	return nil, classify(ctx, failed)
}

func (c *Client) dialOne(ctx context.Context, ip netip.AddrPort, left int) (net.Conn, error) {
	if deadline, ok := ctx.Deadline(); ok && left > 1 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Until(deadline)/time.Duration(left))
		defer cancel()
	}
	if c.options.Proxy != nil {
		return c.dialProxy(ctx, ip)
	}
	// Judged once more where nothing can come between: the address that the kernel is about to connect to.
	dialer := net.Dialer{KeepAlive: 30 * time.Second, Control: func(_, address string, _ syscall.RawConn) error {
		final, err := netip.ParseAddrPort(address)
		if err != nil || !c.guard.allows(final.Addr()) {
			return ErrAddressRefused
		}
		return nil
	}}
	return dialer.DialContext(ctx, "tcp", ip.String())
}

// dialProxy opens a tunnel to the judged address. The proxy's own address is the operator's choice and not judged.
func (c *Client) dialProxy(ctx context.Context, ip netip.AddrPort) (net.Conn, error) {
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "tcp", c.options.Proxy.Host)
	if err != nil {
		return nil, proxyFailed(ctx, err)
	}
	if c.options.Proxy.Scheme == "https" {
		secure := tls.Client(conn, &tls.Config{MinVersion: tls.VersionTLS12, ServerName: c.options.Proxy.Hostname()})
		if err := secure.HandshakeContext(ctx); err != nil {
			_ = conn.Close()
			return nil, proxyFailed(ctx, err)
		}
		conn = secure
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	err = tunnel(conn, ip.String())
	if !stop() || err != nil {
		_ = conn.Close()
		return nil, proxyFailed(ctx, err)
	}
	return conn, nil
}

// proxyFailed is what a tunnel's failure comes to. That the time was up is no fault that the proxy has admitted.
func proxyFailed(ctx context.Context, err error) *Error {
	switch {
	case ctx.Err() != nil:
		return classify(ctx, ctx.Err())
	case errors.Is(err, os.ErrDeadlineExceeded):
		return ErrTimedOut
	}
	return ErrProxy
}

func tunnel(conn net.Conn, address string) error {
	request := &http.Request{Method: http.MethodConnect, URL: &url.URL{Opaque: address}, Host: address, Header: http.Header{}}
	if err := request.Write(conn); err != nil {
		return err
	}
	// A proxy sends nothing after its answer before the client speaks, so the reader holds nothing back.
	reader := bufio.NewReaderSize(io.LimitReader(conn, maxHeaderBytes), 4096)
	answer, err := http.ReadResponse(reader, request) //nolint:bodyclose // the answer to CONNECT has no body: what follows is the tunnel
	if err != nil {
		return err
	}
	if answer.StatusCode != http.StatusOK || reader.Buffered() > 0 {
		return ErrProxy
	}
	return nil
}
