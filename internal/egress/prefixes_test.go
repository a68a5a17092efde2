// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package egress

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestPrefixes(t *testing.T) {
	var p Prefixes
	for _, value := range []string{"10.0.0.0/8", "fd00::/8, 192.168.1.0/24"} {
		if err := p.Set(value); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff("[10.0.0.0/8 fd00::/8 192.168.1.0/24]", p.String()); diff != "" {
		t.Errorf("ranges differ (-want +got):\n%s", diff)
	}
	for _, value := range []string{"", "10.0.0.1", "10.0.0.0/33", "private"} {
		if err := new(Prefixes).Set(value); err == nil {
			t.Errorf("%q is taken for a range", value)
		}
	}
}
