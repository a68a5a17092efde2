// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

// The demo runs the whole system on loopback: a control plane, the manager, a dispatcher and five receivers of different
// manners, one for each endpoint of config/samples. It posts three events, shows what becomes of them, and stays up.
// With DEMO_ONCE=1 it checks what it shows against the contract and ends.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/garyclub/webhook-operator/internal/fixture/system"
)

// namespace is the user's.
const namespace = "demo"

// storyTimeout is far beyond the slowest delivery: four attempts of ten seconds, and the waits between them.
const storyTimeout = 3 * time.Minute

func main() { os.Exit(exit()) }

func exit() int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Getenv("DEMO_ONCE") != ""); err != nil && ctx.Err() == nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		return 1
	}
	return 0
}

type demo struct {
	*system.System
	dispatcher *system.Dispatcher
	root, dir  string
	receivers  receivers
	posted     []posted
}

func run(ctx context.Context, once bool) error {
	root, err := os.Getwd()
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "webhook-operator-demo-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }() // what is left lies in the system's temporary folder
	d := &demo{root: root, dir: dir}
	//nolint:contextcheck // receivers live until they are closed
	if d.receivers, err = startReceivers(); err != nil {
		return err
	}
	defer d.receivers.close()
	say("starting etcd, the API server, the manager and a dispatcher on loopback")
	if d.System, err = system.Start(ctx, system.Options{Root: root, Dir: dir}); err != nil {
		return err
	}
	defer d.Stop()
	if err := d.tell(ctx); err != nil {
		return err
	}
	if once {
		return d.check(ctx)
	}
	d.usage()
	<-ctx.Done()
	return nil
}

// tell is the story: endpoints are declared and judged, events are posted and delivered.
func (d *demo) tell(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, storyTimeout)
	defer cancel()
	if err := d.StartManager(ctx); err != nil {
		return err
	}
	var err error
	if d.dispatcher, err = d.NewDispatcher(ctx, namespace, "voice-agent-0"); err != nil {
		return err
	}
	if err := d.applySamples(ctx); err != nil {
		return err
	}
	if err := errors.Join(d.dispatcher.Trust(ctx), d.dispatcher.Start(ctx)); err != nil {
		return err
	}
	if err := d.watch(ctx, "webhookendpoints", d.dispatcherHasAll); err != nil {
		return err
	}
	if err := d.postAll(ctx); err != nil {
		return err
	}
	if err := d.watch(ctx, "deliveryattempts", d.allFinished); err != nil {
		return err
	}
	return d.watch(ctx, "webhookendpoints", d.allCounted)
}

func (d *demo) usage() {
	fmt.Printf(`
Everything stays up until you press Ctrl-C. In another terminal:

  export KUBECONFIG=%s
  alias kubectl=%s
  kubectl -n %[3]s get webhookendpoints
  kubectl -n %[3]s get deliveryattempts --field-selector status.outcome=Failed -o wide
  kubectl -n %[3]s describe webhookendpoint call-dashboard
  kubectl -n %[3]s annotate --overwrite whe onboarding-workflow webhooks.gary.club/requested-test=contact.created/1
  kubectl explain webhookendpoint.spec.retry
  curl -i -H 'Content-Type: application/json' -d @%[4]s %[5]s

Logs: %[6]s
Metrics: %[7]s
`, d.Kubeconfig(), d.KubectlPath(), namespace, filepath.Join(d.root, "hack/demo/events/call_completed.json"),
		d.dispatcher.EventsURL(), d.Logs(), d.MetricsURLs())
}

func say(format string, args ...any) { fmt.Printf("\n# "+format+"\n", args...) }
