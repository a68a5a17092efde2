// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strconv"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/garyclub/webhook-operator/api/v1alpha1"
	"github.com/garyclub/webhook-operator/internal/egress"
	"github.com/garyclub/webhook-operator/internal/endpoint"
)

// problem is what is wrong with an endpoint, for a condition. Its message is for people and says what to do.
type problem struct {
	reason, message string
	// stalled: only a change of the spec can help.
	stalled bool
}

// pass is one reconciliation: the object, what it resolved to, and what was found wrong. Its steps change memory only.
type pass struct {
	reconciler *WebhookEndpointReconciler
	object     *v1alpha1.WebhookEndpoint
	now        time.Time

	resolved   *endpoint.Endpoint
	unresolved *problem // a reference that is broken
	noKey      *problem
	refused    *problem // what the inspection found
	inspecting bool
	testing    bool
	behind     bool // dispatchers have not taken this revision yet
	wait       time.Duration
}

func (p *pass) run(ctx context.Context) error {
	if err := p.resolve(ctx); err != nil {
		return err
	}
	if err := p.signingKey(ctx); err != nil {
		return err
	}
	p.inspect()
	p.publish()
	p.test()
	p.dispatchers()
	p.deliveries()
	p.summarise()
	return nil
}

// publish hands the endpoint to the dispatchers, with the reason to hold deliveries when there is one.
func (p *pass) publish() {
	p.resolved.Incarnation = incarnation(p.object, p.resolved.URL)
	p.resolved.Hold = p.hold()
	p.resolved.Revision = endpoint.Revision(p.resolved)
	p.reconciler.Registry.Set(p.resolved)
	p.object.Status.ObservedGeneration = p.object.Generation
	p.object.Status.Host = egress.Host(p.resolved.URL)
}

// hold is the pure decision whether deliveries wait. A failed test holds nothing back.
func (p *pass) hold() endpoint.Hold {
	totals, _ := p.reconciler.Counters.Totals(p.object.Namespace, string(p.object.UID))
	switch {
	case p.object.Spec.Suspend:
		return endpoint.HoldSuspended
	case p.unresolved != nil:
		return endpoint.HoldUnresolved
	case p.noKey != nil:
		return endpoint.HoldSigningKeyMissing
	case p.refused != nil && p.refused.reason == v1alpha1.ReasonAddressRefused:
		return endpoint.HoldAddressRefused
	case slices.Contains(totals.Gone, p.resolved.Incarnation):
		return endpoint.HoldGone
	}
	return endpoint.HoldNone
}

// incarnation changes with whatever ends the hold of a 410.
func incarnation(object *v1alpha1.WebhookEndpoint, url string) string {
	tested := ""
	if t := object.Status.Test; t != nil && t.Outcome == "Delivered" {
		tested = t.Requested
	}
	sum := sha256.Sum256([]byte(string(object.UID) + "\x00" + strconv.FormatInt(object.Generation, 10) + "\x00" + url + "\x00" + tested))
	return hex.EncodeToString(sum[:12])
}

func (p *pass) set(condition string, status metav1.ConditionStatus, reason, message string) {
	meta.SetStatusCondition(&p.object.Status.Conditions, metav1.Condition{Type: condition, Status: status, Reason: reason,
		Message: message, ObservedGeneration: p.object.Generation})
}

// again asks for another pass after the wait, if none is due before.
func (p *pass) again(after time.Duration) {
	if after > 0 && (p.wait == 0 || after < p.wait) {
		p.wait = after
	}
}
