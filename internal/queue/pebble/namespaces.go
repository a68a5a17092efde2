// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package pebble

// Held says how many bytes the waiting deliveries of each namespace hold, as they count for the share of an endpoint: an
// event's payload for each of its deliveries.
func (q *Queue) Held() map[string]int64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	held := map[string]int64{}
	for _, l := range q.lanes {
		if l.bytes > 0 {
			held[l.ref.Namespace] += l.bytes
		}
	}
	return held
}
