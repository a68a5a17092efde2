// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package egress

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strings"
	"sync"
	"time"
	"unicode"

	"github.com/garyclub/webhook-operator/internal/delivery"
	"github.com/garyclub/webhook-operator/internal/endpoint"
)

// Bounds on what a receiver can make us read.
const (
	maxBodyBytes   = 16 << 10
	maxHeaderBytes = 64 << 10
	max1xx         = 8
	idleTimeout    = 90 * time.Second
	maxTransports  = 1024
	maxIdle        = 1024 // connections of one transport; each costs some 40 KiB
	// An HTTP/2 connection that went silent is found out by a ping; until then all attempts to the host would use it.
	pingAfter   = 15 * time.Second
	pingTimeout = 5 * time.Second
	// One that takes nothing any more holds up all who write to it, beyond their deadlines too.
	writeTimeout = 5 * time.Second
	// streamBytes is how much of an HTTP/2 answer may be on its way, and in memory, before it is read.
	streamBytes = 64 << 10
)

// Client posts to endpoints. It is safe for concurrent use.
type Client struct {
	options Options
	guard   guard

	mu         sync.Mutex
	transports map[string]*http.Transport // by TLS identity
}

// New returns a client; the options must be valid.
func New(o Options) *Client {
	if o.Resolver == nil {
		o.Resolver = net.DefaultResolver
	}
	if o.IdlePerHost == 0 {
		o.IdlePerHost = 256
	}
	o.Proxy, _ = o.proxy() // Validate has seen the error
	return &Client{options: o, guard: newGuard(o.Allow), transports: map[string]*http.Transport{}}
}

// Post sends one request and reads its answer to the end or to the cap. The context's deadline covers all of it, the
// body included.
func (c *Client) Post(ctx context.Context, p *endpoint.Endpoint, header http.Header, body []byte) (delivery.Reply, *Error) {
	target, err := parse(p.URL)
	if err != nil {
		return delivery.Reply{}, classify(ctx, err)
	}
	transport, err := c.transport(p)
	if err != nil {
		return delivery.Reply{}, classify(ctx, err)
	}
	once := &once{body: body}
	ctx = httptrace.WithClientTrace(withDeadline(ctx), once.trace())
	request := (&http.Request{Method: http.MethodPost, URL: target, Header: header, Host: target.Host,
		ContentLength: int64(len(body)), Body: io.NopCloser(bytes.NewReader(body)), Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		GetBody: once.again}).WithContext(ctx)
	header.Set("User-Agent", c.options.UserAgent)
	notReplayable(header)
	// The transport itself, and no http.Client: there is nothing that could follow a redirect.
	response, err := transport.RoundTrip(request)
	if err != nil {
		return delivery.Reply{}, classify(ctx, err)
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode < http.StatusOK {
		// 101, which nobody asked for. Its body is the connection itself, which no deadline of ours ends any more.
		return delivery.Reply{}, ErrAnswer
	}
	// Read to the end so that the connection can be used again; beyond the cap it is closed instead.
	if _, err := io.Copy(io.Discard, io.LimitReader(response.Body, maxBodyBytes)); err != nil {
		return delivery.Reply{}, classify(ctx, err)
	}
	return delivery.Reply{StatusCode: response.StatusCode, RetryAfter: response.Header.Get("Retry-After")}, nil
}

// Close drops all idle connections.
func (c *Client) Close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, t := range c.transports {
		t.CloseIdleConnections()
	}
}

func parse(text string) (*url.URL, error) {
	target, err := url.Parse(text)
	if err != nil || target.Scheme != "https" || target.Hostname() == "" || target.User != nil || target.Opaque != "" {
		return nil, ErrURL
	}
	if strings.ContainsFunc(target.Host, func(r rune) bool { return r > unicode.MaxASCII }) {
		return nil, ErrURL // net/http would turn it into another name than the one that Inspect judges
	}
	target.Fragment, target.RawFragment = "", ""
	return target, nil
}

// Host is the host of a URL, with its port when it has one; all of a URL that may be shown.
func Host(text string) string {
	target, err := parse(text)
	if err != nil {
		return ""
	}
	return target.Host
}
