// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package egress

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// names is a resolver that counts and forgets nothing. Each answer of a name is given once, the last one for ever.
type names struct {
	mu      sync.Mutex
	answers map[string][][]string
	asked   []string
}

func (n *names) LookupNetIP(_ context.Context, _, host string) ([]netip.Addr, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.asked = append(n.asked, host)
	answers, ok := n.answers[host]
	if !ok {
		return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
	}
	if len(answers) > 1 {
		n.answers[host] = answers[1:]
	}
	found := make([]netip.Addr, len(answers[0]))
	for i, ip := range answers[0] {
		found[i] = netip.MustParseAddr(ip)
	}
	return found, nil
}

func (n *names) lookups() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return len(n.asked)
}

func name(host string, ips ...string) *names {
	return &names{answers: map[string][][]string{host: {ips}}}
}

func TestResolve(t *testing.T) {
	for title, tc := range map[string]struct {
		host, port string
		resolver   *names
		want       []string
		wantErr    error
		wantAsked  []string
	}{
		"public name":             {host: "a.example", port: "443", resolver: name("a.example", "8.8.8.8"), want: []string{"8.8.8.8:443"}, wantAsked: []string{"a.example"}},
		"any port":                {host: "a.example", port: "8443", resolver: name("a.example", "8.8.8.8"), want: []string{"8.8.8.8:8443"}, wantAsked: []string{"a.example"}},
		"public address":          {host: "8.8.8.8", port: "443", want: []string{"8.8.8.8:443"}},
		"public IPv6 address":     {host: "2606:4700::1", port: "443", want: []string{"[2606:4700::1]:443"}},
		"private address":         {host: "10.0.0.1", port: "443", wantErr: ErrAddressRefused},
		"mapped private address":  {host: "::ffff:10.0.0.1", port: "443", wantErr: ErrAddressRefused},
		"address with a zone":     {host: "fe80::1%eth0", port: "443", wantErr: ErrAddressRefused},
		"name of a private one":   {host: "a.example", port: "443", resolver: name("a.example", "10.0.0.1", "169.254.169.254"), wantErr: ErrAddressRefused, wantAsked: []string{"a.example"}},
		"one of each":             {host: "a.example", port: "443", resolver: name("a.example", "10.0.0.1", "8.8.4.4"), want: []string{"8.8.4.4:443"}, wantAsked: []string{"a.example"}},
		"mapped answer":           {host: "a.example", port: "443", resolver: name("a.example", "::ffff:8.8.4.4"), want: []string{"8.8.4.4:443"}, wantAsked: []string{"a.example"}},
		"rooted name":             {host: "a.example.", port: "443", resolver: name("a.example.", "8.8.8.8"), want: []string{"8.8.8.8:443"}, wantAsked: []string{"a.example."}},
		"unknown name":            {host: "b.example", port: "443", resolver: name("a.example"), wantErr: ErrHostNotFound, wantAsked: []string{"b.example"}},
		"name without addresses":  {host: "a.example", port: "443", resolver: name("a.example"), wantErr: ErrHostNotFound, wantAsked: []string{"a.example"}},
		"decimal number":          {host: "2130706433", port: "443", wantErr: ErrAddressRefused},
		"hexadecimal number":      {host: "0x7f000001", port: "443", wantErr: ErrAddressRefused},
		"hexadecimal, upper case": {host: "0X7F.0.0.1", port: "443", wantErr: ErrAddressRefused},
		"octal number":            {host: "0177.0.0.1", port: "443", wantErr: ErrAddressRefused},
		"octal, single number":    {host: "017700000001", port: "443", wantErr: ErrAddressRefused},
		"short form":              {host: "127.1", port: "443", wantErr: ErrAddressRefused},
		"mixed form":              {host: "0x7f.1", port: "443", wantErr: ErrAddressRefused},
		"bare 0x":                 {host: "127.0.0.0x", port: "443", wantErr: ErrAddressRefused},
		"zero":                    {host: "0", port: "443", wantErr: ErrAddressRefused},
		"rooted address":          {host: "127.0.0.1.", port: "443", wantErr: ErrAddressRefused},
		"number behind a name":    {host: "a.example.1", port: "443", wantErr: ErrAddressRefused},
		"two dots at the end":     {host: "127.0.0.1..", port: "443", wantErr: ErrAddressRefused},
		"only a dot":              {host: ".", port: "443", wantErr: ErrAddressRefused},
		"name that begins as one": {host: "0x7f.example", port: "443", resolver: name("0x7f.example", "8.8.8.8"), want: []string{"8.8.8.8:443"}, wantAsked: []string{"0x7f.example"}},
		"port 0":                  {host: "8.8.8.8", port: "0", wantErr: ErrURL},
		"port out of range":       {host: "8.8.8.8", port: "65536", wantErr: ErrURL},
	} {
		t.Run(title, func(t *testing.T) {
			if tc.resolver == nil {
				tc.resolver = &names{}
			}
			found, err := New(Options{Resolver: tc.resolver}).resolve(t.Context(), tc.host, tc.port)
			if !errors.Is(err, tc.wantErr) {
				t.Errorf("error is %v, want %v", err, tc.wantErr)
			}
			wantAddresses(t, found, tc.want)
			if diff := cmp.Diff(tc.wantAsked, tc.resolver.asked); diff != "" {
				t.Errorf("names asked for differ (-want +got):\n%s", diff)
			}
		})
	}
}

func TestResolveBoundsAddresses(t *testing.T) {
	many := make([]string, 200)
	for i := range many {
		many[i] = "8.8.8.8"
	}
	found, err := New(Options{Resolver: name("a.example", many...)}).resolve(t.Context(), "a.example", "443")
	if err != nil || len(found) != maxAddresses {
		t.Errorf("%d addresses and %v, want %d", len(found), err, maxAddresses)
	}
}

func wantAddresses(t *testing.T, found []netip.AddrPort, want []string) {
	t.Helper()
	var got []string
	for _, ip := range found {
		got = append(got, ip.String())
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("addresses differ (-want +got):\n%s", diff)
	}
}
