#!/usr/bin/env bash
# pack.sh LAYER.tar OUT.tar CONFIG NAME...: an image with one layer, as `docker
# save` writes it. `docker load` and `ctr images import` both read it, no builder
# is needed, and the same content is the same image.
set -euo pipefail
layer=$1 out=$2 config=$3
shift 3
: "${ARCH:?}"

dir=$(mktemp -d "$(dirname "$out")/pack.XXXXXX")
trap 'rm -rf "$dir"' EXIT
digest=$(sha256sum "$layer" | cut -d' ' -f1)
jq -n --arg arch "$ARCH" --arg digest "sha256:$digest" --argjson config "$config" '{
	architecture: $arch, os: "linux", created: "1970-01-01T00:00:00Z", config: $config,
	rootfs: {type: "layers", diff_ids: [$digest]},
	history: [{created: "1970-01-01T00:00:00Z", created_by: "hack/pack.sh"}]
}' >"$dir/config.json"
jq -n '[{Config: "config.json", RepoTags: $ARGS.positional, Layers: ["layer.tar"]}]' \
	--args "$@" >"$dir/manifest.json"
ln "$layer" "$dir/layer.tar" 2>/dev/null || cp "$layer" "$dir/layer.tar"
tar -C "$dir" --owner=0 --group=0 --mtime=@0 -cf "$out" manifest.json config.json layer.tar
