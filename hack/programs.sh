# Copyright The webhook-operator Authors.
# SPDX-License-Identifier: Apache-2.0
#
# Sourced by the scripts that fill a folder of the cache with programs. The caller has sourced versions.env and sets
#   programs   the names that the folder must hold
#   label      what its lines begin with
# and then calls open_cache FOLDER. Whoever needs KEY from another script runs that: nothing here prints to stdout.
# shellcheck shell=bash disable=SC2154 # the caller sets programs and label

exec 3>&1 1>&2 # stdout is for the answer alone

say() { printf '%s: %s\n' "$label" "$*"; }
die() { say "error: $*"; exit 1; }

missing() { # missing FOLDER: the programs that are not there
  local p
  for p in $programs; do [ -x "$1/$p" ] || printf ' %s' "$p"; done
}

answer() { printf '%s\n' "$1" >&3; exit 0; }

# open_cache NAME: sets $want to the folder for this machine, and answers when it is filled already. Afterwards this
# process alone fills it, in $tmp, until it ends.
open_cache() {
  command -v go >/dev/null || die "go is not in PATH"
  # The caller's Go settings are for his own builds: these programs run on this machine, outside any workspace.
  os=$(go env GOHOSTOS)
  arch=$(go env GOHOSTARCH)
  export GOFLAGS=-mod=mod GOWORK=off CGO_ENABLED=0 GO111MODULE=on GOOS="$os" GOARCH="$arch"
  unset GOBIN GOEXPERIMENT

  cache=${WEBHOOK_OPERATOR_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/webhook-operator}
  mkdir -p "$cache"
  cache=$(cd "$cache" && pwd)
  want=$cache/$1-$os-$arch
  [ -n "$(missing "$want")" ] || answer "$want"

  trap cleanup EXIT
  trap 'exit 130' INT
  trap 'exit 143' TERM HUP
  lock
  [ -n "$(missing "$want")" ] || answer "$want" # somebody filled it while we waited
  # Left behind by runs that were killed. A folder's name says whose it is.
  local old owner
  for old in "$cache"/tmp.*; do
    owner=$(basename "$old" | cut -d. -f2)
    kill -0 "$owner" 2>/dev/null || remove "$old"
  done
  tmp=$(mktemp -d "$cache/tmp.$$.XXXXXX")
  mkdir -p "$tmp/out"
}

# close_cache: what lies in $tmp/out becomes the folder.
close_cache() {
  local m
  m=$(missing "$tmp/out")
  [ -z "$m" ] || die "incomplete:$m"
  # Filled aside and renamed: nobody ever sees half of it.
  if [ -n "$(missing "$want")" ]; then
    remove "$want"
    mv "$tmp/out" "$want"
  fi
  say "[$(elapsed)] ready: $want"
  answer "$want"
}

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
    tail -n 20 "$tmp/log" | sed "s/^/$label:   /"
  fi
  return "$rc"
}

# module FOLDER GO_VERSION: an empty module to build from; go build fills in what is missing (GOFLAGS=-mod=mod).
module() {
  mkdir -p "$1"
  printf 'module webhook-operator.invalid/programs\n\ngo %s\n' "$2" >"$1/go.mod"
}

mod_file() { # mod_file MODULE@VERSION: the path of its go.mod in the module cache
  go mod download -json "$1" | sed -n 's/^[[:space:]]*"GoMod": "\(.*\)",*$/\1/p'
}

go_version() { awk '$1 == "go" { print $2; exit }' "$1"; }


# build_kubernetes PROGRAM...: builds commands of Kubernetes $KUBERNETES_VERSION into $tmp/out.
build_kubernetes() {
  local k8s=k8s.io/kubernetes v=$KUBERNETES_VERSION mod m p ld set
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
  for m in "$@"; do
    step 0 /dev/null "building $m" go build -trimpath -ldflags "$ld" -o "$tmp/out/$m" "$k8s/cmd/$m"
  done
  cd "$cache"
}

# build_module NAME MODULE@VERSION TAGS PACKAGE...: builds main packages of one module, in a module of their own, so that
# none chooses another's dependencies.
build_module() {
  local name=$1 at=$2 tags=$3 p
  shift 3
  step 0 "$tmp/$name.path" "fetching ${at%@*} ${at#*@}" mod_file "$at"
  module "$tmp/$name" "$(go_version "$(cat "$tmp/$name.path")")"
  cd "$tmp/$name"
  go mod edit -require="$at"
  for p in "$@"; do
    step 0 /dev/null "building $(basename "$p")" go build -tags "$tags" -trimpath -ldflags '-s -w' -o "$tmp/out/" "$p"
  done
  cd "$cache"
}
