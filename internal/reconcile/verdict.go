// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package reconcile holds what reconcilers share: errors that say what is to happen next, and the patch that writes a
// status once. Commit point: the status patch at the end, under the resource version that was read; a step before it
// changes memory only, so a crash repeats the steps.
package reconcile

import (
	"errors"
	"time"

	ctrl "sigs.k8s.io/controller-runtime"
)

// StalledError says that only a person can help; there is no point in trying again.
type StalledError struct {
	Reason  string
	Message string
}

// Error is the message.
func (e *StalledError) Error() string { return e.Message }

// Stalled returns such an error.
func Stalled(reason, message string) error { return &StalledError{Reason: reason, Message: message} }

// WaitingError says that all is well so far, and when to look again.
type WaitingError struct{ After time.Duration }

// Error says so.
func (e *WaitingError) Error() string { return "look again in " + e.After.String() }

// Waiting returns such an error.
func Waiting(after time.Duration) error { return &WaitingError{After: after} }

// Verdict collects what the steps of a reconciliation said.
type Verdict struct {
	// Stalled is the first of its kind.
	Stalled *StalledError
	// After is the earliest moment that a step waits for; 0 when none does.
	After time.Duration
	// Err is what ended the steps.
	Err error
}

// Add notes what a step returned and says whether the next step may run: after anything but an error that is to be
// retried.
func (v *Verdict) Add(err error) bool {
	var stalled *StalledError
	var waiting *WaitingError
	switch {
	case err == nil:
	case errors.As(err, &stalled):
		if v.Stalled == nil {
			v.Stalled = stalled
		}
	case errors.As(err, &waiting):
		v.Wait(waiting.After)
	default:
		v.Err = err
		return false
	}
	return true
}

// Wait notes a moment to look again; the earliest counts.
func (v *Verdict) Wait(after time.Duration) {
	if v.After == 0 || after < v.After {
		v.After = max(after, time.Millisecond)
	}
}

// Result is the verdict in controller-runtime's words.
func (v *Verdict) Result() (ctrl.Result, error) {
	if v.Err != nil {
		return ctrl.Result{}, v.Err
	}
	return ctrl.Result{RequeueAfter: v.After}, nil
}
