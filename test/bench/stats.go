// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import "slices"

// median is the middle of the values, of two middles their mean; 0 when there are none.
func median(values []float64) float64 {
	if len(values) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(values))
	middle := len(sorted) / 2
	if len(sorted)%2 == 1 {
		return sorted[middle]
	}
	return (sorted[middle-1] + sorted[middle]) / 2
}
