#!/usr/bin/env bash
# Copyright The webhook-operator Authors.
# SPDX-License-Identifier: Apache-2.0
#
# Builds binaries and image archives in two copies of the tree, in folders of other names and depths, the first within a git
# repository and the second in none and with an empty build cache, and fails when a byte differs. Then it builds once more
# under another version, to show that a difference is seen. Some minutes, most of them the empty cache's.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
tmp=$(mktemp -d)
trap 'chmod -R u+w "$tmp" && rm -rf "$tmp"' EXIT
# The CAs of the images are the builder's choice; the same for both here.
printf -- '-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n' >"$tmp/ca.crt"

# Go's default, whatever is set where this runs: the state of a repository that a build is made in is told to the binary.
export GOFLAGS=-buildvcs=auto

commit() { # commit FOLDER: makes it a git repository with one commit
  git -C "$1" init -q
  git -C "$1" add -A
  git -C "$1" -c user.name=reproducible -c user.email=reproducible@example.com -c commit.gpgSign=false -c core.hooksPath=/dev/null \
    commit -q -m 'a commit'
}

sums() { # sums FOLDER VERSION: builds there and prints what came out
  (cd "$1" && make oci VERSION="$2" CA_CERTIFICATES="$tmp/ca.crt") >"$tmp/log" 2>&1 || {
    cat "$tmp/log" >&2
    echo "reproducible: the build in $1 fails" >&2
    return 1
  }
  (cd "$1" && sha256sum bin/manager bin/dispatcher dist/manager.tar dist/dispatcher.tar)
}

"$root/hack/copy-tree.sh" "$tmp/one"
"$root/hack/copy-tree.sh" "$tmp/another-folder/of/another/depth"
commit "$tmp/one"
first=$(sums "$tmp/one" v0.0.0-reproducible)
second=$(GOCACHE=$tmp/cache sums "$tmp/another-folder/of/another/depth" v0.0.0-reproducible)
echo "$first"
if [ "$first" != "$second" ]; then
  printf 'the second build:\n%s\n' "$second"
  echo "reproducible: two builds of the same tree differ" >&2
  exit 1
fi
other=$(sums "$tmp/one" v0.0.0-another)
while read -r sum file; do
  if grep -qF "$sum" <<<"$first"; then
    echo "reproducible: $file of another version has the same bytes, so this check sees nothing" >&2
    exit 1
  fi
done <<<"$other"
echo "two builds are the same, byte for byte"
