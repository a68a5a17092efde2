#!/usr/bin/env bash
# Copyright The webhook-operator Authors.
# SPDX-License-Identifier: Apache-2.0
#
# Runs every fuzz target of the module for $FUZZTIME each (60s): go test takes one target of one package at a time. Prints
# a table of them: executions, inputs that reached something new, and the verdict. $FUZZPARALLEL bounds the workers of a
# target, $FUZZ is a pattern for what to run, as in FUZZ='internal/(event|sign) '. Fails when a target does, and goes on
# with the others.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
time=${FUZZTIME:-60s}
parallel=${FUZZPARALLEL:+-test.parallel=$FUZZPARALLEL}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# targets prints "package name" of each.
targets() {
  git ls-files --cached --others --exclude-standard '*_test.go' | sort | xargs grep -H '^func Fuzz' |
    sed -E 's|^(.*)/[^/]*:func (Fuzz[A-Za-z0-9_]*).*|./\1 \2|' | { grep -E -- "${FUZZ:-.}" || true; }
}

row() { printf '%-28s %-32s %12s %8s %8s  %s\n' "$@"; }

# last prints the last number behind a word of a target's progress.
last() { sed -nE "s/.*$1: ([0-9]+).*/\1/p" "$2" | tail -n 1; }

# out_of_time says whether a target failed by nothing but the end of its time, which catches a worker now and then
# (https://go.dev/issue/75804).
out_of_time() { grep -q '^ *context deadline exceeded$' "$1" && ! grep -qE 'Failing input|panic|_test\.go:' "$1"; }

count=0 failed=0 begin=$SECONDS compiled=
row PACKAGE TARGET EXECUTIONS NEW SECONDS RESULT
while read -r package name; do
  count=$((count + 1)) start=$SECONDS result=ok log="$work/$name.log" binary="$work/fuzz.test"
  # Compiled once for all targets of a package. A worker is this binary again, so it needs the package's folder.
  if [[ $package != "$compiled" ]]; then
    go test -c -fuzz=Fuzz -o "$binary" "$package"
    compiled=$package
  fi
  cache=$(go env GOCACHE)/fuzz/$(go list "$package")
  # shellcheck disable=SC2086 # $parallel is one argument or none
  if ! (cd "$package" && "$binary" -test.run '^$' -test.fuzz "^$name\$" -test.fuzztime "$time" \
    -test.fuzzminimizetime 10x -test.fuzzcachedir "$cache" $parallel) >"$log" 2>&1 </dev/null && ! out_of_time "$log"; then
    result=FAILED failed=$((failed + 1))
  fi
  row "${package#./}" "$name" "$(last execs "$log")" "$(last 'new interesting' "$log")" $((SECONDS - start)) "$result"
  if [[ $result != ok ]]; then
    sed 's/^/    /' "$log"
  fi
done < <(targets)

echo "$count fuzz targets in $((SECONDS - begin)) s, $failed failed"
if ((count == 0 || failed > 0)); then
  exit 1
fi
