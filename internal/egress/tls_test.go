// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package egress

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/garyclub/webhook-operator/internal/delivery"
	"github.com/garyclub/webhook-operator/internal/endpoint"
	"github.com/garyclub/webhook-operator/internal/fixture/pki"
	"github.com/garyclub/webhook-operator/internal/fixture/receiver"
)

func TestCertificates(t *testing.T) {
	expired := ca.Leaf([]string{"127.0.0.1"}, pki.WithNotAfter(time.Now().Add(-time.Minute)))
	foreign := pki.NewCA("another authority").Leaf([]string{"127.0.0.1"})
	good := ca.Leaf([]string{"127.0.0.1", "hooks.example"})
	cert, key := pki.EncodeLeaf(ca.Leaf([]string{"sender"}))
	for name, tc := range map[string]struct {
		options receiver.Options
		tls     endpoint.TLS
		want    *Error
	}{
		"good":                          {options: receiver.Options{Certificate: &good}, tls: endpoint.TLS{CABundle: ca.PEM()}},
		"good by another name":          {options: receiver.Options{Certificate: &good}, tls: endpoint.TLS{CABundle: ca.PEM(), ServerName: "hooks.example"}},
		"not of the asked name":         {options: receiver.Options{Certificate: &good}, tls: endpoint.TLS{CABundle: ca.PEM(), ServerName: "other.example"}, want: ErrWrongName},
		"for another host":              {options: receiver.Options{Hosts: []string{"hooks.example"}}, tls: endpoint.TLS{CABundle: ca.PEM()}, want: ErrWrongName},
		"expired":                       {options: receiver.Options{Certificate: &expired}, tls: endpoint.TLS{CABundle: ca.PEM()}, want: ErrExpired},
		"of another authority":          {options: receiver.Options{Certificate: &foreign}, tls: endpoint.TLS{CABundle: ca.PEM()}, want: ErrUntrusted},
		"unknown to the system":         {options: receiver.Options{Certificate: &good}, want: ErrUntrusted},
		"client certificate":            {options: receiver.Options{ClientCAs: ca.Pool()}, tls: endpoint.TLS{CABundle: ca.PEM(), ClientCert: cert, ClientKey: key}},
		"bundle that is none":           {tls: endpoint.TLS{CABundle: []byte("hunter2")}, want: ErrTLSMaterial},
		"client certificate, no key":    {tls: endpoint.TLS{ClientCert: cert}, want: ErrTLSMaterial},
		"client certificate that isn't": {tls: endpoint.TLS{ClientCert: []byte("hunter2"), ClientKey: key}, want: ErrTLSMaterial},
	} {
		t.Run(name, func(t *testing.T) {
			r, p := receive(t, tc.options)
			p.TLS = tc.tls
			_, failure := post(t, client(t), p, 5*time.Second)
			if !errors.Is(asError(failure), asError(tc.want)) {
				t.Errorf("post fails with %v, want %v", failure, tc.want)
			}
			if n := r.Count(); (n > 0) != (tc.want == nil) {
				t.Errorf("the receiver had %d requests", n)
			}
			if _, err := client(t).Inspect(t.Context(), p); !errors.Is(err, asError(tc.want)) {
				t.Errorf("inspect fails with %v, want %v", err, tc.want)
			}
		})
	}
}

// asError keeps a nil *Error from becoming an error that is not nil.
func asError(e *Error) error {
	if e == nil {
		return nil
	}
	return e
}

func TestReceiverThatAsksForAClientCertificate(t *testing.T) {
	_, p := receive(t, receiver.Options{ClientCAs: ca.Pool()})
	if reply, failure := post(t, client(t), p, 5*time.Second); failure == nil {
		t.Errorf("reply is %+v, want a failure", reply)
	}
}

func TestOldTLSIsRefused(t *testing.T) {
	config := &tls.Config{Certificates: []tls.Certificate{ca.Leaf([]string{"127.0.0.1"})}, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}
	p := hostile(t, func(conn net.Conn) { _ = tls.Server(conn, config).HandshakeContext(t.Context()) })
	if _, failure := post(t, client(t), p, 5*time.Second); !errors.Is(failure, ErrHandshake) {
		t.Errorf("post fails with %v, want %v", failure, ErrHandshake)
	}
	plain := hostile(t, func(conn net.Conn) { _, _ = io.WriteString(conn, "HTTP/1.1 400 Bad Request\r\n\r\n") })
	if _, failure := post(t, client(t), plain, 5*time.Second); !errors.Is(failure, ErrHandshake) {
		t.Errorf("post to a port without TLS fails with %v, want %v", failure, ErrHandshake)
	}
}

func TestInspect(t *testing.T) {
	end := time.Now().Add(30 * 24 * time.Hour)
	leaf := ca.Leaf([]string{"127.0.0.1"}, pki.WithNotAfter(end))
	r, p := receive(t, receiver.Options{Certificate: &leaf})
	got, err := client(t).Inspect(t.Context(), p)
	if err != nil {
		t.Fatal(err)
	}
	if got.Issuer != "egress test" || got.NotAfter.Sub(end).Abs() > time.Second {
		t.Errorf("certificate is %+v", got)
	}
	if n := r.Count(); n != 0 {
		t.Errorf("inspect sent %d requests", n)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	hanging := hostile(t, func(conn net.Conn) { _, _ = io.Copy(io.Discard, conn) })
	if _, err := client(t).Inspect(ctx, hanging); !errors.Is(err, ErrTimedOut) {
		t.Errorf("inspect of one that hangs fails with %v, want %v", err, ErrTimedOut)
	}
}

func TestRefusedConnectionAndUnknownHost(t *testing.T) {
	r, p := receive(t, receiver.Options{})
	r.Close()
	if _, failure := post(t, client(t), p, 5*time.Second); !errors.Is(failure, ErrRefused) {
		t.Errorf("post fails with %v, want %v", failure, ErrRefused)
	}
	c := client(t, func(o *Options) { o.Resolver = &names{} })
	if _, failure := post(t, c, to("https://a.example/"), 5*time.Second); !errors.Is(failure, ErrHostNotFound) {
		t.Errorf("post fails with %v, want %v", failure, ErrHostNotFound)
	}
}

func TestClassify(t *testing.T) {
	canceled, cancel := context.WithCancel(context.Background())
	cancel()
	dial := func(err error) error { return &net.OpError{Op: "dial", Net: "tcp", Err: err} }
	for name, tc := range map[string]struct {
		ctx  context.Context
		err  error
		want *Error
	}{
		"known":                {err: fmt.Errorf("wrapped: %w", ErrAddressRefused), want: ErrAddressRefused},
		"interrupted":          {ctx: canceled, err: dial(syscall.ECONNRESET), want: ErrCanceled},
		"deadline":             {err: dial(os.ErrDeadlineExceeded), want: ErrTimedOut},
		"refused":              {err: dial(os.NewSyscallError("connect", syscall.ECONNREFUSED)), want: ErrRefused},
		"reset":                {err: dial(os.NewSyscallError("read", syscall.ECONNRESET)), want: ErrReset},
		"no route":             {err: dial(os.NewSyscallError("connect", syscall.EHOSTUNREACH)), want: ErrUnreachable},
		"kernel's timeout":     {err: dial(os.NewSyscallError("connect", syscall.ETIMEDOUT)), want: ErrTimedOut},
		"no such host":         {err: &net.DNSError{IsNotFound: true}, want: ErrHostNotFound},
		"name server is away":  {err: &net.DNSError{IsTemporary: true}, want: ErrDNS},
		"client certificate":   {err: errors.New("remote error: tls: certificate required"), want: ErrClientCert},
		"other alert":          {err: errors.New("remote error: tls: handshake failure"), want: ErrHandshake},
		"header":               {err: errors.New("net/http: invalid header field value for \"X\""), want: ErrHeader},
		"ping unanswered":      {err: errors.New("http2: client connection lost"), want: ErrReset},
		"closed by us":         {err: errors.New("http2: client connection force closed via ClientConn.Close"), want: ErrReset},
		"GOAWAY with an error": {err: errors.New("http2: Transport received GOAWAY from server ErrCode:ENHANCE_YOUR_CALM"), want: ErrReset},
		"HTTP/2 within text":   {err: errors.New("malformed HTTP response \"http2: client connection lost\""), want: ErrAnswer},
		"anything else":        {err: errors.New("malformed HTTP response \"hunter2\""), want: ErrAnswer},
	} {
		if tc.ctx == nil {
			tc.ctx = context.Background()
		}
		if got := classify(tc.ctx, tc.err); got != tc.want {
			t.Errorf("%s: classified as %v, want %v", name, got, tc.want)
		}
	}
}

// Whatever goes wrong, nothing of URL, header, answer or key material is in what is told.
func TestFailuresTellNoSecrets(t *testing.T) {
	const secret = "hunter2"
	r, _ := receive(t, receiver.Options{})
	closed, _ := receive(t, receiver.Options{})
	closed.Close()
	junk := answering(t, func(w io.Writer) { _, _ = io.WriteString(w, secret+"\r\n\r\n") })
	hang := answering(t, func(w io.Writer) { _, _ = io.Copy(io.Discard, w.(io.Reader)) })
	tail := "/" + secret + "?token=" + secret
	c := client(t, func(o *Options) { o.Resolver = &names{} })
	for name, p := range map[string]*endpoint.Endpoint{
		"user information": to("https://user:" + secret + "@" + r.Addr() + tail),
		"bad escape":       to("https://" + r.Addr() + "/%zz" + secret),
		"plain http":       to("http://" + r.Addr() + tail),
		"host":             to("https://" + secret + ".example" + tail),
		"refused":          to(closed.URL(tail)),
		"private":          to("https://10.0.0.1" + tail),
		"untrusted":        {URL: r.URL(tail)},
		"material":         {URL: r.URL(tail), TLS: endpoint.TLS{CABundle: []byte(secret)}},
		"junk":             to(junk.URL + secret),
		"hang":             to(hang.URL + secret),
		"header":           to(r.URL(tail)),
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		header := http.Header{"X-Key": {secret}}
		if name == "header" {
			header.Set("X-Key", secret+"\n")
		}
		_, failure := c.Post(ctx, p, header, []byte(secret))
		cancel()
		if failure == nil {
			t.Errorf("%s: no failure", name)
			continue
		}
		if text := fmt.Sprintf("%v %+v %#v %s", failure, failure, *failure, failure.Message); strings.Contains(text, secret) {
			t.Errorf("%s: the failure tells the secret: %s", name, text)
		}
		if errors.Unwrap(failure) != nil {
			t.Errorf("%s: the failure wraps another error", name)
		}
		if failure.Outcome == delivery.OutcomeDelivered || failure.Message == "" {
			t.Errorf("%s: failure is %+v", name, failure)
		}
	}
}

func TestHostShowsNoSecrets(t *testing.T) {
	for url, want := range map[string]string{
		"https://hooks.example/catch/1?key=2": "hooks.example",
		"https://hooks.example:8443/":         "hooks.example:8443",
		"https://u:p@hooks.example/":          "",
		"http://hooks.example/":               "",
	} {
		if got := Host(url); got != want {
			t.Errorf("host of %s is %q, want %q", url, got, want)
		}
	}
}
