// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"math/bits"
	"sync/atomic"
	"time"
)

// subBuckets is how many buckets there are between a duration and its double: a value is known to within 1/64 of it.
const (
	subBits    = 6
	subBuckets = 1 << subBits
	buckets    = (64 - subBits + 1) * subBuckets
)

// Histogram counts durations. Many may add at once; whoever reads it does so when all have added.
type Histogram struct {
	counts [buckets]atomic.Uint64
	most   atomic.Int64
}

// Add counts one; less than nothing, which only a step of the clock makes, counts as nothing.
func (h *Histogram) Add(d time.Duration) {
	d = max(d, 0)
	h.counts[bucketOf(uint64(d))].Add(1)
	for {
		most := h.most.Load()
		if int64(d) <= most || h.most.CompareAndSwap(most, int64(d)) {
			return
		}
	}
}

// bucketOf is exact below subBuckets, and then the first bits of the value.
func bucketOf(n uint64) int {
	if n < subBuckets {
		return int(n)
	}
	shift := bits.Len64(n) - 1 - subBits
	return (shift+1)*subBuckets + int(n>>shift) - subBuckets
}

// ceilingOf is the largest value of a bucket.
func ceilingOf(bucket int) uint64 {
	if bucket < subBuckets {
		return uint64(bucket)
	}
	shift := bucket/subBuckets - 1
	return (uint64(bucket%subBuckets+subBuckets)+1)<<shift - 1
}

// Percentiles are those of a histogram, in nanoseconds. A value is never told too small, and too large by 1/64 at most.
type Percentiles struct {
	Count         uint64
	P50, P90, P99 time.Duration
	P999, Max     time.Duration
}

// Percentiles are all zero when nothing was counted.
func (h *Histogram) Percentiles() Percentiles {
	p := Percentiles{Max: time.Duration(h.most.Load())}
	for i := range h.counts {
		p.Count += h.counts[i].Load()
	}
	p.P50, p.P90, p.P99, p.P999 = h.at(p.Count, 0.5), h.at(p.Count, 0.9), h.at(p.Count, 0.99), h.at(p.Count, 0.999)
	return p
}

// at is the value that the share of all is not above.
func (h *Histogram) at(count uint64, share float64) time.Duration {
	rank := uint64(share * float64(count)) // of the first that may be above
	var sum uint64
	for i := range h.counts {
		if sum += h.counts[i].Load(); sum > rank {
			return min(time.Duration(ceilingOf(i)), time.Duration(h.most.Load()))
		}
	}
	return time.Duration(h.most.Load())
}
