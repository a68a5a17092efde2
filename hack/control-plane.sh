#!/usr/bin/env bash
# Copyright The webhook-operator Authors.
# SPDX-License-Identifier: Apache-2.0
#
# Prints the folder that holds etcd, kube-apiserver and kubectl. Nothing else goes to stdout.
#
# Looked for in this order:
#   1. $KUBEBUILDER_ASSETS, when set;
#   2. the cache: ${WEBHOOK_OPERATOR_CACHE:-${XDG_CACHE_HOME:-~/.cache}/webhook-operator};
#   3. a download by setup-envtest;
#   4. a build from the Go modules, which needs a Go module proxy only: 5 to 10 minutes on 2 cores, once.
set -euo pipefail

exec 3>&1 1>&2 # stdout is for the answer alone

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=versions.env
. "$here/versions.env"

programs="etcd kube-apiserver kubectl"
index_seconds=20     # to read the download index: an offline machine should go on soon
download_seconds=600 # to fetch about 80 MB

say() { printf 'control-plane: %s\n' "$*"; }
die() { say "error: $*"; exit 1; }

missing() { # missing FOLDER: the programs that are not there
  local p
  for p in $programs; do [ -x "$1/$p" ] || printf ' %s' "$p"; done
}

answer() { printf '%s\n' "$1" >&3; exit 0; }

if [ -n "${KUBEBUILDER_ASSETS:-}" ]; then
  m=$(missing "$KUBEBUILDER_ASSETS")
  [ -z "$m" ] || die "KUBEBUILDER_ASSETS=$KUBEBUILDER_ASSETS lacks$m; complete that folder or unset the variable"
  answer "$(cd "$KUBEBUILDER_ASSETS" && pwd)"
fi

command -v go >/dev/null || die "go is not in PATH"
# The caller's Go settings are for his own builds: these programs run on this machine, outside any workspace.
os=$(go env GOHOSTOS)
arch=$(go env GOHOSTARCH)
export GOFLAGS=-mod=mod GOWORK=off CGO_ENABLED=0 GO111MODULE=on GOOS="$os" GOARCH="$arch"
unset GOBIN GOEXPERIMENT

cache=${WEBHOOK_OPERATOR_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/webhook-operator}
mkdir -p "$cache"
cache=$(cd "$cache" && pwd)
want=$cache/kubernetes-$KUBERNETES_VERSION-$os-$arch

[ -n "$(missing "$want")" ] || answer "$want"

tmp=
child=
cleanup() {
  local rc=$?
  trap - EXIT INT TERM HUP
  if [ -n "$child" ]; then
    kill "$child" 2>/dev/null || true
    wait "$child" 2>/dev/null || true
  fi
  remove "$tmp"
  if [ "${locked:-}" = dir ]; then rm -rf "$cache/lock.d"; fi
  exit "$rc"
}
remove() { # setup-envtest makes its folders read-only
  [ -n "$1" ] && [ -e "$1" ] || return 0
  chmod -R u+w "$1" 2>/dev/null || true
  rm -rf "$1"
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

# One at a time: whoever comes second waits, and then finds the cache filled.
locked=
lock() {
  local said=
  if command -v flock >/dev/null; then
    # The descriptor is inherited by go, so the lock outlives a killed script for as long as its build runs.
    exec 9>"$cache/lock"
    if ! flock -n 9; then
      say "another run is filling $want; waiting for it"
      flock 9
    fi
    locked=flock
    return
  fi
  until mkdir "$cache/lock.d" 2>/dev/null; do
    local owner
    owner=$(cat "$cache/lock.d/pid" 2>/dev/null || true)
    if [ -n "$owner" ] && ! kill -0 "$owner" 2>/dev/null; then
      rm -rf "$cache/lock.d" # its owner was killed
      continue
    fi
    [ -n "$said" ] || say "another run (process ${owner:-unknown}; lock $cache/lock.d) is filling $want; waiting for it"
    said=1
    sleep 1
  done
  echo "$$" >"$cache/lock.d/pid"
  locked=dir
}

elapsed() { printf '%dm%02ds' $((SECONDS / 60)) $((SECONDS % 60)); }

# step SECONDS OUTPUT NAME COMMAND...: runs it with a time limit (0: none), its stdout to OUTPUT, and shows that it lives.
step() {
  local limit=$1 out=$2 name=$3 begin=$SECONDS rc=0
  shift 3
  say "[$(elapsed)] $name"
  "$@" >"$out" 2>"$tmp/log" 3>&- &
  child=$!
  while kill -0 "$child" 2>/dev/null; do
    sleep 1
    local took=$((SECONDS - begin))
    if [ "$limit" -gt 0 ] && [ "$took" -ge "$limit" ]; then
      kill "$child" 2>/dev/null || true
      wait "$child" 2>/dev/null || true
      child=
      say "[$(elapsed)] $name: gave up after ${took} s"
      return 1
    fi
    if [ $((took % 30)) -eq 0 ] && [ "$took" -gt 0 ]; then say "[$(elapsed)] $name: running for ${took} s"; fi
  done
  wait "$child" || rc=$?
  child=
  if [ "$rc" -ne 0 ]; then
    say "[$(elapsed)] $name: failed ($rc)"
    tail -n 20 "$tmp/log" | sed 's/^/control-plane:   /'
  fi
  return "$rc"
}

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

# module FOLDER GO_VERSION: an empty module to build from; go build fills in what is missing (GOFLAGS=-mod=mod).
module() {
  mkdir -p "$1"
  printf 'module webhook-operator.invalid/control-plane\n\ngo %s\n' "$2" >"$1/go.mod"
}

mod_file() { # mod_file MODULE@VERSION: the path of its go.mod in the module cache
  go mod download -json "$1" | sed -n 's/^[[:space:]]*"GoMod": "\(.*\)",*$/\1/p'
}

go_version() { awk '$1 == "go" { print $2; exit }' "$1"; }

build() {
  local k8s=k8s.io/kubernetes etcd=go.etcd.io/etcd/server/v3 v=$KUBERNETES_VERSION mod m p ld set
  mkdir -p "$tmp/out"

  # Modules of their own, so that neither chooses the other's dependencies.
  step 0 "$tmp/etcd.path" "fetching $etcd v$ETCD_VERSION" mod_file "$etcd@v$ETCD_VERSION"
  module "$tmp/etcd" "$(go_version "$(cat "$tmp/etcd.path")")"
  (cd "$tmp/etcd" && go mod edit -require="$etcd@v$ETCD_VERSION")
  cd "$tmp/etcd"
  step 0 /dev/null "building etcd" go build -trimpath -ldflags '-s -w' -o "$tmp/out/etcd" "$etcd"

  step 0 "$tmp/k8s.path" "fetching $k8s v$v" mod_file "$k8s@v$v"
  mod=$(cat "$tmp/k8s.path")
  module "$tmp/kubernetes" "$(go_version "$mod")"
  cd "$tmp/kubernetes"
  # Kubernetes requires its staging modules at v0.0.0 and replaces them by folders that its module lacks;
  # they are published as v0.<minor>.<patch>.
  set="-require=$k8s@v$v"
  for m in $(awk '$1 ~ /^k8s\.io\// && $2 == "v0.0.0" { print $1 }' "$mod"); do
    set="$set -replace=$m=$m@v0.${v#*.}"
  done
  # shellcheck disable=SC2086 # a list of flags without blanks in them
  go mod edit $set
  p=k8s.io/component-base/version
  ld="-s -w -X $p.gitVersion=v$v -X $p.gitMajor=${v%%.*} -X $p.gitMinor=$(echo "$v" | cut -d. -f2) -X $p.gitTreeState=clean"
  for m in kube-apiserver kubectl; do
    step 0 /dev/null "building $m" go build -trimpath -ldflags "$ld" -o "$tmp/out/$m" "$k8s/cmd/$m"
  done
  cd "$cache"
}

lock
[ -n "$(missing "$want")" ] || answer "$want" # somebody filled it while we waited

# Left behind by runs that were killed. A folder's name says whose it is.
for old in "$cache"/tmp.*; do
  owner=$(basename "$old" | cut -d. -f2)
  kill -0 "$owner" 2>/dev/null || remove "$old"
done
tmp=$(mktemp -d "$cache/tmp.$$.XXXXXX")

say "Kubernetes $KUBERNETES_VERSION is not in $cache yet"
if ! download; then
  say "no download; building from the Go modules (5 to 10 minutes on 2 cores, once)"
  rm -rf "$tmp/out"
  build
fi

m=$(missing "$tmp/out")
[ -z "$m" ] || die "incomplete:$m"
# Filled aside and renamed: nobody ever sees half of it.
if [ -n "$(missing "$want")" ]; then
  remove "$want"
  mv "$tmp/out" "$want"
fi
say "[$(elapsed)] ready: $want"
answer "$want"
