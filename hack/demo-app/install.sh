#!/usr/bin/env bash
# install.sh OUT: the packages that the browser's script needs, as package-lock.json pins them.
set -euo pipefail
out=$1
mkdir "$out"
cp "$(dirname "$0")"/package{,-lock}.json "$out/"
cd "$out"
npm ci --no-audit --no-fund
