// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import "github.com/garyclub/webhook-operator/internal/endpoint"

// holdFacts are all that decides whether deliveries wait. A failed test is not among them.
type holdFacts struct {
	suspended, unresolved, keyMissing, addressRefused, gone bool
}

// holdOf is the pure decision whether deliveries wait. The user's own wish comes first; then what has to be mended
// first comes first.
func holdOf(f holdFacts) endpoint.Hold {
	switch {
	case f.suspended:
		return endpoint.HoldSuspended
	case f.unresolved:
		return endpoint.HoldUnresolved
	case f.keyMissing:
		return endpoint.HoldSigningKeyMissing
	case f.addressRefused:
		return endpoint.HoldAddressRefused
	case f.gone:
		return endpoint.HoldGone
	}
	return endpoint.HoldNone
}
