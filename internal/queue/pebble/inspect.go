// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package pebble

import (
	"fmt"

	pdb "github.com/cockroachdb/pebble/v2"

	"github.com/garyclub/webhook-operator/internal/delivery"
)

// DeadLetters shows every dead letter, by the time of its expiry, as it is on disk: what is being committed may be missing.
// It reads the whole table, and is for those who take stock. An error of visit ends it.
func (q *Queue) DeadLetters(visit func(delivery.Record) error) error {
	return q.inspect(tableDead, visit)
}

// WaitingDeliveries does the same with what waits or is in flight, lane by lane.
func (q *Queue) WaitingDeliveries(visit func(delivery.Record) error) error {
	return q.inspect(tableDelivery, visit)
}

func (q *Queue) inspect(table byte, visit func(delivery.Record) error) error {
	if err := q.enter(); err != nil {
		return fmt.Errorf("inspect table %c: %w", table, err)
	}
	defer q.leave()
	return q.each([]byte{table}, after([]byte{table}), func(it *pdb.Iterator) (bool, error) {
		s, err := parseRecord(it.Value())
		if err != nil {
			return false, err
		}
		return true, visit(s.Record)
	})
}
