//go:build node

// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/garyclub/webhook-operator/api/v1alpha1"
	"github.com/garyclub/webhook-operator/internal/fixture/pki"
)

const (
	operatorNamespace = "webhook-system"
	// nodeAddress is this process's, as pods reach it.
	nodeAddress = "10.88.0.1"
	// soon bounds what should take seconds; a pod's start and a rollout are among it.
	soon = 90 * time.Second
)

var (
	cluster client.Client
	ca      = pki.NewCA("receivers")
)

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	config, err := ctrl.GetConfig()
	if err == nil {
		err = v1alpha1.AddToScheme(clientgoscheme.Scheme)
	}
	if err == nil {
		cluster, err = client.New(config, client.Options{Scheme: clientgoscheme.Scheme})
	}
	if err == nil {
		err = install(context.Background())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}

// install is the README's command, on an overlay that names the images of this build and lets the node's own addresses
// be receivers.
func install(ctx context.Context) error {
	out, err := kubectl(ctx, "apply", "--server-side", "-k", "install")
	if err != nil {
		return fmt.Errorf("install: %w: %s", err, out)
	}
	out, err = kubectl(ctx, "-n", operatorNamespace, "rollout", "status", "deployment/webhook-manager", "--timeout=90s")
	if err != nil {
		return fmt.Errorf("the manager does not start: %w: %s", err, out)
	}
	return nil
}

func kubectl(ctx context.Context, args ...string) (string, error) {
	out, err := exec.CommandContext(ctx, "kubectl", args...).CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

// must runs kubectl and fails the test when it fails.
func must(t *testing.T, args ...string) string {
	t.Helper()
	out, err := kubectl(t.Context(), args...)
	if err != nil {
		t.Fatalf("kubectl %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

func apply(t *testing.T, manifest string) {
	t.Helper()
	out, err := applied(t.Context(), manifest)
	if err != nil {
		t.Fatalf("apply: %v\n%s", err, out)
	}
}

func applied(ctx context.Context, manifest string) (string, error) {
	cmd := exec.CommandContext(ctx, "kubectl", "apply", "--server-side", "-f", "-")
	cmd.Stdin = strings.NewReader(manifest)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// eventually calls check until it is satisfied.
func eventually(t *testing.T, limit time.Duration, check func() error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		last := check()
		if last == nil {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("not within %s: %v", limit, last)
		case <-tick.C:
		}
	}
}
