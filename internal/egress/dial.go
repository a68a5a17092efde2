// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package egress

import (
	"bufio"
	"context"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"syscall"
	"time"
)

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
		return nil, ErrProxy
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	err = tunnel(conn, ip.String())
	if !stop() || err != nil {
		_ = conn.Close()
		return nil, ErrProxy
	}
	return conn, nil
}

func tunnel(conn net.Conn, address string) error {
	request := &http.Request{Method: http.MethodConnect, URL: &url.URL{Opaque: address}, Host: address, Header: http.Header{}}
	if err := request.Write(conn); err != nil {
		return err
	}
	// A proxy sends nothing after its answer before the client speaks, so the reader holds nothing back.
	reader := bufio.NewReaderSize(conn, 4096)
	answer, err := http.ReadResponse(reader, request)
	if err != nil {
		return err
	}
	if answer.StatusCode != http.StatusOK || reader.Buffered() > 0 {
		return ErrProxy
	}
	return nil
}
