// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package egress

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/garyclub/webhook-operator/internal/delivery"
	"github.com/garyclub/webhook-operator/internal/endpoint"
	"github.com/garyclub/webhook-operator/internal/fixture/pki"
	"github.com/garyclub/webhook-operator/internal/fixture/receiver"
)

var ca = pki.NewCA("egress test")

// receive starts a receiver and returns an endpoint that leads to it.
func receive(t *testing.T, o receiver.Options) (*receiver.Receiver, *endpoint.Endpoint) {
	t.Helper()
	r, err := receiver.Start(ca, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	return r, to(r.URL("/hook"))
}

func to(url string) *endpoint.Endpoint {
	return &endpoint.Endpoint{URL: url, TLS: endpoint.TLS{CABundle: ca.PEM()}}
}

// client may reach the test's own machine.
func client(t *testing.T, change ...func(*Options)) *Client {
	t.Helper()
	o := Options{Allow: prefixes("127.0.0.0/8"), UserAgent: "test"}
	for _, c := range change {
		c(&o)
	}
	c := New(o)
	t.Cleanup(c.Close)
	return c
}

func post(t *testing.T, c *Client, p *endpoint.Endpoint, timeout time.Duration) (delivery.Reply, *Error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	return c.Post(ctx, p, http.Header{"Webhook-Id": {"evt_1"}}, []byte(`{"a":1}`))
}

func TestPost(t *testing.T) {
	r, p := receive(t, receiver.Options{Script: []receiver.Step{{Status: 429, Header: http.Header{"Retry-After": {"7"}}}}})
	reply, failure := post(t, client(t), p, 5*time.Second)
	if failure != nil {
		t.Fatal(failure)
	}
	if reply.StatusCode != 429 || reply.RetryAfter != "7" {
		t.Errorf("reply is %+v", reply)
	}
	got := r.Requests()[0]
	if got.Method != http.MethodPost || got.Path != "/hook" || string(got.Body) != `{"a":1}` {
		t.Errorf("received %s %s %s", got.Method, got.Path, got.Body)
	}
	if got.Header.Get("User-Agent") != "test" || got.Header.Get("Webhook-Id") != "evt_1" || got.Header.Get("Accept-Encoding") != "" {
		t.Errorf("received headers %v", got.Header)
	}
}

func TestRedirectsAreNotFollowed(t *testing.T) {
	for _, code := range []int{301, 302, 303, 307, 308} {
		target, _ := receive(t, receiver.Options{})
		_, p := receive(t, receiver.Options{Script: []receiver.Step{{Status: code, Header: http.Header{"Location": {target.URL("/")}}}}})
		reply, failure := post(t, client(t), p, 5*time.Second)
		if failure != nil || reply.StatusCode != code {
			t.Errorf("%d: reply is %+v, %v", code, reply, failure)
		}
		if n := target.Connections(); n != 0 {
			t.Errorf("%d: the redirect's target saw %d connections", code, n)
		}
	}
}

func TestConnectionsAreReused(t *testing.T) {
	for _, protocol := range []string{"HTTP/1.1", "HTTP/2.0"} {
		t.Run(protocol, func(t *testing.T) {
			var opened, wrong atomic.Int64
			server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.Proto != protocol {
					wrong.Add(1)
				}
				_, _ = w.Write([]byte("thank you"))
			}))
			server.EnableHTTP2 = protocol == "HTTP/2.0"
			server.TLS = &tls.Config{Certificates: []tls.Certificate{ca.Leaf([]string{"127.0.0.1"})}}
			server.Config.ConnState = func(_ net.Conn, s http.ConnState) {
				if s == http.StateNew {
					opened.Add(1)
				}
			}
			server.StartTLS()
			defer server.Close()
			c, p := client(t), to(server.URL)
			for range 200 {
				if _, failure := post(t, c, p, 5*time.Second); failure != nil {
					t.Fatal(failure)
				}
			}
			if n := opened.Load(); n != 1 {
				t.Errorf("200 requests one after the other opened %d connections", n)
			}
			for range 3 {
				crowd(t, c, p)
			}
			// More than the workers: a request may take a connection that has come free and leave its own, which is being
			// opened, to others. Few against 3840 requests in any case.
			if n := opened.Load(); n > 3*workers {
				t.Errorf("%d requests at a time opened %d connections", workers, n)
			}
			if n := wrong.Load(); n != 0 {
				t.Errorf("%d requests did not come by %s", n, protocol)
			}
		})
	}
}

const workers = 64

// crowd posts 20 times from each of the workers.
func crowd(t *testing.T, c *Client, p *endpoint.Endpoint) {
	t.Helper()
	var all sync.WaitGroup
	for range workers {
		all.Go(func() {
			for range 20 {
				if _, failure := post(t, c, p, 20*time.Second); failure != nil {
					t.Error(failure)
				}
			}
		})
	}
	all.Wait()
}

func TestURLsThatAreRefused(t *testing.T) {
	r, _ := receive(t, receiver.Options{})
	c := client(t)
	for url, want := range map[string]*Error{
		"http://" + r.Addr() + "/":               ErrURL,
		"ftp://" + r.Addr() + "/":                ErrURL,
		"//" + r.Addr() + "/":                    ErrURL,
		"https://user:hunter2@" + r.Addr():       ErrURL,
		"https:/hook":                            ErrURL,
		"https:opaque":                           ErrURL,
		"https://":                               ErrURL,
		"https://127.0.0.1:99999/":               ErrURL,
		"https://127.0.0.1:0/":                   ErrURL,
		"https://a b/":                           ErrURL,
		"":                                       ErrURL,
		"https://bücher.example/":                ErrURL,
		"https://１２７.0.0.1/":                     ErrURL,
		"https://2130706433/":                    ErrAddressRefused,
		"https://[::1]/":                         ErrAddressRefused,
		"https://[::ffff:169.254.169.254]/":      ErrAddressRefused,
		"https://169.254.169.254/latest/hunter2": ErrAddressRefused,
	} {
		_, failure := post(t, c, to(url), 5*time.Second)
		if !errors.Is(failure, want) {
			t.Errorf("post to %q fails with %v, want %v", url, failure, want)
		}
		if _, err := c.Inspect(t.Context(), to(url)); !errors.Is(err, want) {
			t.Errorf("inspect of %q fails with %v, want %v", url, err, want)
		}
	}
	if n := r.Connections(); n != 0 {
		t.Errorf("the receiver saw %d connections", n)
	}
}

func TestSecondAnswerOfDNSChangesNothing(t *testing.T) {
	r, p := receive(t, receiver.Options{Hosts: []string{"rebind.example"}})
	port := r.Addr()[strings.LastIndexByte(r.Addr(), ':'):]
	p.URL = "https://rebind.example" + port + "/"
	resolver := &names{answers: map[string][][]string{"rebind.example": {{"8.8.8.8"}, {"127.0.0.1"}}}}
	c := client(t, func(o *Options) { o.Allow, o.Resolver = nil, resolver })
	// 8.8.8.8 is where the first answer leads; nothing listens there on this port, and no second answer is asked for.
	if _, failure := post(t, c, p, 300*time.Millisecond); failure == nil {
		t.Error("the post went through")
	}
	if n := resolver.lookups(); n != 1 {
		t.Errorf("one dial asked DNS %d times", n)
	}
	// The next attempt gets the private answer and is refused.
	if _, failure := post(t, c, p, 5*time.Second); !errors.Is(failure, ErrAddressRefused) {
		t.Errorf("post after the rebinding fails with %v, want %v", failure, ErrAddressRefused)
	}
	if n := r.Connections(); n != 0 {
		t.Errorf("the receiver saw %d connections", n)
	}
}

func TestControlJudgesTheDialledAddressOnceMore(t *testing.T) {
	r, _ := receive(t, receiver.Options{})
	c := client(t, func(o *Options) { o.Allow = nil })
	if _, err := c.dialOne(t.Context(), netip.MustParseAddrPort(r.Addr()), 1); !errors.Is(err, ErrAddressRefused) {
		t.Errorf("dial of a private address fails with %v, want %v", err, ErrAddressRefused)
	}
	if n := r.Connections(); n != 0 {
		t.Errorf("the receiver saw %d connections", n)
	}
}

func TestDeadAddressLeavesTimeForTheNext(t *testing.T) {
	r, p := receive(t, receiver.Options{Hosts: []string{"two.example"}})
	port := r.Addr()[strings.LastIndexByte(r.Addr(), ':'):]
	p.URL = "https://two.example" + port + "/"
	// Nothing listens on 127.9.9.9.
	c := client(t, func(o *Options) { o.Resolver = name("two.example", "127.9.9.9", "127.0.0.1") })
	if reply, failure := post(t, c, p, 5*time.Second); failure != nil || reply.StatusCode != 200 {
		t.Errorf("reply is %+v, %v", reply, failure)
	}
}

func TestTransportsAreBounded(t *testing.T) {
	c := client(t)
	for i := range 2 * maxTransports {
		if _, err := c.transport(&endpoint.Endpoint{TLS: endpoint.TLS{ServerName: strings.Repeat("a", i+1)}}); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(c.transports); n > maxTransports {
		t.Errorf("%d transports are kept, want at most %d", n, maxTransports)
	}
	a, _ := c.transport(to("https://a.example"))
	b, _ := c.transport(to("https://b.example"))
	if a != b {
		t.Error("two endpoints of one TLS identity have two transports")
	}
}
