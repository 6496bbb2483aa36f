#!/usr/bin/env bash
# build.sh HASH OUT: HAProxy from Debian sid. Its pods run as the user of the official image, by number.
# OUT is a folder: image.tar, and ref, the image's name.
set -euo pipefail
hash=$1 out=$2
hack=$(cd "$(dirname "$0")/../../hack" && pwd)
mkdir "$out"

# shellcheck disable=SC2016 # mmdebstrap expands $1
"$hack/debian.sh" sid "$out/root.tar" --variant=minbase \
	--include=haproxy \
	--customize-hook='chroot "$1" haproxy -v >'"$out/version"

version=$(sed -nE 's/^HAProxy version ([0-9]+\.[0-9]+\.[0-9]+).*/\1/p' "$out/version")
[ -n "$version" ] || { echo "no version in: $(cat "$out/version")" >&2; exit 1; }
ref=multimaster/haproxy:$version-$hash
"$hack/pack.sh" "$out/root.tar" "$out/image.tar" \
	'{"Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"], "Cmd": ["haproxy"]}' \
	"$ref" "multimaster/haproxy:$version"
rm "$out/root.tar" "$out/version"
echo "$ref" >"$out/ref"
