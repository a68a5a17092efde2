#!/usr/bin/env bash
# Copyright The webhook-operator Authors.
# SPDX-License-Identifier: Apache-2.0
#
# The tests of test/node on a real node: builds the node's programs and this tree's images, starts the node in a network
# namespace, runs the tests inside of it, and stops it. KEEP=1 leaves it running to be looked at; RUN is a pattern of tests.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
root=$PWD
images=$root/dist/node
mkdir -p "$images"

hack/node.sh check || {
  echo '!!! e2e-node: NOT RUN, this machine cannot run a node for the reasons above. hack/node.sh deps installs what is missing.'
  exit 1
}

# Two versions of the dispatcher, to go from one to the other over the same queue.
for version in v0.0.1-test v0.0.2-test; do
  make build VERSION=$version BIN="$images/$version"
  for name in manager dispatcher; do
    bin/oci -name "webhook-operator/$name:$version" -user 65532:65532 -out "$images/$name-$version.tar" "$images/$version/$name"
  done
done
CGO_ENABLED=0 go build -tags node -trimpath -o "$images/node-app" ./test/node/app
bin/oci -name webhook-operator/node-app:test -out "$images/node-app.tar" "$images/node-app"
go test -tags node -c -o "$images/node.test" ./test/node

stop() { [ -n "${KEEP:-}" ] || "$root/hack/node.sh" down; }
trap stop EXIT
hack/node.sh up
hack/node.sh load "$images"/*.tar
cd test/node
"$root/hack/node.sh" exec "$images/node.test" -test.v -test.count=1 -test.timeout 40m ${RUN:+-test.run "$RUN"}
