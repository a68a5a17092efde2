// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package record

import "time"

const (
	bucketBurst  = 20
	bucketRefill = 15 * time.Second // for one
	maxBuckets   = 10_000
)

// buckets give each endpoint its part of the records when there are too few for all, so that a busy endpoint does not
// take those of the others. Full buckets need not be kept.
type buckets map[string]bucket

type bucket struct {
	tokens float64
	at     time.Time
}

func (b bucket) filled(now time.Time) bucket {
	b.tokens = min(bucketBurst, b.tokens+max(0, now.Sub(b.at).Seconds())/bucketRefill.Seconds())
	b.at = now
	return b
}

// take spends a token of the endpoint.
func (m buckets) take(uid string, now time.Time) bool {
	b, known := m[uid]
	if !known {
		if len(m) >= maxBuckets {
			m.prune(now)
		}
		b = bucket{tokens: bucketBurst, at: now}
	}
	b = b.filled(now)
	enough := b.tokens >= 1
	if enough {
		b.tokens--
	}
	if known || len(m) < maxBuckets {
		m[uid] = b
	}
	return enough
}

func (m buckets) prune(now time.Time) {
	for uid, b := range m {
		if b.filled(now).tokens >= bucketBurst {
			delete(m, uid)
		}
	}
}
