// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package pebble

// Held implements queue.Queue.
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
