// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package delivery

import (
	"slices"
	"strings"
	"testing"
	"time"
)

func TestOrderIsBounded(t *testing.T) {
	most := slices.Repeat([]string{strings.Repeat("x", MaxNamedIDBytes)}, MaxOrderNames)
	good := func() Order {
		return Order{ID: strings.Repeat("x", MaxOrderIDBytes), Name: strings.Repeat("x", MaxOrderNameBytes), Limit: 1,
			CallIDs: slices.Clone(most), EventIDs: slices.Clone(most)}
	}
	if o := good(); o.Validate() != nil {
		t.Fatalf("the largest one is refused: %v", o.Validate())
	}
	for name, spoil := range map[string]func(o *Order){
		"no id":           func(o *Order) { o.ID = "" },
		"a long id":       func(o *Order) { o.ID += "x" },
		"a long name":     func(o *Order) { o.Name += "x" },
		"no limit":        func(o *Order) { o.Limit = 0 },
		"many call ids":   func(o *Order) { o.CallIDs = append(o.CallIDs, "x") },
		"many event ids":  func(o *Order) { o.EventIDs = append(o.EventIDs, "x") },
		"a long call id":  func(o *Order) { o.CallIDs[5] += "x" },
		"an empty event":  func(o *Order) { o.EventIDs[5] = "" },
		"a negative one":  func(o *Order) { o.Limit = -1 },
		"an empty call":   func(o *Order) { o.CallIDs[0] = "" },
		"a long event id": func(o *Order) { o.EventIDs[99] += "x" },
	} {
		o := good()
		if spoil(&o); o.Validate() == nil {
			t.Errorf("%s is taken", name)
		}
	}
}

func TestOrderNames(t *testing.T) {
	r := Record{CallID: "call", Delivery: Delivery{EventID: "evt", Completed: start, Order: "earlier"}}
	for name, tc := range map[string]struct {
		order Order
		want  bool
	}{
		"all":                     {Order{ID: "1"}, true},
		"what failed under it":    {Order{ID: "earlier"}, false},
		"since then":              {Order{ID: "1", Since: start}, true},
		"since later":             {Order{ID: "1", Since: start.Add(1)}, false},
		"until then":              {Order{ID: "1", Until: start}, false},
		"until later":             {Order{ID: "1", Until: start.Add(time.Nanosecond)}, true},
		"the call":                {Order{ID: "1", CallIDs: []string{"other", "call"}}, true},
		"another call":            {Order{ID: "1", CallIDs: []string{"other"}}, false},
		"the event":               {Order{ID: "1", EventIDs: []string{"evt"}}, true},
		"another event":           {Order{ID: "1", EventIDs: []string{"other"}}, false},
		"the call, another event": {Order{ID: "1", CallIDs: []string{"call"}, EventIDs: []string{"other"}}, false},
	} {
		if got := tc.order.Names(&r); got != tc.want {
			t.Errorf("%s: %v, want %v", name, got, tc.want)
		}
	}
}
