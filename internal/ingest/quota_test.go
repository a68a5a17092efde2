// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package ingest

import (
	"fmt"
	"net/http"
	"testing"
)

// A quota is told in the same way whether it is known before the body is read or when the events are stored.
func TestQuotasOfANamespace(t *testing.T) {
	for name, tc := range map[string]struct {
		err   error
		code  int
		kind  kind
		after string
	}{
		"share":    {ErrShare, http.StatusServiceUnavailable, kindShare, "5"},
		"rate":     {ErrRate, http.StatusTooManyRequests, kindRate, "1"},
		"requests": {ErrCrowd, http.StatusTooManyRequests, kindCrowd, "1"},
	} {
		t.Run(name, func(t *testing.T) {
			wrapped := fmt.Errorf("quota: %w", tc.err)
			stored := newFixture()
			stored.queue.err = wrapped
			judged := newFixture(func(o *Options) {
				o.Authenticate = func(*http.Request, string) (string, error) { return "clinic", wrapped }
			})
			for when, f := range map[string]*fixture{"before the body": judged, "at the append": stored} {
				w := f.do(t, request{body: page(t)})
				checkProblem(t, w, tc.code, tc.kind, "", 0)
				if got := w.Header().Get("Retry-After"); got != tc.after {
					t.Errorf("%s: Retry-After is %q, want %s", when, got, tc.after)
				}
				if got := f.metrics(t)["rejected_total "+string(tc.kind)]; got != 1 {
					t.Errorf("%s: %v refusals are counted, want 1", when, got)
				}
			}
		})
	}
}
