#!/usr/bin/env bash
# Copyright The webhook-operator Authors.
# SPDX-License-Identifier: Apache-2.0
#
# copy-tree.sh FOLDER: copies the working tree there as it is now, uncommitted changes included, ignored files not.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
mkdir -p "$1"
to=$(cd "$1" && pwd)
cd "$root"
if git rev-parse --git-dir >/dev/null 2>&1; then
  git ls-files -z --cached --others --exclude-standard
else
  find . \( -path ./bin -o -path ./.cache \) -prune -o -type f -print0
fi | while IFS= read -r -d '' file; do
  # A file that was deleted and not yet staged is still listed.
  if [ -e "$file" ] || [ -L "$file" ]; then printf '%s\0' "$file"; fi
done | tar --null -T - -cf - | tar -xf - -C "$to"
