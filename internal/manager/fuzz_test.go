// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package manager

import (
	"net"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/garyclub/webhook-operator/internal/inject"
)

// FuzzOptions: whatever the flags say, Validate names flags and tells nothing of a proxy's password, and what it lets pass
// makes settings.
func FuzzOptions(f *testing.F) {
	f.Add("webhook-system", ":9443", "10.0.0.0/8", "http://proxy:3128", "--max-in-flight=256", 50.0)
	f.Add("A", "", "::ffff:10.0.0.0/104", "http://user:hunter2@proxy:3128", "--namespace=x", 0.0)
	f.Add("", "x", ",", "http://proxy:3128/hunter2?hunter2", "-", -1.0)
	f.Fuzz(func(t *testing.T, namespace, listen, allow, proxy, arg string, budget float64) {
		const secret = "hunter2"
		o := DefaultOptions()
		o.Namespace, o.ControlListen, o.WebhookListen, o.GatewayAddress = namespace, listen, listen, listen
		o.EgressProxy, o.WriteBudget, o.DispatcherArgs = proxy, budget, []string{arg}
		if o.EgressAllow.Set(allow) != nil {
			o.EgressAllow = nil
		}
		err := o.Validate()
		if err == nil {
			_, _ = o.injectSettings(), o.hosts()
			if pace := o.statusPace(healthPart); pace.Burst() < 1 {
				t.Errorf("a budget of %v leaves nothing for the health of endpoints", budget)
			}
			return
		}
		if strings.Contains(proxy, secret) && !strings.Contains(namespace+listen+allow+arg, secret) && strings.Contains(err.Error(), secret) {
			t.Errorf("the error tells of the proxy: %v", err)
		}
		for line := range strings.SplitSeq(err.Error(), "\n") {
			if !strings.HasPrefix(line, "--") {
				t.Errorf("%q names no flag", line)
			}
		}
	})
}

// FuzzDispatcherArg: no spelling of a flag that the injection sets itself gets past the check.
func FuzzDispatcherArg(f *testing.F) {
	for _, s := range []string{"--namespace=x", "-namespace=x", "---namespace=x", "--max-in-flight=1", "max-in-flight=1", "--", "-=x", "--v=1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, arg string) {
		name, isFlag := flagOf(arg)
		if !isFlag {
			return
		}
		if name == "" || strings.ContainsAny(name[:1], "-=") || strings.Contains(name, "=") {
			t.Errorf("the flag in %q is %q", arg, name)
		}
		o := InjectOptions{WebhookListen: ":1", InjectCertificates: CertificatesOwn, DispatcherArgs: []string{arg}}
		if refused := len(o.validate()) > 0; refused != slices.Contains(inject.OwnFlags(), name) {
			t.Errorf("%q is refused: %v", arg, refused)
		}
	})
}

// FuzzListen: an address that is taken is one that can be put together again.
func FuzzListen(f *testing.F) {
	for _, s := range []string{":9444", "127.0.0.1:1", "[::1]:65535", ":0", ":65536", "a:b:c", "", ":+1", ":007"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, address string) {
		host, port, err := splitListen(address)
		if err != nil {
			return
		}
		if again, number, err := splitListen(net.JoinHostPort(host, strconv.Itoa(port))); err != nil || again != host || number != port || port < 1 || port > 65535 {
			t.Errorf("%q is host %q and port %d, %v", address, host, port, err)
		}
	})
}

// FuzzPair: a CA that is read out of a Secret can sign, and one that cannot be read tells nothing of the key.
func FuzzPair(f *testing.F) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	p, err := newPair(now, time.Hour)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(p.certPEM, p.keyPEM)
	f.Add([]byte("hunter2"), []byte("hunter2"))
	f.Add(p.certPEM, []byte("-----BEGIN PRIVATE KEY-----\naHVudGVyMg==\n-----END PRIVATE KEY-----\n"))
	f.Fuzz(func(t *testing.T, certPEM, keyPEM []byte) {
		read, err := readPair(certPEM, keyPEM)
		if err != nil {
			if len(keyPEM) > 40 && strings.Contains(err.Error(), string(keyPEM[:40])) {
				t.Errorf("the error tells the key: %v", err)
			}
			return
		}
		if read.cert == nil || read.key == nil {
			t.Fatalf("a pair without certificate or key was read: %+v", read)
		}
		if _, err := read.serve([]string{"host"}, now, time.Hour); err != nil {
			t.Errorf("it cannot sign: %v", err)
		}
	})
}
