#!/usr/bin/env bash
# Copyright The webhook-operator Authors.
# SPDX-License-Identifier: Apache-2.0
#
# Makes a mirror of the Go vulnerability database where vuln.go.dev cannot be reached, from the module golang.org/x/vulndb,
# which a module proxy has: its reports and its own program that indexes them. Prints the mirror's folder. The reports in
# the module carry no time of change, so the mirror is as old as the module's version.
#
#   VULNDB_VERSION   of the module; latest by default
set -euo pipefail

version=${VULNDB_VERSION:-latest}
made=
cd "$(mktemp -d)" # outside of any module
trap 'rm -rf "$PWD" ${made:+"$made"}' EXIT
field() { sed -nE "s/^\t\"$1\": \"(.*)\",?$/\1/p" module.json; }

GOFLAGS=-mod=mod go mod download -json "golang.org/x/vulndb@$version" >module.json
version=$(field Version)
mirror=${XDG_CACHE_HOME:-$HOME/.cache}/webhook-operator/vulndb-$version
if ! [ -e "$mirror/index/db.json" ]; then
  modified=$(sed -nE 's/.*"Time":"([^"]+)".*/\1/p' "$(field Info)")
  [ -n "$modified" ]
  mkdir -p "$(dirname "$mirror")"
  made=$(mktemp -d "$mirror.XXXXXX") # on the same file system, so that mv is a rename: whole or not at all
  go run "golang.org/x/vulndb/cmd/indexdb@$version" -vulns "$(field Dir)/data/osv" -out "$made/db" >&2
  printf '{"modified":"%s"}' "$modified" >"$made/db/index/db.json"
  gzip -c "$made/db/index/db.json" >"$made/db/index/db.json.gz"
  [ -e "$mirror/index/db.json" ] || rm -rf "$mirror"
  mv -T "$made/db" "$mirror" || [ -e "$mirror/index/db.json" ] # or somebody else was faster
fi
printf '%s\n' "$mirror"
