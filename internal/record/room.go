// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package record

import (
	"context"
	"sync"
)

// namespacePart is the part of the room that one namespace may take: one whose records cannot be written holds up
// itself and nobody else.
const namespacePart = 4

// room bounds the states that are with the recorder and not answered, in all and per namespace.
type room struct {
	all  chan struct{}
	part int

	mu          sync.Mutex
	byNamespace map[string]*namespaceRoom
}

type namespaceRoom struct {
	taken chan struct{}
	users int // those inside and those who wait; without any the entry goes
}

func newRoom(size int) *room {
	return &room{all: make(chan struct{}, size), part: max(1, size/namespacePart), byNamespace: map[string]*namespaceRoom{}}
}

// enter waits for a place, until ctx ends or stop is closed.
func (r *room) enter(ctx context.Context, stop <-chan struct{}, namespace string) error {
	n := r.use(namespace)
	for _, places := range []chan struct{}{n.taken, r.all} {
		var err error
		select {
		case places <- struct{}{}:
			continue
		case <-ctx.Done():
			err = context.Cause(ctx)
		case <-stop:
			err = ErrStopped
		}
		if places == r.all {
			<-n.taken
		}
		r.unuse(namespace, n)
		return err
	}
	return nil
}

// leave gives a place back.
func (r *room) leave(namespace string) {
	r.mu.Lock()
	n := r.byNamespace[namespace]
	r.mu.Unlock()
	<-r.all
	<-n.taken
	r.unuse(namespace, n)
}

func (r *room) use(namespace string) *namespaceRoom {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := r.byNamespace[namespace]
	if n == nil {
		n = &namespaceRoom{taken: make(chan struct{}, r.part)}
		r.byNamespace[namespace] = n
	}
	n.users++
	return n
}

func (r *room) unuse(namespace string, n *namespaceRoom) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if n.users--; n.users == 0 {
		delete(r.byNamespace, namespace)
	}
}
