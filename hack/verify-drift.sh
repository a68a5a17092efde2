#!/usr/bin/env bash
# Copyright The webhook-operator Authors.
# SPDX-License-Identifier: Apache-2.0
#
# Proves that `make verify` fails when generated files were edited by hand, are missing or are too many: on a copy.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT

"$root/hack/copy-tree.sh" "$tmp/tree"
mkdir -p "$root/bin"
ln -s "$root/bin" "$tmp/tree/bin"
cd "$tmp/tree"
git init -q .
echo /bin >>.git/info/exclude # a link here, which .gitignore does not mean
git add -A . # verify looks at the index only

make verify-generated >"$tmp/log" 2>&1 || {
  cat "$tmp/log"
  echo "verify-drift: the tree is stale as it is; nothing can be proved" >&2
  exit 1
}

# must_fail WHAT TEXT: make verify fails and names TEXT.
must_fail() {
  if make verify >"$tmp/log" 2>&1; then
    echo "verify-drift: make verify passes with $1" >&2
    exit 1
  fi
  if ! grep -qF -- "$2" "$tmp/log"; then
    cat "$tmp/log"
    echo "verify-drift: make verify fails with $1, but not because of it" >&2
    exit 1
  fi
  echo "verify-drift: make verify fails with $1, as it should"
}

crd=$(find config/crd/bases -name '*.yaml' | sort | head -n 1)
cp "$crd" "$tmp/kept"

sed 's/maxLength: [0-9]*/maxLength: 7/' "$tmp/kept" >"$crd"
must_fail "a CRD edited by hand" "--- $crd"

rm "$crd"
must_fail "a CRD missing" "+++ $crd (generated)"
cp "$tmp/kept" "$crd"

cp "$tmp/kept" config/crd/bases/stray.yaml
git add config/crd/bases/stray.yaml
must_fail "a CRD that nothing generates" "--- config/crd/bases/stray.yaml"

git rm -q --cached config/crd/bases/stray.yaml
must_fail "an untracked file among generated ones" "not in git"
rm config/crd/bases/stray.yaml

make verify-generated >"$tmp/log" 2>&1 || {
  cat "$tmp/log"
  echo "verify-drift: verify fails on a clean tree" >&2
  exit 1
}
