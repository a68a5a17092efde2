// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package node is the story on a real Kubernetes node: installed by the documented command, injected into real pods by
// the API server's own admission, killed, rolled, upgraded. Its tests carry the build tag node and run inside the
// network namespace of hack/node.sh: make e2e-node.
package node
