// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package egress

import (
	"context"
	"net/netip"
	"strconv"
	"strings"
)

// Resolver looks hosts up; *net.Resolver is one.
type Resolver interface {
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
}

// maxAddresses bounds how many of a host's addresses are dialled: each gets a share of the attempt's time.
const maxAddresses = 8

// resolve looks the host up once and returns the addresses that may be dialled. When none of them may, the host is
// refused.
func (c *Client) resolve(ctx context.Context, host, port string) ([]netip.AddrPort, error) {
	number, err := strconv.ParseUint(port, 10, 16)
	if err != nil || number == 0 {
		return nil, ErrURL
	}
	found, err := c.lookup(ctx, host)
	if err != nil {
		return nil, err
	}
	var allowed []netip.AddrPort
	for _, ip := range found {
		if ip = ip.Unmap(); c.guard.allows(ip) && len(allowed) < maxAddresses {
			allowed = append(allowed, netip.AddrPortFrom(ip, uint16(number)))
		}
	}
	if len(allowed) == 0 {
		return nil, ErrAddressRefused
	}
	return allowed, nil
}

func (c *Client) lookup(ctx context.Context, host string) ([]netip.Addr, error) {
	if ip, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{ip}, nil
	}
	if numeric(strings.TrimSuffix(host, ".")) {
		// 2130706433, 0x7f.1 and 0177.0.0.1 are 127.0.0.1 to some resolvers, and no host name to anybody.
		return nil, ErrAddressRefused
	}
	found, err := c.options.Resolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return nil, classify(ctx, err)
	}
	if len(found) == 0 {
		return nil, ErrHostNotFound
	}
	return found, nil
}

// numeric says whether the last label of a host is a number, as only an address's can be (WHATWG URL, "ends in a
// number").
func numeric(host string) bool {
	last := host[strings.LastIndexByte(host, '.')+1:]
	if last == "" {
		return true
	}
	if strings.Trim(last, "0123456789") == "" {
		return true
	}
	digits, ok := strings.CutPrefix(strings.ToLower(last), "0x")
	return ok && strings.Trim(digits, "0123456789abcdef") == ""
}
