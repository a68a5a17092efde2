// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package record

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"

	"github.com/garyclub/webhook-operator/api/v1alpha1"
	"github.com/garyclub/webhook-operator/internal/backoff"
	"github.com/garyclub/webhook-operator/internal/delivery"
)

const (
	// shortHeadroom is the part of the burst below which the endpoints' buckets decide.
	shortHeadroom = 0.25
	// Deletions cost as much of the budget as records do: when they are behind, fewer records are made, and beyond
	// fullBacklog none, so that the kept number holds.
	shortBacklog = 50
	fullBacklog  = 500
	backlogWait  = time.Second

	firstRetry = 100 * time.Millisecond
	lastRetry  = 30 * time.Second
	// maxRefusals is how often a record is refused for want of a right or a quota before it is left out: roles and
	// quotas take a moment to be known everywhere, and one namespace's quota may not hold up the others.
	maxRefusals = 8
)

// result is what became of writing an entry.
type result struct {
	recorded bool
	leftOut  string        // the reason; empty when it was recorded or comes again
	again    time.Duration // when above 0: not written, try again after that
	err      error         // why again
}

func repeated(err error) result { return result{again: firstRetry, err: err} }
func left(reason string) result { return result{leftOut: reason} }

var recorded = result{recorded: true}

// stored is the record as far as it is known without asking the API server; nil when there is none.
func (r *Recorder) stored(ctx context.Context, key types.NamespacedName) *v1alpha1.DeliveryAttempt {
	r.mu.Lock()
	o := r.recent.get(key, time.Now())
	r.mu.Unlock()
	if o != nil {
		return o.DeepCopy()
	}
	o = &v1alpha1.DeliveryAttempt{}
	if err := r.o.Client.Get(ctx, key, o); err != nil {
		return nil // a wrong guess costs a create that is answered AlreadyExists
	}
	return o
}

func (r *Recorder) short() bool {
	return r.o.Headroom.Headroom() < shortHeadroom || r.backlog() > shortBacklog
}

func (r *Recorder) backlog() int {
	if r.o.Shelf == nil {
		return 0
	}
	return r.o.Shelf.Backlog()
}

// admit decides whether there is a write for the entry, whose record stands as o, or is not there. Failures and tests
// always have one, and of records that exist their ends, and that they moved on to another queue: or they would be taken
// for lost with the one that they have left.
func (r *Recorder) admit(e *entry, o *v1alpha1.DeliveryAttempt, now time.Time) bool {
	d := &e.record
	needed := d.State == delivery.Failed || d.Trigger == delivery.TriggerTest ||
		o != nil && (d.State.Done() || d.Hops > int(o.Status.HandOvers))
	if e.admitted || needed || !r.short() {
		return true
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	e.admitted = r.buckets.take(d.UID, now)
	return e.admitted
}

// write brings the record to the entry's state.
func (r *Recorder) write(ctx context.Context, e *entry) result {
	p := &v1alpha1.WebhookEndpoint{}
	err := r.o.Client.Get(ctx, types.NamespacedName{Namespace: e.key.Namespace, Name: e.record.Ref.Name}, p)
	if apierrors.IsNotFound(err) || err == nil && (string(p.UID) != e.record.UID || !p.DeletionTimestamp.IsZero()) {
		return left(leftOutEndpoint) // its records are gone with it
	}
	if err != nil {
		return repeated(fmt.Errorf("read endpoint: %w", err))
	}
	o := r.stored(ctx, e.key)
	if !r.admit(e, o, time.Now()) {
		return left(leftOutBudget)
	}
	switch {
	case o != nil:
		return r.update(ctx, e, o)
	case e.existing:
		return recorded // it was deleted meanwhile
	}
	return r.create(ctx, e, p)
}

func (r *Recorder) create(ctx context.Context, e *entry, p *v1alpha1.WebhookEndpoint) result {
	if reason := r.refused(e, p); reason != "" {
		return left(reason)
	}
	if r.backlog() > fullBacklog {
		return result{again: backlogWait}
	}
	o := newObject(&e.record)
	err := r.o.Client.Create(ctx, o)
	if apierrors.IsAlreadyExists(err) {
		return r.refresh(ctx, e)
	}
	if err != nil {
		return failed(e, fmt.Errorf("create record: %w", err))
	}
	r.remember(o)
	return r.update(ctx, e, o)
}

// refused says why a record is not made for reasons of its own, though there would be a write for it.
func (r *Recorder) refused(e *entry, p *v1alpha1.WebhookEndpoint) string {
	if keepsNone(p.Spec.History, e.record.State) {
		return leftOutHistory // it would be deleted at once
	}
	if !e.record.State.Done() && r.o.Shelf != nil && r.o.Shelf.ActiveFull(e.key.Namespace) {
		return leftOutActive
	}
	if e.record.State != delivery.Failed || !r.short() {
		return ""
	}
	r.mu.Lock()
	behind := r.line.failures[e.record.UID]
	r.mu.Unlock()
	if behind >= max(1, int(p.Spec.History.Failed)) {
		return leftOutHistory // the later ones, which wait, would push it out at once
	}
	return ""
}

func keepsNone(h v1alpha1.HistorySpec, s delivery.State) bool {
	return s == delivery.Delivered && h.Succeeded == 0 || s == delivery.Failed && h.Failed == 0
}

// update writes the status into the record as it was last seen.
func (r *Recorder) update(ctx context.Context, e *entry, o *v1alpha1.DeliveryAttempt) result {
	if supersedes(standOfObject(o), standOf(&e.record)) || !setStatus(o, &e.record) {
		return recorded
	}
	err := r.o.Client.Status().Update(ctx, o)
	switch {
	case apierrors.IsConflict(err):
		return r.refresh(ctx, e)
	case apierrors.IsNotFound(err):
		r.forget(e.key)
		return recorded // it was, until somebody deleted it
	case err != nil:
		return failed(e, fmt.Errorf("update record: %w", err))
	}
	r.remember(o)
	r.metrics.records.WithLabelValues(e.record.State.String()).Inc()
	return recorded
}

// refresh reads the record from the API server, because the cache is behind, and has the entry written against that.
func (r *Recorder) refresh(ctx context.Context, e *entry) result {
	o := &v1alpha1.DeliveryAttempt{}
	if err := r.o.Reader.Get(ctx, e.key, o); err != nil {
		r.forget(e.key)
		return repeated(fmt.Errorf("read record: %w", err))
	}
	r.remember(o)
	return result{again: time.Nanosecond}
}

// failed sorts the errors of a write: those that repeating does not mend, and the others.
func failed(e *entry, err error) result {
	switch {
	case apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause):
		return left(leftOutEndpoint)
	case apierrors.IsForbidden(err) && e.failures+1 >= maxRefusals:
		return result{leftOut: leftOutRefused, err: err}
	case apierrors.IsInvalid(err), apierrors.IsBadRequest(err), apierrors.IsRequestEntityTooLargeError(err):
		return result{leftOut: leftOutInvalid, err: err}
	}
	return repeated(err)
}

func (r *Recorder) remember(o *v1alpha1.DeliveryAttempt) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.recent.put(o.DeepCopy(), time.Now())
}

func (r *Recorder) forget(key types.NamespacedName) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.recent.drop(key)
}

// finish answers the entry, or puts it back.
func (r *Recorder) finish(ctx context.Context, e *entry, res result) {
	now := time.Now()
	r.logResult(ctx, e, res)
	if res.again > 0 {
		if res.err != nil {
			e.failures++
			res.again = backoff.Next(res.again, lastRetry, e.failures, rand.Float64())
		}
		e.due = now.Add(res.again)
	}
	exists := r.stored(ctx, e.key) != nil
	r.mu.Lock()
	r.line.finish(e, res.again > 0, exists, now)
	r.mu.Unlock()
	r.wakeUp()
	switch {
	case res.recorded:
		e.answer(true)
	case res.leftOut != "":
		r.leaveOut(e, res.leftOut)
	}
}

func (r *Recorder) logResult(ctx context.Context, e *entry, res result) {
	if res.err == nil || ctx.Err() != nil {
		return
	}
	log := logr.FromContextOrDiscard(ctx).WithValues("namespace", e.key.Namespace, "delivery", e.key.Name)
	if res.leftOut != "" {
		log.Error(res.err, "record was refused and is left out")
		return
	}
	r.metrics.errors.Inc()
	log.V(1).Info("record was not written yet", "error", res.err.Error(), "failures", e.failures)
}

func (r *Recorder) leaveOut(e *entry, reason string) {
	r.metrics.leftOut.WithLabelValues(reason).Inc()
	e.answer(false)
}

func (e *entry) answer(recorded bool) {
	for _, done := range e.dones {
		done(recorded)
	}
	e.dones = nil
}
