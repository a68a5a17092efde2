// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"path/filepath"
	"testing"
)

func TestNamespaceOfPod(t *testing.T) {
	path := filepath.Join(t.TempDir(), "namespace")
	if got := namespaceOfPod(path); got != "" {
		t.Errorf("without a file it is %q", got)
	}
	if err := os.WriteFile(path, []byte("team\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := namespaceOfPod(path); got != "team" {
		t.Errorf("it is %q, want team", got)
	}
}
