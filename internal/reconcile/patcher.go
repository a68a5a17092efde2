// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package reconcile

import (
	"context"
	"fmt"

	"sigs.k8s.io/controller-runtime/pkg/client"
)

// Patcher writes the status of one object once per reconciliation, as a merge patch against what was read.
type Patcher[T client.Object] struct {
	client client.Client
	// Base is the object as it was read; nobody changes it.
	Base T
}

// NewPatcher keeps a copy of object, which the steps may change afterwards.
func NewPatcher[T client.Object](c client.Client, object T) *Patcher[T] {
	return &Patcher[T]{client: c, Base: object.DeepCopyObject().(T)}
}

// PatchStatus writes the difference between the base and object. The patch carries the resource version: a merge patch
// replaces lists as a whole, so one that was made from an old copy in the cache would undo the write before it.
func (p *Patcher[T]) PatchStatus(ctx context.Context, object T) error {
	patch := client.MergeFromWithOptions(p.Base, client.MergeFromWithOptimisticLock{})
	if err := p.client.Status().Patch(ctx, object, patch); err != nil {
		return fmt.Errorf("patch status: %w", err)
	}
	return nil
}
