// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package record

import (
	"context"
	"fmt"
	"slices"
	"time"
)

const (
	// letterTime is how long a queue may still hold a delivery that failed when it was heard of last: the retention of dead
	// letters, with a margin.
	letterTime = 25 * time.Hour
	// maxAway bounds the pods that are asked for about one endpoint.
	maxAway = 100
)

// Away lists the queues that are not connected, may come back, and may hold failed deliveries of the endpoint: some have
// failed there within the time for which payloads are kept, and the disk is still there. That of a queue which outlives its
// pod is, until the queue is given up; that of another one for as long as its pod is there, which the API server is asked
// about.
func (l *Losses) Away(ctx context.Context, endpointUID string, connected []string) (ids []string, err error) {
	if !l.o.Ledger.Loaded() {
		return nil, ErrNotLoaded
	}
	asked := 0
	for key, pod := range l.o.Ledger.failing(endpointUID, connected) {
		there := pod.persistent
		if !there && asked < maxAway {
			asked++
			if there, err = l.o.Pods.Exists(ctx, key.namespace, pod.pod, pod.podUID); err != nil {
				return nil, fmt.Errorf("look for a queue's pod: %w", err)
			}
		}
		if there {
			ids = append(ids, key.queueID)
		}
	}
	return ids, nil
}

// failing are the pods of the queues in which deliveries of the endpoint failed lately, but for those named. What others
// have handed over to a gateway that is not connected now is not seen here: those others have counted it.
func (l *Ledger) failing(endpointUID string, but []string) map[bookKey]holder {
	l.mu.Lock()
	defer l.mu.Unlock()
	all := map[bookKey]holder{}
	for namespace, of := range l.books {
		for id, b := range of {
			if b.holder.podUID == "" || b.lost || b.folded || slices.Contains(but, id) {
				continue
			}
			t, _ := b.current(endpointUID)
			if t.failed > 0 && now().Sub(t.lastFailure) < letterTime {
				all[bookKey{namespace, id}] = b.holder
			}
		}
	}
	return all
}
