// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package record

import "k8s.io/apimachinery/pkg/types"

// shelf is the index of the records in the cluster. It is not safe for several goroutines.
type shelf struct {
	items       map[types.NamespacedName]item
	byEndpoint  map[string]names
	byNamespace map[string]names
	byQueue     map[string]names // those of unfinished deliveries
	active      map[string]int   // per namespace
	allActive   int
	// doomed are being deleted, until the informer says that they are gone. They count no more.
	doomed map[types.NamespacedName]types.UID
}

type names map[types.NamespacedName]struct{}

func newShelf() *shelf {
	return &shelf{
		items: map[types.NamespacedName]item{}, byEndpoint: map[string]names{}, byNamespace: map[string]names{},
		byQueue: map[string]names{}, active: map[string]int{}, doomed: map[types.NamespacedName]types.UID{},
	}
}

// put takes a record in, or its change.
func (s *shelf) put(i item) {
	if uid, doomed := s.doomed[i.key]; doomed && uid == i.uid {
		return
	}
	s.take(i.key)
	s.items[i.key] = i
	add(s.byEndpoint, i.endpoint, i.key)
	add(s.byNamespace, i.key.Namespace, i.key)
	if i.queued() {
		add(s.byQueue, i.queue, i.key)
	}
	s.countActive(i, 1)
}

// queued says that a queue holds the delivery.
func (i *item) queued() bool { return i.active() && i.queue != "" }

// ofQueue lists what a queue holds, of a namespace or of all when that is empty.
func (s *shelf) ofQueue(namespace, queueID string) (keys []types.NamespacedName) {
	for key := range s.byQueue[queueID] {
		if namespace == "" || key.Namespace == namespace {
			keys = append(keys, key)
		}
	}
	return keys
}

// take removes a record from the index.
func (s *shelf) take(key types.NamespacedName) {
	i, known := s.items[key]
	if !known {
		return
	}
	delete(s.items, key)
	drop(s.byEndpoint, i.endpoint, key)
	drop(s.byNamespace, key.Namespace, key)
	if i.queued() {
		drop(s.byQueue, i.queue, key)
	}
	s.countActive(i, -1)
}

// doom moves a record from the index to those that are being deleted.
func (s *shelf) doom(i item) {
	s.take(i.key)
	s.doomed[i.key] = i.uid
}

// gone notes the end of a record.
func (s *shelf) gone(key types.NamespacedName) {
	s.take(key)
	delete(s.doomed, key)
}

func (s *shelf) countActive(i item, n int) {
	if !i.active() {
		return
	}
	s.allActive += n
	if s.active[i.key.Namespace] += n; s.active[i.key.Namespace] == 0 {
		delete(s.active, i.key.Namespace)
	}
}

func (s *shelf) list(of names) []item {
	all := make([]item, 0, len(of))
	for key := range of {
		all = append(all, s.items[key])
	}
	return all
}

func add(index map[string]names, name string, key types.NamespacedName) {
	if index[name] == nil {
		index[name] = names{}
	}
	index[name][key] = struct{}{}
}

func drop(index map[string]names, name string, key types.NamespacedName) {
	delete(index[name], key)
	if len(index[name]) == 0 {
		delete(index, name)
	}
}
