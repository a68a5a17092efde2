//go:build node

// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package node

import (
	"bufio"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	rbacv1 "k8s.io/api/rbac/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// request is what the API server's audit log keeps of one.
type request struct {
	Verb      string
	User      struct{ Username string }
	ObjectRef *struct{ Resource, Subresource, APIGroup, Namespace, Name string }
	// Annotations say what authorization came to, which an answer of 403 alone does not: admission forbids things too.
	Annotations map[string]string
}

// notUsed are the rights that the tests on a node have no occasion for, and why the operator has them.
var notUsed = map[string]string{
	"delete webhooks.gary.club/deliveryattempts": "retention: beyond the history limits, and after the TTL",
	"delete webhooks.gary.club/redeliveries":     "an order is kept for a week after it was carried out",
	"delete /configmaps":                         "the page of a queue that has gone is folded after a day",
	"patch /configmaps":                          "a webhooks-ca that somebody changed is mended",
	"patch /secrets":                             "a generated key's owner follows spec.signing.deletionPolicy",
	"get /configmaps":                            "past the cache, when a page of the ledger was written by somebody else",
	"get /secrets":                               "past the cache, when a Secret is said to be missing",
	"get webhooks.gary.club/deliveryattempts":    "past the cache, when a record exists already",
	"get /pods":                                  "before a queue is said to be lost",
	"patch events.k8s.io/events":                 "an Event that repeats becomes a series",
	"patch /events":                              "the same, for the lease's",
}

// reasonFor says why there is a right that was not used; empty when there is no reason.
func reasonFor(right string) string {
	if strings.HasPrefix(right, "list ") {
		return "caches of an API server that cannot stream lists"
	}
	return notUsed[right]
}

// After all other tests: nothing that the operator asked for was forbidden, and it has no right that it neither used nor
// has a reason for.
func TestTheRightsAreTheLeastThatWork(t *testing.T) {
	used := usedRights(t)
	for _, account := range []string{"webhook-manager", "webhook-gateway"} {
		if len(used[account]) == 0 {
			t.Errorf("%s asked for nothing: the audit log is not what it should be", account)
		}
		for _, right := range grantedRights(t, account) {
			if !used[account][right] && reasonFor(right) == "" {
				t.Errorf("%s may %q, and nothing used it", account, right)
			} else if !used[account][right] {
				t.Logf("%s may %q, which was not used: %s", account, right, reasonFor(right))
			}
		}
	}
}

func usedRights(t *testing.T) map[string]map[string]bool {
	t.Helper()
	file, err := os.Open(filepath.Join(os.Getenv("WEBHOOK_NODE_DIR"), "audit.log"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	used := map[string]map[string]bool{}
	lines := bufio.NewScanner(file)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var r request
		if err := json.Unmarshal(lines.Bytes(), &r); err != nil {
			t.Fatal(err)
		}
		account := r.User.Username[strings.LastIndexByte(r.User.Username, ':')+1:]
		if decision := r.Annotations["authorization.k8s.io/decision"]; decision == "" {
			t.Fatalf("the audit log does not say what authorization came to: %s", lines.Text())
		} else if decision != "allow" {
			t.Errorf("%s was forbidden to %s", account, lines.Text())
		}
		if r.ObjectRef == nil {
			continue
		}
		if used[account] == nil {
			used[account] = map[string]bool{}
		}
		used[account][right(r.Verb, r.ObjectRef.APIGroup, r.ObjectRef.Resource, r.ObjectRef.Subresource)] = true
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	return used
}

func right(verb, group, resource, subresource string) string {
	if subresource != "" {
		resource += "/" + subresource
	}
	return fmt.Sprintf("%s %s/%s", verb, group, resource)
}

func grantedRights(t *testing.T, account string) []string {
	t.Helper()
	var rules []rbacv1.PolicyRule
	everywhere := &rbacv1.ClusterRole{}
	if err := cluster.Get(t.Context(), client.ObjectKey{Name: account}, everywhere); err != nil {
		t.Fatal(err)
	}
	rules = append(rules, everywhere.Rules...)
	own := &rbacv1.Role{}
	if err := cluster.Get(t.Context(), client.ObjectKey{Namespace: operatorNamespace, Name: account}, own); client.IgnoreNotFound(err) != nil {
		t.Fatal(err)
	}
	rules = append(rules, own.Rules...)
	granted := map[string]bool{}
	for _, rule := range rules {
		for _, group := range rule.APIGroups {
			for _, resource := range rule.Resources {
				for _, verb := range rule.Verbs {
					granted[right(verb, group, resource, "")] = true
				}
			}
		}
	}
	return slices.Sorted(maps.Keys(granted))
}
