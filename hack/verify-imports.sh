#!/usr/bin/env bash
# Copyright The webhook-operator Authors.
# SPDX-License-Identifier: Apache-2.0
#
# Proves that depguard in .golangci.yml holds the direction of imports. In a module of stubs with the same path, every
# package imports every other in a file of its own; the linter must complain about exactly those that the table below
# forbids. And every package of the real tree must be in the table.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
linter=${GOLANGCI_LINT:?the path of golangci-lint}
module=$(awk '$1 == "module" { print $2 }' "$root/go.mod")

domain="internal/event internal/endpoint internal/delivery internal/sign internal/backoff internal/sample internal/version"
stages="internal/ingest internal/deliver internal/outbox internal/record internal/handover"
infrastructure="internal/queue internal/control internal/egress internal/callers"
reconciling="internal/reconcile internal/conditions"
injection="internal/inject"
assemblies="internal/dispatcher internal/manager"
all="api $domain $stages $infrastructure $reconciling $injection controllers $assemblies cmd internal/fixture hack/demo test"

# may_import PACKAGE: what it may import, besides what lies below itself.
may_import() {
  case $1 in
    api) ;;
    internal/ingest | internal/deliver | internal/outbox | internal/handover | internal/queue | internal/egress) echo "$domain" ;;
    internal/record | internal/control | internal/callers) echo "api $domain" ;;
    internal/inject) echo "api" ;;
    internal/reconcile | internal/conditions) echo "api $reconciling" ;;
    controllers) echo "api $domain $reconciling internal/deliver internal/egress" ;;
    internal/dispatcher | internal/manager) echo "api controllers $domain $stages $infrastructure $reconciling $injection $assemblies" ;;
    cmd) echo "api controllers $assemblies internal/version" ;;
    internal/fixture | hack/demo | test) echo "$all" ;;
    *) echo "$domain" ;;
  esac
}

has() { case " $1 " in *" $2 "*) ;; *) return 1 ;; esac; }

# 1. Every package of the tree has its place in the table.
rc=0
while read -r folder; do
  for p in $all hack; do
    case $folder/ in "$p"/*) continue 2 ;; esac
  done
  echo "verify-imports: $folder is new: give it a rule in .golangci.yml and a place in hack/verify-imports.sh" >&2
  rc=1
done < <(cd "$root" && find . -name '*.go' -not -path './bin/*' | sed 's|^\./||' | xargs -n 1 dirname | sort -u)

# 2. The rules say what the table says.
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
cp "$root/.golangci.yml" "$tmp/"
cd "$tmp"
printf 'module %s\n\ngo 1.26.0\n' "$module" >go.mod
for p in $all; do
  mkdir -p "$p/leaf"
  echo 'package leaf' >"$p/leaf/leaf.go"
  for q in $all; do
    n=imports_$(tr / _ <<<"$q")
    printf 'package probe\n\nimport _ "%s/%s/leaf"\n' "$module" "$q" >"$p/$n.go"
    cp "$p/$n.go" "$p/${n}_test.go"
    if [ "$p" = "$q" ] || has "$(may_import "$p")" "$q"; then continue; fi
    # Tests may import fixtures; otherwise they are bound as their package is.
    echo "$p/$n.go" >>forbidden
    [ "$q" = internal/fixture ] || echo "$p/${n}_test.go" >>forbidden
  done
done
sort -o forbidden forbidden
"$linter" run --enable-only depguard --output.text.path=stdout --output.text.print-issued-lines=false --show-stats=false \
  >log 2>&1 || true
if grep -v '(depguard)$' log; then
  echo "verify-imports: the linter did not run" >&2
  exit 1
fi
cut -d: -f1 log | sort -u >refused
comm -23 forbidden refused | sed 's/^/verify-imports: the linter accepts /' >&2
comm -13 forbidden refused | sed 's/^/verify-imports: the linter refuses /' >&2
cmp -s forbidden refused || rc=1
[ "$rc" -ne 0 ] || echo "verify-imports: $(wc -l <forbidden | tr -d ' ') wrong imports refused, all others accepted"
exit "$rc"
