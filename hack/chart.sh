#!/usr/bin/env bash
# Copyright The webhook-operator Authors.
# SPDX-License-Identifier: Apache-2.0
#
# Copies into the chart what it shares with config/: a chart can read files of its own folder only.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
files=charts/webhook-operator/files
rm -rf "$files"
mkdir -p "$files/crds" "$files/gateway"
cp config/crd/bases/*.yaml "$files/crds/"
cp config/rbac/role.yaml config/rbac/*_role.yaml config/crd/redelivery_requester.yaml config/policy/flow_control.yaml "$files/"
for file in config/gateway/*.yaml; do
  [ "$(basename "$file")" = kustomization.yaml ] || cp "$file" "$files/gateway/"
done
