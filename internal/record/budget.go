// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package record

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// Share names a part of the write budget.
type Share uint8

// The shares. A request without one is of ShareOther.
const (
	ShareOther Share = iota
	ShareRecords
	ShareStatus
	ShareDeletes
	ShareEvents // of Kubernetes Events, whatever the context says
	shareCount
)

// shares has the guaranteed fraction of each: what it gets when all others want more than theirs. What one does not use,
// the others have, in the same proportions; but for that of Events, which is a budget of its own, neither lent nor
// borrowed: after an upgrade there is one for each pod, and no Secret waits for these.
var shares = [shareCount]struct {
	name     string
	fraction float64
}{
	ShareOther:   {"other", 0.05},
	ShareRecords: {"records", 0.58},
	ShareStatus:  {"status", 0.19},
	ShareDeletes: {"deletes", 0.14},
	ShareEvents:  {"events", 0.04},
}

func shareNames() (all []string) {
	for _, s := range shares {
		all = append(all, s.name)
	}
	return all
}

type shareKey struct{}

// WithShare says which share the requests made with the context are charged to.
func WithShare(ctx context.Context, s Share) context.Context {
	return context.WithValue(ctx, shareKey{}, s)
}

func shareOf(ctx context.Context) Share {
	s, _ := ctx.Value(shareKey{}).(Share)
	if s >= shareCount {
		return ShareOther
	}
	return s
}

// refillFraction is below one so that a minute that begins with a full bucket stays within 60 times the rate.
const refillFraction = 0.9

// BudgetOptions bound the manager's writes.
type BudgetOptions struct {
	// Rate is writes per second; 50 by default.
	Rate float64
	// Burst is how many may be made at once; 5 times the rate by default, and 6 times at the most.
	Burst int
	// Metrics may be nil.
	Metrics *Metrics
}

// Budget paces all mutating requests of this process to the API server. Within a share they go in order; between the
// shares that wait, each gets its fraction.
type Budget struct {
	refill  float64 // tokens per second
	burst   float64
	metrics *Metrics
	events  *rate.Limiter

	mu     sync.Mutex
	tokens float64
	at     time.Time // when tokens was right
	queues [shareCount][]*waiter
	// pass is the virtual time up to which each share was served; a share with a greater fraction moves slower. now is
	// that of the latest grant: a share that did not wait is not owed the past.
	pass  [shareCount]float64
	now   float64
	timer *time.Timer // set while somebody waits
}

type waiter struct{ granted chan struct{} }

// NewBudget returns a budget with a full bucket.
func NewBudget(o BudgetOptions) (*Budget, error) {
	if o.Rate == 0 {
		o.Rate = 50
	}
	if o.Burst == 0 {
		o.Burst = int(5 * o.Rate)
	}
	if o.Rate < 1 {
		return nil, errors.New("write budget: the rate must be at least 1 per second")
	}
	if limit := int(6 * o.Rate); o.Burst < 1 || o.Burst > limit {
		return nil, fmt.Errorf("write budget: the burst must be 1 to %d, 6 times the rate, so that no minute exceeds the budget", limit)
	}
	if o.Metrics == nil {
		o.Metrics = NewMetrics(nil)
	}
	part := shares[ShareEvents].fraction
	eventsBurst := max(1, int(part*float64(o.Burst)))
	burst := float64(max(1, o.Burst-eventsBurst))
	return &Budget{
		refill: o.Rate * refillFraction * (1 - part), burst: burst, metrics: o.Metrics, tokens: burst, at: time.Now(),
		events: rate.NewLimiter(rate.Limit(o.Rate*refillFraction*part), eventsBurst),
	}, nil
}

// Headroom is the part of the burst that is there, from 0 to 1; 0 while anybody waits. Events do not change it.
func (b *Budget) Headroom() float64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.advance()
	if b.anyWaiting() {
		return 0
	}
	return max(0, b.tokens) / b.burst
}

// Wait takes one write from the share, waiting for it.
func (b *Budget) Wait(ctx context.Context, s Share) error {
	if s == ShareEvents {
		return b.waitForEvent(ctx)
	}
	name := shares[s].name
	b.mu.Lock()
	b.advance()
	if !b.anyWaiting() && b.tokens >= 1 {
		b.tokens--
		b.mu.Unlock()
		b.metrics.apiWrites.WithLabelValues(name).Inc()
		return nil
	}
	w := b.enqueue(s)
	b.mu.Unlock()
	waiting := b.metrics.apiWaiting.WithLabelValues(name)
	waiting.Inc()
	defer waiting.Dec()
	select {
	case <-w.granted:
		b.metrics.apiWrites.WithLabelValues(name).Inc()
		return nil
	case <-ctx.Done():
		b.abandon(s, w)
		return context.Cause(ctx)
	}
}

func (b *Budget) waitForEvent(ctx context.Context) error {
	name := shares[ShareEvents].name
	waiting := b.metrics.apiWaiting.WithLabelValues(name)
	waiting.Inc()
	defer waiting.Dec()
	if err := b.events.Wait(ctx); err != nil {
		return err
	}
	b.metrics.apiWrites.WithLabelValues(name).Inc()
	return nil
}

// Charge takes one write without waiting: for what must not be late, leases above all. The debt is bounded, so that
// these never stop the others for longer than it takes to fill the bucket twice.
func (b *Budget) Charge(s Share) {
	b.mu.Lock()
	b.advance()
	b.tokens = max(b.tokens-1, -b.burst)
	b.mu.Unlock()
	b.metrics.apiWrites.WithLabelValues(shares[s].name).Inc()
}

func (b *Budget) advance() {
	now := time.Now()
	if passed := now.Sub(b.at); passed > 0 {
		b.tokens = min(b.burst, b.tokens+passed.Seconds()*b.refill)
	}
	b.at = now
}

func (b *Budget) anyWaiting() bool {
	for i := range b.queues {
		if len(b.queues[i]) > 0 {
			return true
		}
	}
	return false
}

func (b *Budget) enqueue(s Share) *waiter {
	w := &waiter{granted: make(chan struct{})}
	if len(b.queues[s]) == 0 {
		b.pass[s] = max(b.pass[s], b.now)
	}
	b.queues[s] = append(b.queues[s], w)
	b.schedule()
	return w
}

// abandon gives a grant back that came at the same moment as the end of the context.
func (b *Budget) abandon(s Share, w *waiter) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for i, other := range b.queues[s] {
		if other == w {
			b.queues[s] = append(b.queues[s][:i], b.queues[s][i+1:]...)
			return
		}
	}
	b.tokens++
	b.schedule()
}

// schedule wakes serve when the next token is there. Without waiters nothing runs.
func (b *Budget) schedule() {
	if b.timer != nil || !b.anyWaiting() {
		return
	}
	missing := max(0, 1-b.tokens)
	b.timer = time.AfterFunc(time.Duration(missing/b.refill*float64(time.Second))+time.Microsecond, b.serve)
}

func (b *Budget) serve() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.timer = nil
	b.advance()
	for b.tokens >= 1 {
		s, found := b.next()
		if !found {
			break
		}
		b.tokens--
		b.now = b.pass[s]
		b.pass[s] += 1 / shares[s].fraction
		w := b.queues[s][0]
		b.queues[s] = b.queues[s][1:]
		close(w.granted)
	}
	b.schedule()
}

// next is the share that was served least for its fraction.
func (b *Budget) next() (chosen Share, found bool) {
	for s := range shareCount {
		if len(b.queues[s]) > 0 && (!found || b.pass[s] < b.pass[chosen]) {
			chosen, found = s, true
		}
	}
	return chosen, found
}
