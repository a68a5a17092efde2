// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package outbox

import (
	"context"
	"errors"
	"iter"
	"slices"
	"sync"
	"time"

	"github.com/garyclub/webhook-operator/internal/delivery"
)

// fakeQueue keeps records in order of their sequence numbers, which need not be without gaps.
type fakeQueue struct {
	mu           sync.Mutex
	records      []Outgoing
	next         uint64
	added        chan struct{}
	acknowledged []Taken
	counters     map[string]delivery.Counters
	changedAt    map[string]uint64
	counted      chan struct{}
	version      uint64
	asked        []uint64
	failAck      error
}

func newFakeQueue() *fakeQueue {
	return &fakeQueue{added: make(chan struct{}), counted: make(chan struct{}), counters: map[string]delivery.Counters{}, changedAt: map[string]uint64{}}
}

func (q *fakeQueue) add(n int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for range n {
		q.next++
		q.records = append(q.records, Outgoing{Seq: q.next})
	}
	close(q.added)
	q.added = make(chan struct{})
}

func (q *fakeQueue) count(uid string, succeeded int64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.version++
	q.counters[uid], q.changedAt[uid] = delivery.Counters{UID: uid, Succeeded: succeeded}, q.version
	close(q.counted)
	q.counted = make(chan struct{})
}

func (q *fakeQueue) Counted() <-chan struct{} {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.counted
}

// reads is how often counters were asked for.
func (q *fakeQueue) reads() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.asked)
}

func (q *fakeQueue) Outbox(ctx context.Context, after uint64, n int) ([]Outgoing, error) {
	for {
		q.mu.Lock()
		var found []Outgoing
		for _, r := range q.records {
			if r.Seq > after && len(found) < n {
				found = append(found, r)
			}
		}
		added := q.added
		q.mu.Unlock()
		if len(found) > 0 {
			return found, nil
		}
		select {
		case <-added:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func (q *fakeQueue) Acknowledge(_ context.Context, taken []Taken) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.failAck != nil {
		return q.failAck
	}
	for _, t := range taken {
		for i, r := range q.records {
			if r.Seq == t.Seq {
				q.records = append(q.records[:i:i], q.records[i+1:]...)
				break
			}
		}
	}
	q.acknowledged = append(q.acknowledged, taken...)
	return nil
}

func (q *fakeQueue) Counters(since uint64) ([]delivery.Counters, uint64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.asked = append(q.asked, since)
	var changed []delivery.Counters
	for uid, c := range q.counters {
		if q.changedAt[uid] > since {
			changed = append(changed, c)
		}
	}
	return changed, q.version
}

func (q *fakeQueue) left() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.records)
}

var errBroken = errors.New("broken")

// fakeManager answers at once on the streams that are opened to it, unless it is silent.
type fakeManager struct {
	mu        sync.Mutex
	away      bool
	blackHole bool // streams are not opened, nor refused
	silent    bool
	ledger    time.Duration // counters are answered that much later
	leftOut   map[uint64]bool
	opened    int
	received  [][]uint64 // by stream
	reports   [][]delivery.Counters
	streams   []*fakeStream
}

type fakeStream struct {
	ctx     context.Context
	manager *fakeManager
	number  int
	answers chan answer
	broken  chan struct{}
}

type answer struct {
	taken   map[uint64]bool
	version uint64
}

func (m *fakeManager) open(ctx context.Context) (Stream, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.opened++
	if m.away {
		return nil, errBroken
	}
	if m.blackHole {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	s := &fakeStream{ctx: ctx, manager: m, number: len(m.streams), answers: make(chan answer, 10_000), broken: make(chan struct{})}
	m.streams = append(m.streams, s)
	m.received = append(m.received, nil)
	return s, nil
}

func (m *fakeManager) set(change func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	change()
}

func (m *fakeManager) got(stream int) []uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.received[stream])
}

func (m *fakeManager) reported() [][]delivery.Counters {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.reports)
}

func (m *fakeManager) breakStream() {
	m.mu.Lock()
	defer m.mu.Unlock()
	close(m.streams[len(m.streams)-1].broken)
}

func (s *fakeStream) SendRecords(records iter.Seq2[uint64, delivery.Record]) error {
	m := s.manager
	m.mu.Lock()
	defer m.mu.Unlock()
	taken := map[uint64]bool{}
	for seq := range records {
		m.received[s.number] = append(m.received[s.number], seq)
		taken[seq] = !m.leftOut[seq]
	}
	if !m.silent {
		s.answers <- answer{taken: taken}
	}
	return nil
}

func (s *fakeStream) SendCounters(counters []delivery.Counters, version uint64) error {
	m := s.manager
	m.mu.Lock()
	defer m.mu.Unlock()
	m.reports = append(m.reports, counters)
	if m.silent {
		return nil
	}
	time.AfterFunc(m.ledger, func() { s.answers <- answer{version: version} })
	return nil
}

func (s *fakeStream) Recv() (map[uint64]bool, uint64, error) {
	select {
	case a := <-s.answers:
		return a.taken, a.version, nil
	case <-s.broken:
		return nil, 0, errBroken
	case <-s.ctx.Done():
		return nil, 0, s.ctx.Err()
	}
}
