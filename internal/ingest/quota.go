// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package ingest

import "errors"

// Errors that an Authenticator or a Queue returns, or wraps, when a namespace has used up what it may have of a
// dispatcher that serves several. Others are not touched by it.
var (
	// ErrShare: what waits for the namespace fills its share of the queue.
	ErrShare = errors.New("the namespace's share of the queue is full")
	// ErrRate: the namespace posts more events than it may.
	ErrRate = errors.New("the namespace posts too many events")
	// ErrCrowd: the namespace has too many requests under way.
	ErrCrowd = errors.New("the namespace has too many requests under way")
)

// quotaProblem says which quota is used up; nil when the error is another one.
func quotaProblem(err error) *problem {
	switch {
	case errors.Is(err, ErrShare):
		return newProblem(kindShare, "what waits for the namespace fills its share of the queue (--namespace-share): its deliveries must go out first")
	case errors.Is(err, ErrRate):
		return newProblem(kindRate, "the namespace posts more events than it may (--namespace-events-per-second, --namespace-burst)")
	case errors.Is(err, ErrCrowd):
		return newProblem(kindCrowd, "the namespace has too many requests under way: wait for answers, or post events in batches")
	}
	return nil
}
