// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

func TestEveryValueIsWithinItsBucket(t *testing.T) {
	values := []uint64{0, 1, 63, 64, 65, 127, 128, 1000, 1 << 20, 1<<20 + 1, math.MaxInt64}
	for _, n := range values {
		bucket := bucketOf(n)
		if bucket >= buckets || n > ceilingOf(bucket) || bucket > 0 && n <= ceilingOf(bucket-1) {
			t.Errorf("%d is in bucket %d, which ends at %d", n, bucket, ceilingOf(bucket))
		}
		if above := float64(ceilingOf(bucket) - n); above > float64(n)/subBuckets {
			t.Errorf("%d is told as %d", n, ceilingOf(bucket))
		}
	}
}

func TestPercentilesAreThoseOfTheValues(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	var h Histogram
	values := make([]time.Duration, 10_000)
	for i := range values {
		values[i] = time.Duration(r.ExpFloat64() * float64(time.Millisecond))
		h.Add(values[i])
	}
	slices.Sort(values)
	got := h.Percentiles()
	if got.Count != 10_000 || got.Max != values[9_999] {
		t.Errorf("%d values up to %s, want 10000 up to %s", got.Count, got.Max, values[9_999])
	}
	for share, got := range map[float64]time.Duration{0.5: got.P50, 0.9: got.P90, 0.99: got.P99, 0.999: got.P999} {
		exact := values[int(share*10_000)]
		if got < exact || float64(got) > float64(exact)*(1+1./subBuckets) {
			t.Errorf("percentile %g is %s, want %s and at most 1/64 more", share*100, got, exact)
		}
	}
}

func TestPercentilesOfFewValues(t *testing.T) {
	var h Histogram
	if got := h.Percentiles(); got != (Percentiles{}) {
		t.Errorf("of none: %+v", got)
	}
	h.Add(-time.Second) // the clock was set back
	h.Add(5 * time.Millisecond)
	if got := h.Percentiles(); got.P50 != 5*time.Millisecond || got.P999 != 5*time.Millisecond || got.Max != 5*time.Millisecond {
		t.Errorf("of two: %+v", got)
	}
}

func TestMedian(t *testing.T) {
	for name, tc := range map[string]struct {
		values []float64
		want   float64
	}{
		"of none":  {nil, 0},
		"of one":   {[]float64{7}, 7},
		"of two":   {[]float64{1, 2}, 1.5},
		"of three": {[]float64{9, 1, 5}, 5},
	} {
		if got := median(tc.values); got != tc.want {
			t.Errorf("%s: %v, want %v", name, got, tc.want)
		}
	}
}
