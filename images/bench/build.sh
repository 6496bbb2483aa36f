#!/usr/bin/env bash
# build.sh HASH OUT: the tools of `make bench-balancer`, all from Debian: the balancer PEN to compare with, httperf and
# sysbench to measure with, gnuplot to draw.
# OUT is a folder: image.tar, and ref, the image's name.
set -euo pipefail
hash=$1 out=$2
hack=$(cd "$(dirname "$0")/../../hack" && pwd)
mkdir "$out"

# A library that is missing is to be noticed here.
# shellcheck disable=SC2016 # mmdebstrap expands $1
"$hack/debian.sh" bookworm "$out/root.tar" --variant=minbase \
	--include=pen,httperf,sysbench,gnuplot-nox,tini \
	--customize-hook='for tool in pen httperf sysbench gnuplot; do chroot "$1" sh -c "ldd \$(command -v $tool) >/dev/null"; done' \
	--customize-hook='chroot "$1" dpkg-query -W -f "\${Version}" pen >'"$out/version"

version=$(sed -nE 's/^([0-9.]+).*/\1/p' "$out/version")
[ -n "$version" ] || { echo "no version in: $(cat "$out/version")" >&2; exit 1; }
ref=multimaster/bench:pen-$version-$hash
"$hack/pack.sh" "$out/root.tar" "$out/image.tar" \
	'{"User": "65534:65534", "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"], "Cmd": ["sleep", "infinity"]}' \
	"$ref" "multimaster/bench:pen-$version"
rm "$out/root.tar" "$out/version"
echo "$ref" >"$out/ref"
