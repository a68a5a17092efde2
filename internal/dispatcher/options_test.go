// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package dispatcher

import (
	"strings"
	"testing"
)

func TestOptionsName(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(*Options)
		want   string // empty: accepted
	}{
		"defaults with a namespace": {func(*Options) {}, ""},
		"no namespace":              {func(o *Options) { o.Namespace = "" }, "--namespace: is required"},
		"no name of a namespace":    {func(o *Options) { o.Namespace = "A_B" }, "--namespace"},
		"no reserve":                {func(o *Options) { o.ReserveBytes = 0 }, ""},
		"negative reserve":          {func(o *Options) { o.ReserveBytes = -1 }, "--queue-reserve-bytes"},
		"proxy":                     {func(o *Options) { o.EgressProxy = "http://proxy.example:3128" }, ""},
		"proxy without a port":      {func(o *Options) { o.EgressProxy = "http://proxy.example" }, "--egress-proxy"},
		"proxy with a password":     {func(o *Options) { o.EgressProxy = "http://u:hunter2@proxy.example:3128" }, "--egress-proxy"},
		"proxy that is no URL":      {func(o *Options) { o.EgressProxy = "http://u:hunter2@%zz" }, "--egress-proxy"},
		"open to the network":       {func(o *Options) { o.Listen = ":8075" }, "--listen"},
	} {
		t.Run(name, func(t *testing.T) {
			o := DefaultOptions()
			o.Namespace = "team"
			tc.change(&o)
			err := o.Validate()
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

func TestReserveOfNoneIsNotTheDefault(t *testing.T) {
	for given, want := range map[int64]int64{0: -1, 1: 1, 64 << 20: 64 << 20} {
		if got := (&Options{ReserveBytes: given}).reserve(); got != want {
			t.Errorf("the queue gets %d for %d, want %d", got, given, want)
		}
	}
}
