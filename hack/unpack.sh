#!/usr/bin/env bash
# unpack.sh ARCHIVE OUT: the layers of an image, one over the other, in a folder.
set -euo pipefail
archive=$1 out=$2
mkdir "$out"
for layer in $(tar -xOf "$archive" manifest.json | jq -r '.[0].Layers[]'); do
	# Layers of pulled images may be compressed: tar finds out only from a file.
	tar -xOf "$archive" "$layer" >"$out.layer"
	tar -xf "$out.layer" -C "$out" --numeric-owner
	# A file .wh.NAME in a layer removes NAME of those below.
	find "$out" -name '.wh.*' -printf '%h %f\n' | while read -r folder name; do
		rm -rf "${folder:?}/${name#.wh.}" "${folder:?}/$name"
	done
	rm "$out.layer"
done
