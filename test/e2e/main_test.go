// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package e2e is the promise, black box: the real binaries as processes against a real API server, real TLS receivers,
// SIGKILL in the middle. Each test has a namespace with a dispatcher of its own; the manager is everybody's. Tests that
// kill the manager or the API server, or count what is written to it, are not parallel: those that are run after them.
package e2e

import (
	"context"
	"fmt"
	"os"
	"testing"

	"github.com/garyclub/webhook-operator/internal/fixture/pki"
	"github.com/garyclub/webhook-operator/internal/fixture/system"
)

var (
	sys *system.System
	ca  = pki.NewCA("e2e receivers")
)

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "webhook-operator-e2e-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() { _ = os.RemoveAll(dir) }()
	if sys, err = system.Start(ctx, system.Options{Root: "../..", Dir: dir}); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer sys.Stop()
	if err := sys.StartManager(ctx); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	code := m.Run()
	// At the end, since it is about what all tests have left behind.
	if err := findLeaks(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "leak:", err)
		return 1
	}
	return code
}
