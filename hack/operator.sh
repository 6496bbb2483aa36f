#!/usr/bin/env bash
# operator.sh: builds the operator's image, prints its folder in the cache. One
# static binary and nothing else; its name carries a hash of the binary, so a new
# build is a new image and no node keeps an old one. A target folder of its own:
# the flags differ from those of the tests, and would invalidate their builds. It is
# in the cache, so that another clean checkout does not compile the dependencies again.
# shellcheck source=hack/lib.sh
. "$(dirname "$0")/lib.sh"

host=$(rustc -vV | sed -n 's/^host: //p')
cd "$ROOT"
say "==> cargo build (the operator's image)"
begin=$EPOCHREALTIME
target "$CACHE/target-image"
RUSTFLAGS='-C target-feature=+crt-static' \
	cargo build --quiet --release --locked --bin multimaster --target "$host" --target-dir "$CACHE/target-image" >&2
say "    cargo build: $(elapsed "$begin")"

binary=$CACHE/target-image/$host/release/multimaster
hash=$(recipe hack/operator.sh hack/operator-image.sh hack/pack.sh "$(sha256sum <"$binary")")
product operator "$hash" "$ROOT/hack/operator-image.sh" "$binary" "multimaster/operator:$hash"
