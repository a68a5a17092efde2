// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package ingest

import (
	"sync"
	"sync/atomic"
)

// budget is a number of bytes that requests share.
type budget struct{ left atomic.Int64 }

func (b *budget) take(n int64) bool {
	if b.left.Add(-n) >= 0 {
		return true
	}
	b.left.Add(n)
	return false
}

func (b *budget) give(n int64) { b.left.Add(n) }

// shares bound what each of many namespaces takes of a budget: bodies that stop half way hold up those of their own
// namespace alone. Where there is one namespace it has all of it, and there are no shares: nil.
type shares struct {
	most int64

	mu    sync.Mutex
	taken map[string]int64
}

// newShares gives each namespace a quarter, and at least what the largest body takes: that of a batch, and the byte that
// finds its end.
func newShares(all int64) *shares {
	return &shares{most: max(all/4, MaxBatchBytes+1), taken: map[string]int64{}}
}

func (s *shares) take(namespace string, n int64) bool {
	if s == nil {
		return true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.taken[namespace]+n > s.most {
		return false
	}
	s.taken[namespace] += n
	return true
}

func (s *shares) give(namespace string, n int64) {
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.taken[namespace] -= n; s.taken[namespace] <= 0 {
		delete(s.taken, namespace)
	}
}
