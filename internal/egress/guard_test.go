// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package egress

import (
	"net/netip"
	"net/url"
	"strings"
	"testing"
)

func prefixes(all ...string) []netip.Prefix {
	parsed := make([]netip.Prefix, len(all))
	for i, p := range all {
		parsed[i] = netip.MustParsePrefix(p)
	}
	return parsed
}

func TestGuardByDefault(t *testing.T) {
	for ip, want := range map[string]bool{
		// The internet.
		"1.1.1.1": true, "8.8.8.8": true, "93.184.216.34": true, "172.15.255.255": true, "172.32.0.1": true,
		"100.63.255.255": true, "100.128.0.1": true, "192.167.255.255": true, "169.253.255.255": true, "223.255.255.255": true,
		"2606:4700:4700::1111": true, "2a00:1450:4001::1": true, "::ffff:8.8.8.8": true,
		// This host and this network.
		"0.0.0.0": false, "0.1.2.3": false, "127.0.0.1": false, "127.255.255.254": false, "::": false, "::1": false,
		// Private.
		"10.0.0.1": false, "10.255.255.255": false, "172.16.0.1": false, "172.31.255.255": false, "192.168.0.1": false,
		"192.168.255.255": false, "fc00::1": false, "fd12:3456:789a::1": false, "fec0::1": false,
		// Link-local, and the clouds' metadata.
		"169.254.0.1": false, "169.254.169.254": false, "169.254.170.2": false, "fe80::1": false, "fe80::1%eth0": false,
		"fd00:ec2::254": false, "100.100.100.200": false, "192.0.0.192": false, "168.63.129.16": false,
		// Carrier-grade NAT.
		"100.64.0.1": false, "100.127.255.255": false,
		// IPv4 within IPv6: mapped, compatible, NAT64, 6to4, Teredo.
		"::ffff:127.0.0.1": false, "::ffff:10.0.0.1": false, "::ffff:169.254.169.254": false, "::ffff:a9fe:a9fe": false,
		"::127.0.0.1": false, "64:ff9b::7f00:1": false, "64:ff9b::a9fe:a9fe": false, "64:ff9b::808:808": false,
		"64:ff9b:1::1": false, "2002:7f00:1::": false, "2002:a9fe:a9fe::1": false, "2002:808:808::1": false,
		"2001::1": false, "2001:0:4136:e378:8000:63bf:3fff:fdd2": false,
		// Documentation, benchmarks, multicast, reserved.
		"192.0.2.1": false, "198.51.100.1": false, "203.0.113.1": false, "198.18.0.1": false, "198.19.255.255": false,
		"192.88.99.1": false, "224.0.0.1": false, "239.255.255.255": false, "240.0.0.1": false, "255.255.255.255": false,
		"2001:db8::1": false, "3fff::1": false, "ff02::1": false, "100::1": false, "5f00::1": false,
	} {
		if got := newGuard(nil).allows(netip.MustParseAddr(ip)); got != want {
			t.Errorf("%s is allowed: %v, want %v", ip, got, want)
		}
	}
	if newGuard(nil).allows(netip.Addr{}) {
		t.Error("no address at all is allowed")
	}
}

func TestGuardAllowsWhatTheOperatorNames(t *testing.T) {
	g := newGuard(prefixes("10.20.0.0/16", "127.0.0.0/8", "fd00:1::/32", "64:ff9b::/96"))
	for ip, want := range map[string]bool{
		"10.20.0.1": true, "::ffff:10.20.0.1": true, "127.0.0.1": true, "fd00:1::5": true, "8.8.8.8": true,
		"10.21.0.1": false, "192.168.0.1": false, "169.254.169.254": false, "::1": false, "fd00:2::5": false,
		// Behind NAT64 the same list holds.
		"64:ff9b::808:808": true, "64:ff9b::a14:1": true, "64:ff9b::a15:1": false, "64:ff9b::a9fe:a9fe": false,
	} {
		if got := g.allows(netip.MustParseAddr(ip)); got != want {
			t.Errorf("%s is allowed: %v, want %v", ip, got, want)
		}
	}
}

func TestValidateOptions(t *testing.T) {
	proxy := func(text string) *url.URL {
		u, err := url.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		return u
	}
	for name, tc := range map[string]struct {
		options Options
		want    string
	}{
		"defaults":                  {},
		"http proxy":                {options: Options{Proxy: proxy("http://proxy.example:3128")}},
		"https proxy":               {options: Options{Proxy: proxy("https://10.0.0.1:3128/")}},
		"proxy without a port":      {options: Options{Proxy: proxy("http://proxy.example")}, want: "--egress-proxy"},
		"socks proxy":               {options: Options{Proxy: proxy("socks5://proxy.example:1080")}, want: "--egress-proxy"},
		"proxy with a password":     {options: Options{Proxy: proxy("http://u:hunter2@proxy.example:3128")}, want: "--egress-proxy"},
		"proxy with a path":         {options: Options{Proxy: proxy("http://proxy.example:3128/x")}, want: "--egress-proxy"},
		"proxy as text":             {options: Options{ProxyURL: "http://proxy.example:3128"}},
		"text that is no URL":       {options: Options{ProxyURL: "http://u:hunter2@proxy.example:3128/%zz"}, want: "--egress-proxy"},
		"text without a scheme":     {options: Options{ProxyURL: "proxy.example:3128"}, want: "--egress-proxy"},
		"password in the text":      {options: Options{ProxyURL: "http://u:hunter2@proxy.example:3128"}, want: "--egress-proxy"},
		"ranges":                    {options: Options{Allow: prefixes("10.0.0.0/8", "fd00::/8")}},
		"IPv4 range in IPv6 form":   {options: Options{Allow: prefixes("::ffff:10.0.0.0/104")}, want: "--egress-allow"},
		"range that is none":        {options: Options{Allow: []netip.Prefix{{}}}, want: "--egress-allow"},
		"negative idle connections": {options: Options{IdlePerHost: -1}, want: "idle"},
	} {
		t.Run(name, func(t *testing.T) {
			err := tc.options.Validate()
			switch {
			case tc.want == "" && err != nil:
				t.Errorf("refused: %v", err)
			case tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)):
				t.Errorf("error is %v, want one about %s", err, tc.want)
			case err != nil && strings.Contains(err.Error(), "hunter2"):
				t.Error("the error shows the password")
			}
		})
	}
}
