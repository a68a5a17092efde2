// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package handover

import (
	"context"
	"sync"
	"time"
)

const (
	maxStreams    = 32
	maxPodStreams = 2
	// maxNamespaceStreams is the share of one namespace, whose pods must not keep those of others out.
	maxNamespaceStreams = maxStreams / 4
	// placeWait is how long a stream may wait for a place: less than a source waits for an answer.
	placeWait = 2 * time.Second
)

// places are shared by the streams of a sink. Those that wait for one are bounded by the sink's connections.
type places struct {
	mu         sync.Mutex
	streams    int
	pods       map[string]int
	namespaces map[string]int
	left       chan struct{} // closed when a place is left next
}

func newPlaces() *places {
	return &places{pods: map[string]int{}, namespaces: map[string]int{}, left: make(chan struct{})}
}

// enter waits for a place. It says whether there is one.
func (p *places) enter(ctx context.Context, i Identity) bool {
	timer := time.NewTimer(placeWait)
	defer timer.Stop()
	for {
		left, entered := p.take(i)
		if entered {
			return true
		}
		select {
		case <-left:
		case <-timer.C:
			return false
		case <-ctx.Done():
			return false
		}
	}
}

// take takes a place, or returns a channel that is closed when one is left.
func (p *places) take(i Identity) (left <-chan struct{}, taken bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.streams >= maxStreams || p.pods[i.PodUID] >= maxPodStreams || p.namespaces[i.Namespace] >= maxNamespaceStreams {
		return p.left, false
	}
	p.streams++
	p.pods[i.PodUID]++
	p.namespaces[i.Namespace]++
	return nil, true
}

func (p *places) leave(i Identity) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.streams--
	less(p.pods, i.PodUID)
	less(p.namespaces, i.Namespace)
	close(p.left)
	p.left = make(chan struct{})
}

func less(counts map[string]int, key string) {
	if counts[key]--; counts[key] == 0 {
		delete(counts, key)
	}
}
