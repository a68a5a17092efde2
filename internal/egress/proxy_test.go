// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package egress

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/garyclub/webhook-operator/internal/fixture/receiver"
)

// proxy is a CONNECT proxy that writes down what it was asked for.
type proxy struct {
	url *url.URL

	mu    sync.Mutex
	asked []string
}

// startProxy starts one; answer is what it says instead of connecting, or empty.
func startProxy(t *testing.T, answer string) *proxy {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	x := &proxy{url: &url.URL{Scheme: "http", Host: listener.Addr().String()}}
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go x.serve(conn, answer)
		}
	}()
	return x
}

func (x *proxy) serve(conn net.Conn, answer string) {
	defer func() { _ = conn.Close() }()
	request, err := http.ReadRequest(bufio.NewReader(conn))
	if err != nil {
		return
	}
	x.mu.Lock()
	x.asked = append(x.asked, request.Method+" "+request.RequestURI)
	x.mu.Unlock()
	if answer != "" {
		_, _ = io.WriteString(conn, answer)
		return
	}
	onward, err := new(net.Dialer).DialContext(context.Background(), "tcp", request.RequestURI)
	if err != nil {
		_, _ = io.WriteString(conn, "HTTP/1.1 502 Bad Gateway\r\n\r\n")
		return
	}
	defer func() { _ = onward.Close() }()
	_, _ = io.WriteString(conn, "HTTP/1.1 200 Connection established\r\n\r\n")
	go func() { _, _ = io.Copy(onward, conn) }()
	_, _ = io.Copy(conn, onward)
}

func (x *proxy) requests() []string {
	x.mu.Lock()
	defer x.mu.Unlock()
	return append([]string(nil), x.asked...)
}

func TestProxyIsAskedForTheJudgedAddress(t *testing.T) {
	r, p := receive(t, receiver.Options{Hosts: []string{"hooks.example"}})
	x := startProxy(t, "")
	p.URL = "https://hooks.example" + r.Addr()[strings.LastIndexByte(r.Addr(), ':'):] + "/"
	resolver := name("hooks.example", "127.0.0.1")
	c := client(t, func(o *Options) { o.ProxyURL, o.Resolver = x.url.String(), resolver })
	reply, failure := post(t, c, p, 5*time.Second)
	if failure != nil || reply.StatusCode != 200 {
		t.Fatalf("reply is %+v, %v", reply, failure)
	}
	if got := x.requests(); len(got) != 1 || got[0] != "CONNECT "+r.Addr() {
		t.Errorf("the proxy was asked for %v, want CONNECT %s", got, r.Addr())
	}
	if n := resolver.lookups(); n != 1 {
		t.Errorf("DNS was asked %d times", n)
	}
	if certificate, err := c.Inspect(t.Context(), p); err != nil || certificate.Issuer != "egress test" {
		t.Errorf("inspect through the proxy: %+v, %v", certificate, err)
	}
}

func TestGuardHoldsWithAProxy(t *testing.T) {
	x := startProxy(t, "")
	// The proxy's own address is loopback and nothing is allowed: it is exempt, receivers are not.
	c := client(t, func(o *Options) { o.Allow, o.Proxy, o.Resolver = nil, x.url, name("hooks.example", "10.0.0.1") })
	for _, u := range []string{"https://hooks.example/", "https://127.0.0.1/", "https://169.254.169.254/", "https://2130706433/"} {
		if _, failure := post(t, c, to(u), 5*time.Second); !errors.Is(failure, ErrAddressRefused) {
			t.Errorf("post to %s fails with %v, want %v", u, failure, ErrAddressRefused)
		}
	}
	if got := x.requests(); len(got) != 0 {
		t.Errorf("the proxy was asked for %v", got)
	}
}

func TestProxyThatDoesNotConnect(t *testing.T) {
	_, p := receive(t, receiver.Options{})
	for name, answer := range map[string]string{
		"refuses":         "HTTP/1.1 403 Forbidden\r\n\r\nhunter2",
		"no HTTP":         "hunter2\r\n",
		"endless headers": "HTTP/1.1 200 OK\r\n" + strings.Repeat("X-A: b\r\n", 100_000),
		"speaks first":    "HTTP/1.1 200 OK\r\n\r\nhunter2",
	} {
		c := client(t, func(o *Options) { o.Proxy = startProxy(t, answer).url })
		if _, failure := post(t, c, p, 5*time.Second); !errors.Is(failure, ErrProxy) && !errors.Is(failure, ErrHandshake) {
			t.Errorf("%s: post fails with %v, want %v", name, failure, ErrProxy)
		}
	}
	away := client(t, func(o *Options) { o.Proxy = &url.URL{Scheme: "http", Host: "127.0.0.1:1"} })
	if _, failure := post(t, away, p, 5*time.Second); !errors.Is(failure, ErrProxy) {
		t.Errorf("post by a proxy that is away fails with %v, want %v", failure, ErrProxy)
	}
}

func TestProxyThatHangsCostsTheTimeout(t *testing.T) {
	silent := hostile(t, func(conn net.Conn) { _, _ = io.Copy(io.Discard, conn) })
	_, p := receive(t, receiver.Options{})
	for _, scheme := range []string{"http://", "https://"} {
		c := client(t, func(o *Options) { o.ProxyURL = scheme + Host(silent.URL) })
		if _, failure := post(t, c, p, 200*time.Millisecond); !errors.Is(failure, ErrTimedOut) {
			t.Errorf("%s: post fails with %v, want %v", scheme, failure, ErrTimedOut)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := c.dialProxy(ctx, netip.MustParseAddrPort("127.0.0.1:1")); !errors.Is(err, ErrCanceled) {
			t.Errorf("%s: dial of one who has left fails with %v, want %v", scheme, err, ErrCanceled)
		}
	}
}

func TestEnvironmentHasNoSay(t *testing.T) {
	x := startProxy(t, "")
	for _, name := range []string{"HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "ALL_PROXY"} {
		t.Setenv(name, x.url.String())
	}
	// ProxyFromEnvironment would spare loopback, so a name that leads there.
	r, p := receive(t, receiver.Options{Hosts: []string{"hooks.example"}})
	p.URL = "https://hooks.example" + r.Addr()[strings.LastIndexByte(r.Addr(), ':'):] + "/"
	c := client(t, func(o *Options) { o.Resolver = name("hooks.example", "127.0.0.1") })
	if _, failure := post(t, c, p, 5*time.Second); failure != nil {
		t.Fatal(failure)
	}
	if got := x.requests(); len(got) != 0 {
		t.Errorf("the environment's proxy was asked for %v", got)
	}
}
