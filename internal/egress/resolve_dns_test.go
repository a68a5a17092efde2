// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package egress

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"

	"golang.org/x/net/dns/dnsmessage"
)

// zone is what a DNS server answers: by name, the name that it is another one's alias for, or addresses.
type zone map[string][]string

// resolver asks a server of the zone, as the system's resolver would ask its own.
func (z zone) resolver(t *testing.T) *net.Resolver {
	t.Helper()
	server, err := new(net.ListenConfig).ListenPacket(t.Context(), "udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan struct{})
	go func() {
		defer close(served)
		z.serve(server)
	}()
	t.Cleanup(func() {
		_ = server.Close()
		<-served
	})
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "udp", server.LocalAddr().String())
	}}
}

func (z zone) serve(server net.PacketConn) {
	buffer := make([]byte, 1500)
	for {
		n, from, err := server.ReadFrom(buffer)
		if err != nil {
			return
		}
		var question dnsmessage.Message
		if question.Unpack(buffer[:n]) != nil || len(question.Questions) != 1 {
			continue
		}
		answer := z.answer(question.Questions[0])
		answer.ID, answer.Questions = question.ID, question.Questions
		if packed, err := answer.Pack(); err == nil {
			_, _ = server.WriteTo(packed, from)
		}
	}
}

// answer follows aliases, as a resolver does for those who ask it.
func (z zone) answer(q dnsmessage.Question) dnsmessage.Message {
	m := dnsmessage.Message{Header: dnsmessage.Header{Response: true, RecursionAvailable: true}}
	name := q.Name.String()
	for range 8 {
		values, ok := z[strings.ToLower(name)]
		if !ok {
			m.RCode = dnsmessage.RCodeNameError
			return m
		}
		for _, value := range values {
			header := dnsmessage.ResourceHeader{Name: dnsmessage.MustNewName(name), Class: dnsmessage.ClassINET}
			ip := net.ParseIP(value)
			switch {
			case ip == nil:
				m.Answers = append(m.Answers, dnsmessage.Resource{Header: header, Body: &dnsmessage.CNAMEResource{CNAME: dnsmessage.MustNewName(value)}})
			case ip.To4() != nil && q.Type == dnsmessage.TypeA:
				m.Answers = append(m.Answers, dnsmessage.Resource{Header: header, Body: &dnsmessage.AResource{A: [4]byte(ip.To4())}})
			case ip.To4() == nil && q.Type == dnsmessage.TypeAAAA:
				m.Answers = append(m.Answers, dnsmessage.Resource{Header: header, Body: &dnsmessage.AAAAResource{AAAA: [16]byte(ip.To16())}})
			}
		}
		if len(values) != 1 || net.ParseIP(values[0]) != nil {
			return m
		}
		name = values[0]
	}
	m.RCode = dnsmessage.RCodeServerFailure
	return m
}

// TestResolveByDNS has a real resolver follow what a DNS server says.
func TestResolveByDNS(t *testing.T) {
	resolver := zone{
		"public.example.":   {"8.8.8.8", "2606:4700::1"},
		"alias.example.":    {"public.example."},
		"inside.example.":   {"internal.example."},
		"internal.example.": {"10.0.0.1", "fd00::1"},
		"chain.example.":    {"inside.example."},
		"meta.example.":     {"169.254.169.254"},
		"both.example.":     {"10.0.0.1", "8.8.4.4"},
		"families.example.": {"127.0.0.1", "2606:4700::2"},
		"circle.example.":   {"circle.example."},
		"hook.localhost.":   {"127.0.0.1"},
	}.resolver(t)
	for host, tc := range map[string]struct {
		want    []string
		wantErr error
	}{
		"public.example.":   {want: []string{"8.8.8.8:443", "[2606:4700::1]:443"}},
		"alias.example.":    {want: []string{"8.8.8.8:443", "[2606:4700::1]:443"}},
		"PUBLIC.example.":   {want: []string{"8.8.8.8:443", "[2606:4700::1]:443"}},
		"inside.example.":   {wantErr: ErrAddressRefused},
		"chain.example.":    {wantErr: ErrAddressRefused},
		"meta.example.":     {wantErr: ErrAddressRefused},
		"both.example.":     {want: []string{"8.8.4.4:443"}},
		"families.example.": {want: []string{"[2606:4700::2]:443"}},
		"circle.example.":   {wantErr: ErrDNS},
		"nobody.example.":   {wantErr: ErrHostNotFound},
		"hook.localhost.":   {wantErr: ErrAddressRefused},
	} {
		t.Run(host, func(t *testing.T) {
			found, err := New(Options{Resolver: resolver}).resolve(t.Context(), host, "443")
			if !errors.Is(err, tc.wantErr) {
				t.Errorf("error is %v, want %v", err, tc.wantErr)
			}
			wantAddresses(t, found, tc.want)
		})
	}
}
