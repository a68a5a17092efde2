#!/usr/bin/env bash
# Copyright The webhook-operator Authors.
# SPDX-License-Identifier: Apache-2.0
#
# Fails when generated files are not what their sources give, or when a file under their paths is not in git.
# The arguments are those paths, as patterns. It generates in a copy of the tree and leaves the tree alone.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
patterns=("$@")
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
rc=0

generated() { # generated FOLDER: the files under the patterns
  local pattern path
  cd "$1"
  for pattern in "${patterns[@]}"; do
    for path in $pattern; do
      [ ! -e "$path" ] || find "$path" -type f
    done
  done | sort
}

"$root/hack/copy-tree.sh" "$tmp/tree"
ln -sfn "$root/bin" "$tmp/tree/bin" # the tools
# Made from nothing, so that a file which is generated no longer is noticed too.
(generated "$tmp/tree") | while read -r file; do rm "$tmp/tree/$file"; done
(cd "$tmp/tree" && make generate manifests api-docs) >"$tmp/log" 2>&1 || {
  cat "$tmp/log"
  echo "verify: generating fails" >&2
  exit 1
}

while read -r file; do
  old=$root/$file new=$tmp/tree/$file
  [ -e "$old" ] || old=/dev/null
  [ -e "$new" ] || new=/dev/null
  diff -u -L "$file" -L "$file (generated)" "$old" "$new" || rc=1
done < <({ (generated "$root"); (generated "$tmp/tree"); } | sort -u)
[ "$rc" -eq 0 ] || echo "verify: generated files differ: run 'make generate manifests api-docs' and commit what it writes" >&2

if git -C "$root" rev-parse --git-dir >/dev/null 2>&1; then
  untracked=$(git -C "$root" ls-files --others -- "${patterns[@]}")
  if [ -n "$untracked" ]; then
    printf 'verify: not in git, under a path of generated files:\n%s\n' "$untracked" >&2
    rc=1
  fi
else
  echo "verify: not a git checkout, so untracked files are not looked for" >&2
fi
exit "$rc"
