// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package egress

import (
	"fmt"
	"net/netip"
	"strings"
)

// Prefixes is a repeatable flag of address ranges; one value may hold several, separated by commas.
type Prefixes []netip.Prefix

// String is for the flag package.
func (p *Prefixes) String() string { return fmt.Sprint([]netip.Prefix(*p)) }

// Set adds the ranges of one value.
func (p *Prefixes) Set(value string) error {
	for text := range strings.SplitSeq(value, ",") {
		prefix, err := netip.ParsePrefix(strings.TrimSpace(text))
		if err != nil {
			return fmt.Errorf("%q is no address range such as 10.1.0.0/16", text)
		}
		*p = append(*p, prefix)
	}
	return nil
}
