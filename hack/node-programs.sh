#!/usr/bin/env bash
# Copyright The webhook-operator Authors.
# SPDX-License-Identifier: Apache-2.0
#
# Prints the folder that holds what a Kubernetes node and its control plane's controllers need: built from the Go modules
# once, about 10 minutes on 2 cores, and kept in the cache of control-plane.sh. Nothing else goes to stdout.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=versions.env
. "$here/versions.env"
# shellcheck source=programs.sh
. "$here/programs.sh"

label=node
programs="kube-controller-manager kube-scheduler kubelet kube-proxy containerd containerd-shim-runc-v2 ctr coredns pause"

# What the first container of a pod runs: nothing, and it buries the dead.
pause() {
  module "$tmp/pause" 1.26.0
  cat >"$tmp/pause/main.go" <<'GO'
package main

import (
	"os"
	"os/signal"
	"syscall"
)

func main() {
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGCHLD)
	for s := range signals {
		if s != syscall.SIGCHLD {
			return
		}
		for pid := 1; pid > 0; {
			pid, _ = syscall.Wait4(-1, nil, syscall.WNOHANG, nil)
		}
	}
}
GO
  cd "$tmp/pause"
  step 0 /dev/null "building pause" go build -trimpath -ldflags '-s -w' -o "$tmp/out/pause" .
  cd "$cache"
}

open_cache "node-$KUBERNETES_VERSION-$CONTAINERD_VERSION-$COREDNS_VERSION"
say "the programs of a node are not in $cache yet: building them from the Go modules (about 10 minutes on 2 cores, once)"
pause
containerd=github.com/containerd/containerd/v2
build_module containerd "$containerd@v$CONTAINERD_VERSION" "no_btrfs no_zfs no_devmapper" \
  $containerd/cmd/containerd $containerd/cmd/containerd-shim-runc-v2 $containerd/cmd/ctr
build_module coredns "github.com/coredns/coredns@v$COREDNS_VERSION" "" github.com/coredns/coredns
build_kubernetes kube-controller-manager kube-scheduler kubelet kube-proxy
close_cache
