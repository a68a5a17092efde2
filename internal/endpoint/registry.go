// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package endpoint

import (
	"maps"
	"slices"
	"strings"
	"sync"
)

// Registry holds the resolved endpoints in the manager's memory: who resolves them writes, the control server reads.
// A change costs a map write; the sorted list of its namespace is made once, when the first reader asks, and shared by
// all readers. Entries of namespaces stay, so its size is bounded by the namespaces that were ever asked for.
type Registry struct {
	mu         sync.RWMutex
	namespaces map[string]*namespaceEntry
	complete   bool
	// all is the view of everything: its byName is not used, since its list is joined from those of the namespaces.
	all namespaceEntry
}

type namespaceEntry struct {
	byName map[string]*Endpoint
	// list is byName ordered by name, never changed once made; stale says that it has to be made again.
	list  []*Endpoint
	stale bool
	// changed is closed and replaced at the next change.
	changed chan struct{}
}

// NewRegistry returns an empty registry, which is not complete.
func NewRegistry() *Registry {
	return &Registry{namespaces: map[string]*namespaceEntry{}, all: namespaceEntry{changed: make(chan struct{})}}
}

// Set puts p in place of what was known under its name. p must not change afterwards. An endpoint with the UID and the
// revision of the known one is no news for those who view.
func (r *Registry) Set(p *Endpoint) {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := r.entry(p.Namespace)
	if old := n.byName[p.Name]; old != nil && old.UID == p.UID && old.Revision == p.Revision {
		n.byName[p.Name] = p // of another generation, perhaps
		return
	}
	n.byName[p.Name] = p
	r.touch(n)
}

// Get returns what is known under a name; nil when nothing is.
func (r *Registry) Get(ref Ref) *Endpoint {
	r.mu.Lock()
	defer r.mu.Unlock()
	if n := r.namespaces[ref.Namespace]; n != nil {
		return n.byName[ref.Name]
	}
	return nil
}

// Remove forgets the endpoint of that name.
func (r *Registry) Remove(ref Ref) {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := r.namespaces[ref.Namespace]
	if n == nil || n.byName[ref.Name] == nil {
		return
	}
	delete(n.byName, ref.Name)
	r.touch(n)
}

// Complete says that every object that exists was resolved once. Before it, a missing endpoint means nothing: after a
// restart of the manager, dispatchers would drop endpoints that are only not resolved yet.
func (r *Registry) Complete() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.complete {
		return
	}
	r.complete = true
	for _, n := range r.namespaces {
		n.touch()
	}
	r.all.touch()
}

// View returns the endpoints of a namespace ordered by name, whether the registry is complete, and a channel that is
// closed at the next change of either. The list is shared: nobody may change it.
func (r *Registry) View(namespace string) (list []*Endpoint, complete bool, changed <-chan struct{}) {
	r.mu.RLock()
	if n := r.namespaces[namespace]; n != nil && !n.stale {
		defer r.mu.RUnlock()
		return n.list, r.complete, n.changed
	}
	r.mu.RUnlock()

	r.mu.Lock()
	defer r.mu.Unlock()
	n := r.entry(namespace)
	n.refresh()
	return n.list, r.complete, n.changed
}

// ViewAll is View of all namespaces at once, ordered by namespace and name: what a gateway serves. One list is shared by
// all of them. A change sorts the namespace that it is of and copies pointers for the rest.
func (r *Registry) ViewAll() (list []*Endpoint, complete bool, changed <-chan struct{}) {
	r.mu.RLock()
	if !r.all.stale {
		defer r.mu.RUnlock()
		return r.all.list, r.complete, r.all.changed
	}
	r.mu.RUnlock()

	r.mu.Lock()
	defer r.mu.Unlock()
	if r.all.stale {
		r.all.list, r.all.stale = r.join(), false
	}
	return r.all.list, r.complete, r.all.changed
}

// join needs the lock.
func (r *Registry) join() []*Endpoint {
	var all []*Endpoint
	for _, namespace := range slices.Sorted(maps.Keys(r.namespaces)) {
		n := r.namespaces[namespace]
		n.refresh()
		all = append(all, n.list...)
	}
	return all
}

// touch needs the lock.
func (r *Registry) touch(n *namespaceEntry) {
	n.touch()
	r.all.touch()
}

func (r *Registry) entry(namespace string) *namespaceEntry {
	n := r.namespaces[namespace]
	if n == nil {
		n = &namespaceEntry{byName: map[string]*Endpoint{}, changed: make(chan struct{})}
		r.namespaces[namespace] = n
	}
	return n
}

func (n *namespaceEntry) touch() {
	n.stale = true
	close(n.changed)
	n.changed = make(chan struct{})
}

func (n *namespaceEntry) refresh() {
	if !n.stale {
		return
	}
	list := make([]*Endpoint, 0, len(n.byName))
	for _, p := range n.byName {
		list = append(list, p)
	}
	slices.SortFunc(list, func(a, b *Endpoint) int { return strings.Compare(a.Name, b.Name) })
	n.list, n.stale = list, false
}
