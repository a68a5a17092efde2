// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package record

import (
	"net/http"
	"strings"
)

// Wrap returns a transport that takes each mutating request out of the budget before it is sent: for
// rest.Config.WrapTransport, so that no client of this process goes around it. A request waits under its own context,
// so a client timeout counts the wait too.
func (b *Budget) Wrap(next http.RoundTripper) http.RoundTripper {
	return &transport{budget: b, next: next}
}

type transport struct {
	budget *Budget
	next   http.RoundTripper
}

// RoundTrip waits for the budget and sends the request.
func (t *transport) RoundTrip(r *http.Request) (*http.Response, error) {
	if !mutates(r.Method) {
		return t.next.RoundTrip(r)
	}
	share := shareOf(r.Context())
	if isEvent(r.URL.Path) {
		share = ShareEvents
	}
	if urgent(r.URL.Path) {
		t.budget.Charge(share)
		return t.next.RoundTrip(r)
	}
	if err := t.budget.Wait(r.Context(), share); err != nil {
		if r.Body != nil {
			_ = r.Body.Close() // a RoundTripper closes the body, also when it fails
		}
		return nil, err
	}
	return t.next.RoundTrip(r)
}

// WrappedRoundTripper lets client-go look through it.
func (t *transport) WrappedRoundTripper() http.RoundTripper { return t.next }

func mutates(method string) bool {
	switch method {
	case http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete:
		return true
	}
	return false
}

// isEvent knows Kubernetes Events of either group: /apis/events.k8s.io/VERSION/namespaces/NAMESPACE/events[/NAME], and the
// same below /api.
func isEvent(path string) bool {
	if strings.HasPrefix(path, "/apis/events.k8s.io/") {
		return true
	}
	parts := strings.Split(strings.TrimPrefix(path, "/"), "/")
	return len(parts) >= 5 && parts[0] == "api" && parts[2] == "namespaces" && parts[4] == "events"
}

// urgent: a lease that is late costs the leadership, a review that is late a dispatcher's connection.
func urgent(path string) bool {
	for _, group := range []string{"/apis/coordination.k8s.io/", "/apis/authentication.k8s.io/", "/apis/authorization.k8s.io/"} {
		if strings.HasPrefix(path, group) {
			return true
		}
	}
	return false
}
