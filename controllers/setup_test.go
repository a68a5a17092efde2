// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"strings"
	"testing"

	"sigs.k8s.io/controller-runtime/pkg/source"

	"github.com/garyclub/webhook-operator/internal/endpoint"
)

func TestOptionsThatCannotWork(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(*Options)
		want   string // part of the message; empty when the options are in order
	}{
		"all is there":         {func(*Options) {}, ""},
		"no registry":          {func(o *Options) { o.Registry = nil }, "Registry"},
		"no prober":            {func(o *Options) { o.Prober = nil }, "Prober"},
		"no news":              {func(o *Options) { o.Changed = nil }, "Changed"},
		"no hash key":          {func(o *Options) { o.HashKey = nil }, "HashKey has 0 bytes"},
		"a hash key too short": {func(o *Options) { o.HashKey = o.HashKey[:31] }, "HashKey has 31 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			o := Options{Registry: endpoint.NewRegistry(), Prober: NewProber(nil, nil), HashKey: suiteHashKey, Changed: source.Func(nil)}
			tc.change(&o)
			err := o.complete()
			if (err != nil) != (tc.want != "") || err != nil && !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error is %v", err)
			}
			if err != nil && strings.Contains(err.Error(), "hush") {
				t.Errorf("%v shows the key", err)
			}
		})
	}
}
