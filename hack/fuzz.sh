#!/usr/bin/env bash
# Copyright The webhook-operator Authors.
# SPDX-License-Identifier: Apache-2.0
#
# Runs every fuzz target of the module for $FUZZTIME each: go test takes one target of one package at a time.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
count=0
while IFS=: read -r file line; do
  name=$(sed 's/^func \(Fuzz[A-Za-z0-9_]*\).*/\1/' <<<"$line")
  package=./$(dirname "$file")
  echo "== $package $name (${FUZZTIME:-60s})"
  go test "$package" -run '^$' -fuzz "^$name\$" -fuzztime "${FUZZTIME:-60s}" -fuzzminimizetime 10x </dev/null
  count=$((count + 1))
done < <(git ls-files --cached --others --exclude-standard '*_test.go' | xargs grep -H '^func Fuzz' | sort)
echo "$count fuzz targets"
