#!/usr/bin/env bash
# Copyright The webhook-operator Authors.
# SPDX-License-Identifier: Apache-2.0
#
# Fails when the packages (by default those of the binaries) call what the Go vulnerability database knows to be
# vulnerable, with status 3; when there is no database to tell it by, or not the toolchain, with status 4; and when the check
# itself fails, with status 5. It never passes without a database. The standard library is judged as it is in the toolchain
# that go.mod names, which the release is built with, whichever go runs here.
#
#   GOVULNDB               the database; by default https://vuln.go.dev, or where that cannot be reached the mirror that
#                          hack/vulndb.sh makes. file:///FOLDER is a mirror
#   VULNDB_MAX_AGE_DAYS    how old a mirror may be: 14 by default, 45 for one that is made, since a module proxy is behind
#   GOVULNCHECK            the tool: bin/govulncheck-VERSION by default, which make installs
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"
. hack/versions.env
database=${GOVULNDB:-https://vuln.go.dev}
max_age=${VULNDB_MAX_AGE_DAYS:-14}
tool=${GOVULNCHECK:-bin/govulncheck-$GOVULNCHECK_VERSION}
packages=("$@")
[ "${#packages[@]}" -gt 0 ] || packages=(./cmd/...)

untold() { # untold REASON
  printf '!!! vulnerabilities: NOT CHECKED: %s\n' "$1" >&2
  printf '!!! Set GOVULNDB to a database that can be read from here: file:///FOLDER with a mirror of https://vuln.go.dev.\n' >&2
  exit 4
}

broken() { # broken REASON
  printf '!!! vulnerabilities: THE CHECK FAILED: %s\n' "$1" >&2
  exit 5
}

# A mirror that is empty, or was forgotten, would find nothing for ever.
check_mirror() { # check_mirror FOLDER
  local modified age
  [ -r "$1/index/db.json" ] && [ -r "$1/index/modules.json" ] || untold "$database has no index/db.json and index/modules.json"
  grep -Eq '"path": *"stdlib"' "$1/index/modules.json" || untold "$database knows nothing of the standard library, so it is no whole mirror"
  modified=$(sed -nE 's/.*"modified": *"([^"]+)".*/\1/p' "$1/index/db.json" | head -n 1)
  [ -n "$modified" ] || untold "$database does not say how old it is"
  modified=$(date -d "$modified" +%s) || untold "$database does not say how old it is"
  age=$((($(date +%s) - modified) / 86400))
  [ "$age" -le "$max_age" ] || untold "$database is $age days old, more than $max_age (VULNDB_MAX_AGE_DAYS)"
  echo "the mirror is $age days old"
}

GOTOOLCHAIN=${GOTOOLCHAIN:-$(sed -nE 's/^toolchain (.*)$/\1/p' go.mod)}
export GOTOOLCHAIN
go version || untold "the toolchain $GOTOOLCHAIN cannot be had"

[ -x "$tool" ] || broken "$tool is not there: make installs it"
reached() { curl -fsS -m 10 -o /dev/null "$database/index/db.json" 2>/dev/null; }
if [ -z "${GOVULNDB:-}" ] && ! reached; then
  mirror=$(hack/vulndb.sh) || untold "$database cannot be reached, and no mirror can be made"
  database=file://$mirror max_age=${VULNDB_MAX_AGE_DAYS:-45}
fi
# What the tool fails at from here on is no matter of reach.
case $database in
  file://*) check_mirror "${database#file://}" ;;
  *) reached || untold "$database cannot be reached" ;;
esac
status=0
"$tool" -db "$database" -scan symbol "${packages[@]}" || status=$?
case $status in
  0) echo "no known vulnerability is called, by $database" ;;
  3) echo "!!! vulnerabilities: FOUND, see above: update what is named, or the Go toolchain" >&2 ;;
  *) broken "govulncheck ended with status $status, see above" ;;
esac
exit "$status"
