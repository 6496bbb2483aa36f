#!/usr/bin/env bash
# operator.sh: builds the operator's image, prints its folder in the cache. One
# static binary and nothing else; its name carries a hash of the binary, so a new
# build is a new image and no node keeps an old one.
# shellcheck source=hack/lib.sh
. "$(dirname "$0")/lib.sh"

cd "$ROOT"
say "==> cargo build (the operator's image, profile $PROFILE)"
begin=$EPOCHREALTIME
compiler
compile >&2
say "    cargo build: $(elapsed "$begin")"

hash=$(recipe hack/operator.sh hack/operator-image.sh hack/pack.sh "$(sha256sum <"$OPERATOR")")
product operator "$hash" "$ROOT/hack/operator-image.sh" "$OPERATOR" "multimaster/operator:$hash"
