// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package pebble

import "time"

// maxOrders bounds the orders that are remembered. Each one is for orderMargin longer than a dead letter is kept, so that
// none that it names is left when it is forgotten.
const (
	maxOrders   = 1000
	orderMargin = time.Hour
)

// noteOrder keeps how far an order came. One beyond the bound takes the place of the one that was carried out the longest
// ago.
func (b *batch) noteOrder(id orderID, o *orderInfo) {
	book := b.q.book
	o.updated = millis(b.now)
	if o.began == 0 {
		o.began = o.updated
	}
	if _, known := book.orders[id]; !known && len(book.orders) >= maxOrders {
		b.dropOrder(book.oldestOrder())
	}
	book.orders[id] = *o
	b.scratch = appendOrder(b.scratch[:0], o)
	b.set(id.key(), b.scratch)
	b.sweepBy(b.q.orderEnd(*o))
}

// oldestOrder is asked only when the book is full.
func (k *book) oldestOrder() (oldest orderID) {
	first := true
	for id, o := range k.orders {
		if first || o.updated < k.orders[oldest].updated {
			oldest, first = id, false
		}
	}
	return oldest
}

func (b *batch) dropOrder(id orderID) {
	delete(b.q.book.orders, id)
	b.delete(id.key())
}

// orderEnd is when an order is forgotten.
func (q *Queue) orderEnd(o orderInfo) int64 {
	return o.updated + (q.opt.DeadLetterRetention + orderMargin).Milliseconds()
}

// sweepOrders forgets the orders that are old.
func (b *batch) sweepOrders() {
	for id, o := range b.q.book.orders {
		end := b.q.orderEnd(o)
		if end > millis(b.now) {
			b.sweepBy(end)
			continue
		}
		b.dropOrder(id)
	}
}
