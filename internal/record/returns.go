// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package record

import (
	"context"
	"fmt"
)

// Returns says whether the disk of a queue is still there, so that its dispatcher may come back to it. A queue that
// outlives its pod may, until it is given up; another one may for as long as its pod is there, which the API server is
// asked about. It is false of a queue that the ledger does not know.
func (l *Losses) Returns(ctx context.Context, queueID string) (bool, error) {
	for key, pod := range l.o.Ledger.named(queueID) {
		if pod.persistent {
			return true, nil
		}
		exists, err := l.o.Pods.Exists(ctx, key.namespace, pod.pod, pod.podUID)
		if err != nil {
			return false, fmt.Errorf("look for a queue's pod: %w", err)
		}
		if exists {
			return true, nil
		}
	}
	return false, nil
}

// named are the pods of the queues with that id which are not lost: an id is what a dispatcher says, so there may be one in
// each namespace.
func (l *Ledger) named(queueID string) map[bookKey]holder {
	l.mu.Lock()
	defer l.mu.Unlock()
	all := map[bookKey]holder{}
	for namespace, of := range l.books {
		if b := of[queueID]; b != nil && b.holder.podUID != "" && !b.lost && !b.folded {
			all[bookKey{namespace, queueID}] = b.holder
		}
	}
	return all
}
