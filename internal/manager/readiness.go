// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package manager

import (
	"context"
	"errors"
	"net/http"
	"sync/atomic"

	"sigs.k8s.io/controller-runtime/pkg/healthz"
)

// readiness is what /readyz says. A standby is ready too: it takes over at once.
type readiness struct {
	synced, listening atomic.Bool
	injecting         healthz.Checker // nil without injection
}

func (r *readiness) check(request *http.Request) error {
	switch {
	case !r.synced.Load():
		return errors.New("the cache has not synced yet")
	case !r.listening.Load():
		return errors.New("the control service does not listen yet")
	case r.injecting != nil:
		return r.injecting(request) // calls the server as the API server does, so that it has a certificate too
	}
	return nil
}

// awaitCache notes when all that is watched was read once.
func (a *assembly) awaitCache(ctx context.Context) error {
	if a.mgr.GetCache().WaitForCacheSync(ctx) {
		a.ready.synced.Store(true)
	}
	<-ctx.Done()
	return nil
}
