// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package egress is the only way out: every outbound connection of dispatcher and manager is made here. It speaks
// https alone, resolves a host once, judges the addresses and dials exactly those, so that a second answer of the DNS
// changes nothing; it follows no redirect and reads a bounded part of an answer. Its errors are made of constant texts:
// nothing of a URL, a header or a body can be in them.
package egress

import (
	"fmt"
	"net/netip"
	"net/url"

	"code.dny.dev/ssrf"
)

// Options are the operator's settings.
type Options struct {
	// Allow are ranges that may be reached although they are private or special.
	Allow []netip.Prefix
	// Proxy is the http URL of a CONNECT proxy, for receivers that know our address; nil means direct connections. The
	// proxy is asked for the address that was judged, never for a name.
	Proxy *url.URL
	// Resolver answers for hosts; the system's by default.
	Resolver Resolver
	// UserAgent is the value of that header.
	UserAgent string
	// IdlePerHost is how many idle connections are kept per host; as many as attempts may be in flight.
	IdlePerHost int
}

// Validate names the setting that cannot work.
func (o *Options) Validate() error {
	if o.Proxy != nil && (o.Proxy.Scheme != "http" || o.Proxy.Host == "" || o.Proxy.Port() == "") {
		return fmt.Errorf("--egress-proxy: must be http://host:port")
	}
	return nil
}

// guard judges addresses.
type guard struct{ list *ssrf.Guardian }

func newGuard(allow []netip.Prefix) guard {
	var v4, v6 []netip.Prefix
	for _, p := range allow {
		if p.Addr().Is4() {
			v4 = append(v4, p)
		} else {
			v6 = append(v6, p)
		}
	}
	return guard{ssrf.New(ssrf.WithAnyPort(), ssrf.WithAllowedV4Prefixes(v4...), ssrf.WithAllowedV6Prefixes(v6...))}
}

// allows judges one address. An IPv4 address in IPv6 form is judged as what it is; every other form that embeds one
// (NAT64, 6to4, Teredo) lies in a refused range.
func (g guard) allows(ip netip.Addr) bool {
	return ip.IsValid() && ip.Zone() == "" && g.list.SafeAddr(ip.Unmap()) == nil
}
