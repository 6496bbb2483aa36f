#!/usr/bin/env bash
# operator-image.sh BINARY REF OUT: an image from scratch with the binary in it.
set -euo pipefail
binary=$1 ref=$2 out=$3
hack=$(cd "$(dirname "$0")" && pwd)

mkdir -p "$out/root"
install -m 0755 "$binary" "$out/root/multimaster"
tar -C "$out/root" --owner=0 --group=0 --mtime=@0 -cf "$out/layer.tar" multimaster
"$hack/pack.sh" "$out/layer.tar" "$out/image.tar" \
	'{"User": "65532:65532", "Entrypoint": ["/multimaster"], "WorkingDir": "/"}' "$ref"
rm -r "$out/root" "$out/layer.tar"
echo "$ref" >"$out/ref"
