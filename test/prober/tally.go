// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package prober

import (
	"maps"
	"sync"
)

// tally counts what was done to the system.
type tally struct {
	mu    *sync.Mutex
	kills map[Role]int
	stops int
	other map[Kind]int
	// ended are processes that ended by themselves and were started again, as a kubelet would.
	ended map[Role]int
}

func newTally() tally {
	kills := map[Role]int{}
	for _, r := range []Role{Dispatcher, Manager, APIServer, Etcd, Receiver} {
		kills[r] = 0
	}
	return tally{mu: &sync.Mutex{}, kills: kills, other: map[Kind]int{}, ended: map[Role]int{}}
}

// did counts a fault that was carried out.
func (t *tally) did(f Fault) {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch f.Kind {
	case Kill:
		t.kills[f.Target.Role]++
	case Reboot:
		t.kills[f.Target.Role]++
		t.other[f.Kind]++
	case Stop:
		t.stops++
	default:
		t.other[f.Kind]++
	}
}

func (t *tally) endedByItself(r Role) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.ended[r]++
}

func (t *tally) copy() (kills map[Role]int, stops int, other map[Kind]int, ended map[Role]int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return maps.Clone(t.kills), t.stops, maps.Clone(t.other), maps.Clone(t.ended)
}
