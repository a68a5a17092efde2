#!/usr/bin/env bash
# Copyright The webhook-operator Authors.
# SPDX-License-Identifier: Apache-2.0
#
# Usage: control-plane.sh [VERSION]
#
# Prints the folder that holds etcd, kube-apiserver and kubectl. Nothing else goes to stdout. VERSION is a Kubernetes
# version other than the pinned one, for example the oldest that is supported.
#
# Looked for in this order:
#   1. $KUBEBUILDER_ASSETS, when set and no VERSION is named;
#   2. the cache: ${WEBHOOK_OPERATOR_CACHE:-${XDG_CACHE_HOME:-~/.cache}/webhook-operator};
#   3. a download by setup-envtest;
#   4. a build from the Go modules, which needs a Go module proxy only: 5 to 10 minutes on 2 cores, once.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=versions.env
. "$here/versions.env"
# shellcheck source=programs.sh
. "$here/programs.sh"

label=control-plane
programs="etcd kube-apiserver kubectl"
index_seconds=20     # to read the download index: an offline machine should go on soon
download_seconds=600 # to fetch about 80 MB

if [ -n "${1:-}" ]; then
  KUBERNETES_VERSION=$1
elif [ -n "${KUBEBUILDER_ASSETS:-}" ]; then
  m=$(missing "$KUBEBUILDER_ASSETS")
  [ -z "$m" ] || die "KUBEBUILDER_ASSETS=$KUBEBUILDER_ASSETS lacks$m; complete that folder or unset the variable"
  answer "$(cd "$KUBEBUILDER_ASSETS" && pwd)"
fi

download() {
  local tool=$tmp/bin/setup-envtest minor=${KUBERNETES_VERSION%.*} path m
  mkdir -p "$tmp/bin" "$tmp/store"
  GOBIN=$tmp/bin step 300 /dev/null "go install setup-envtest $SETUP_ENVTEST_VERSION" \
    go install "sigs.k8s.io/controller-runtime/tools/setup-envtest@$SETUP_ENVTEST_VERSION" || return 1
  # Asked for on its own, so that a machine without a way out loses seconds and not the time of a download.
  step "$index_seconds" "$tmp/index" "reading the index of prebuilt binaries" \
    "$tool" list "$minor.x" --os "$os" --arch "$arch" --bin-dir "$tmp/store" || return 1
  if ! grep -q available "$tmp/index"; then
    say "no prebuilt binaries of Kubernetes $minor for $os/$arch"
    return 1
  fi
  step "$download_seconds" "$tmp/path" "downloading Kubernetes $minor for $os/$arch" \
    "$tool" use "$minor.x!" --os "$os" --arch "$arch" --bin-dir "$tmp/store" -p path || return 1
  path=$(cat "$tmp/path")
  m=$(missing "$path")
  if [ -n "$m" ]; then
    say "the download lacks$m"
    return 1
  fi
  mkdir -p "$tmp/out"
  for m in $programs; do cp "$path/$m" "$tmp/out/$m"; done
}

build() {
  build_module etcd "go.etcd.io/etcd/server/v3@v$ETCD_VERSION" "" go.etcd.io/etcd/server/v3
  # The package is called server.
  [ ! -e "$tmp/out/server" ] || mv "$tmp/out/server" "$tmp/out/etcd"
  build_kubernetes kube-apiserver kubectl
}

open_cache "kubernetes-$KUBERNETES_VERSION"
say "Kubernetes $KUBERNETES_VERSION is not in $cache yet"
if ! download; then
  say "no download; building from the Go modules (5 to 10 minutes on 2 cores, once)"
  rm -rf "$tmp/out"
  mkdir -p "$tmp/out"
  build
fi
close_cache
