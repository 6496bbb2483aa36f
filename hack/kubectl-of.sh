#!/usr/bin/env bash
# kubectl-of.sh IMAGE OUT: takes the kubectl out of a node image.
set -euo pipefail
mkdir "$2"
container=$(docker create "$1")
trap 'docker rm -f "$container" >/dev/null' EXIT
docker cp -L "$container:/usr/bin/kubectl" "$2/kubectl"
