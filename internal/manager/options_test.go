// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package manager

import (
	"math"
	"net/netip"
	"slices"
	"strings"
	"testing"
)

func TestOptions(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(*Options)
		want   []string // flags that the message names; none when the options are in order
	}{
		"defaults":               {func(*Options) {}, nil},
		"namespaces":             {func(o *Options) { o.Namespaces = []string{"a", "b-1"} }, nil},
		"an address of its own":  {func(o *Options) { o.ControlListen, o.MetricsListen = "127.0.0.1:0", "[::1]:8080" }, nil},
		"no namespace":           {func(o *Options) { o.Namespace = "" }, []string{"--namespace"}},
		"a bad namespace":        {func(o *Options) { o.Namespaces = []string{"a", "B"} }, []string{`"B"`}},
		"an empty namespace":     {func(o *Options) { o.Namespaces = []string{""} }, []string{"--namespaces"}},
		"ports only":             {func(o *Options) { o.ControlListen, o.MetricsListen, o.HealthListen = "9443", "8080", "" }, []string{"--control-listen", "--metrics-listen", "--health-listen"}},
		"no budget":              {func(o *Options) { o.WriteBudget = 0.5 }, []string{"--write-budget"}},
		"a budget of no number":  {func(o *Options) { o.WriteBudget = math.NaN() }, []string{"--write-budget"}},
		"a budget without bound": {func(o *Options) { o.WriteBudget = math.Inf(1) }, []string{"--write-budget"}},
		"a gateway without port": {func(o *Options) { o.GatewayAddress = "gateway" }, []string{"--gateway-address"}},
		"a proxy":                {func(o *Options) { o.EgressProxy = "http://proxy.test:3128" }, nil},
		"a proxy with password":  {func(o *Options) { o.EgressProxy = "http://hush:hush@proxy.test:3128" }, []string{"--egress-proxy"}},
		"a proxy that is no URL": {func(o *Options) { o.EgressProxy = "http://hush:hush@%zz" }, []string{"--egress-proxy"}},
		"an injection": {func(o *Options) {
			o.DispatcherImage, o.DispatcherPullPolicy, o.InjectCertificates = "image:1", "Never", "/certs"
		}, nil},
		"flags of dispatchers":   {func(o *Options) { o.DispatcherArgs = []string{"--max-in-flight=2", "-v=1"} }, nil},
		"no port of the webhook": {func(o *Options) { o.WebhookListen = "127.0.0.1:0" }, []string{"--webhook-listen"}},
		"a bad injection":        {func(o *Options) { o.DispatcherImage, o.DispatcherPullPolicy, o.InjectCertificates = "a b", "never", "" }, []string{"--dispatcher-image", "--dispatcher-pull-policy", "--inject-certificates"}},
		"flags that are none":    {func(o *Options) { o.DispatcherArgs = []string{"hush", "--", "---hush"} }, []string{"number 1", "number 2", "number 3"}},
		"flags of the injection": {func(o *Options) { o.DispatcherArgs = []string{"-queue-dir=hush", "--namespace"} }, []string{"sets --queue-dir", "sets --namespace"}},
		"a range in odd form":    {func(o *Options) { o.EgressAllow = append(o.EgressAllow, netip.MustParsePrefix("::ffff:10.0.0.0/104")) }, []string{"--egress-allow"}},
	} {
		t.Run(name, func(t *testing.T) {
			o := DefaultOptions()
			tc.change(&o)
			err := o.Validate()
			if (err != nil) != (len(tc.want) > 0) {
				t.Fatalf("error is %v", err)
			}
			for _, want := range tc.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%q lacks %q", err, want)
				}
			}
			if err != nil && strings.Contains(err.Error(), "hush") {
				t.Errorf("%q quotes what may be a password", err)
			}
			for range 5 { // the order of several messages is no matter of chance
				if err != nil && o.Validate().Error() != err.Error() {
					t.Errorf("another time: %v", o.Validate())
				}
			}
		})
	}
}

func TestTheNamesOfTheControlService(t *testing.T) {
	o := DefaultOptions()
	o.ControlHosts = []string{"manager.test"}
	want := []string{"webhook-manager-control.webhook-system.svc", "webhook-manager-control.webhook-system.svc.cluster.local",
		"webhook-manager-webhook.webhook-system.svc", "manager.test"}
	if got := o.hosts(); !slices.Equal(got, want) {
		t.Errorf("got %v", got)
	}
}
