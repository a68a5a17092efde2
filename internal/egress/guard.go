// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package egress is the only way out: every outbound connection of dispatcher and manager is made here. It speaks
// https alone, resolves a host once, judges the addresses and dials exactly those, so that a second answer of the DNS
// changes nothing; it follows no redirect and reads a bounded part of an answer. Its errors are made of constant texts:
// nothing of a URL, a header or a body can be in them.
package egress

import (
	"errors"
	"net/netip"
	"net/url"

	"code.dny.dev/ssrf"
)

// Options are the operator's settings.
type Options struct {
	// Allow are ranges that may be reached although they are private or special.
	Allow []netip.Prefix
	// ProxyURL is the http or https URL of a CONNECT proxy, for receivers that know our address; empty means direct
	// connections. The proxy is asked for the address that was judged, never for a name. Proxy is the same, parsed.
	ProxyURL string
	Proxy    *url.URL
	// Resolver answers for hosts; the system's by default.
	Resolver Resolver
	// UserAgent is the value of that header.
	UserAgent string
	// IdlePerHost is how many idle connections are kept per host; as many as attempts may be in flight.
	IdlePerHost int
}

// Validate names each setting that cannot work. The proxy's URL is not quoted: it may hold a password.
func (o *Options) Validate() error {
	var errs []error
	for _, p := range o.Allow {
		if !p.IsValid() || p.Addr().Is4In6() {
			errs = append(errs, errors.New("--egress-allow: must be IPv4 or IPv6 ranges such as 10.20.0.0/16; write an IPv4 range as such"))
		}
	}
	if p, err := o.proxy(); err != nil || p != nil && !fitProxy(p) {
		errs = append(errs, errors.New("--egress-proxy: must be http://host:port or https://host:port, without user information"))
	}
	if o.IdlePerHost < 0 {
		errs = append(errs, errors.New("idle connections per host must not be negative"))
	}
	return errors.Join(errs...)
}

func (o *Options) proxy() (*url.URL, error) {
	if o.ProxyURL == "" {
		return o.Proxy, nil
	}
	return url.Parse(o.ProxyURL)
}

func fitProxy(p *url.URL) bool {
	bare := p.User == nil && (p.Path == "" || p.Path == "/") && p.RawQuery == "" && p.Fragment == "" && p.Opaque == ""
	return bare && (p.Scheme == "http" || p.Scheme == "https") && p.Hostname() != "" && p.Port() != ""
}

// Special addresses that ssrf's list of the IANA registries lets pass.
var (
	// azureWireServer is a public address that each Azure machine's host answers, credentials included.
	azureWireServer = netip.MustParsePrefix("168.63.129.16/32")
	// The ranges whose addresses lead to the IPv4 address within them.
	nat64      = netip.MustParsePrefix("64:ff9b::/96")
	localNAT64 = netip.MustParsePrefix("64:ff9b:1::/48")
	sixToFour  = netip.MustParsePrefix("2002::/16")
)

// guard judges addresses.
type guard struct {
	list *ssrf.Guardian
	v6   []netip.Prefix // that the operator allows
}

func newGuard(allow []netip.Prefix) guard {
	var v4, v6 []netip.Prefix
	for _, p := range allow {
		if p.Addr().Is4() {
			v4 = append(v4, p)
		} else {
			v6 = append(v6, p)
		}
	}
	list := ssrf.New(ssrf.WithAnyPort(), ssrf.WithAllowedV4Prefixes(v4...), ssrf.WithAllowedV6Prefixes(v6...),
		ssrf.WithDeniedV4Prefixes(azureWireServer))
	return guard{list: list, v6: v6}
}

// allows judges one address. An IPv4 address in IPv6 form is judged as what it is; every other form that embeds one
// (NAT64, 6to4, Teredo) lies in a refused range. Where the operator allows NAT64, as clusters with IPv6 alone must, or
// 6to4, the IPv4 address behind it is judged too.
func (g guard) allows(ip netip.Addr) bool {
	ip = ip.Unmap()
	if !ip.IsValid() || ip.Zone() != "" || g.list.SafeAddr(ip) != nil {
		return false
	}
	b := ip.As16()
	switch {
	case nat64.Contains(ip):
		return g.allows4(b[12:])
	case localNAT64.Contains(ip):
		return g.allowsBehindLocal(ip)
	case sixToFour.Contains(ip):
		return g.allows4(b[2:6])
	}
	return true
}

func (g guard) allows4(b []byte) bool { return g.list.SafeAddr(netip.AddrFrom4([4]byte(b))) == nil }

// allowsBehindLocal judges what is behind a translator of the operator's own. Where in the address that stands depends on
// the length of the translator's prefix (RFC 6052, section 2.2), so the range that the operator allows must be that
// prefix, or a part of it; behind one of another length nothing can be judged.
func (g guard) allowsBehindLocal(ip netip.Addr) bool {
	length := 0
	for _, p := range g.v6 {
		if p.Contains(ip) {
			length = max(length, p.Bits())
		}
	}
	b := ip.As16()
	switch {
	case length >= 96:
		return g.allows4(b[12:])
	case length == 64:
		return g.allows4(b[9:13])
	case length == 56:
		return g.allows4([]byte{b[7], b[9], b[10], b[11]})
	case length == 48:
		return g.allows4([]byte{b[6], b[7], b[9], b[10]})
	}
	return false
}
