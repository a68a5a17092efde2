// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/garyclub/webhook-operator/api/v1alpha1"
	"github.com/garyclub/webhook-operator/internal/endpoint"
)

// holdFacts are all that decides whether deliveries wait. A failed test is not among them.
type holdFacts struct {
	suspended, unresolved, keyMissing, addressRefused, gone bool
}

// heldBy is the pure decision which verdicts of an inspection hold deliveries back: those that say that no request can
// be made at all, and the one that says that none may be. What the receiver or DNS may mend is attempted.
func heldBy(accepted metav1.Condition) (undeliverable, addressRefused bool) {
	if accepted.Status != metav1.ConditionFalse {
		return false, false
	}
	switch accepted.Reason {
	case v1alpha1.ReasonInvalidURL, v1alpha1.ReasonInvalidTLS:
		return true, false
	case v1alpha1.ReasonAddressRefused:
		return false, true
	}
	return false, false
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
