#!/usr/bin/env bash
# earlier-operator.sh COMMIT: builds the operator's image of a commit of this clone's history,
# once, prints its folder in the cache. Only a build needs the history.
# earlier-operator.sh COMMIT REF OUT: builds it in any case.
# shellcheck source=hack/lib.sh
. "$(dirname "$0")/lib.sh"

commit=$1
if [ $# = 1 ]; then
	hash=$(recipe hack/earlier-operator.sh hack/operator-image.sh hack/pack.sh "$commit")
	product earlier-operator "$hash" "$ROOT/hack/earlier-operator.sh" "$commit" "multimaster/operator:${commit:0:7}-$hash"
	exit
fi
ref=$2 out=$3 work=$(dirname "$3")
git -C "$ROOT" cat-file -e "$commit^{commit}" 2>/dev/null ||
	fail "commit $commit is needed, because rings of its operator are upgraded, and it is not here: this clone is shallow (git fetch --unshallow), or no clone"

# With the dependencies that the present operator's build has compiled, or compiles for it: in
# the same folder, by the present profiles, and with profile ci together with a test, for the
# tests' features. One setting is another, so that cargo keeps the two operators apart there;
# the program is left elsewhere, as another build may go on meanwhile.
mkdir "$work/sources"
# -m: they are newer than what another commit has left there.
git -C "$ROOT" archive "$commit" | tar -xm -C "$work/sources"
awk '/^\[/ { profile = /^\[profile/ } profile' "$ROOT/Cargo.toml" >"$work/profiles.toml"
host=$(rustc -vV | sed -n 's/^host: //p')
targets=(--bin multimaster)
[ "$PROFILE" != ci ] || targets+=(--test compare)
cd "$work/sources"
CARGO_BUILD_BUILD_DIR=$CACHE/target-$PROFILE RUSTFLAGS='-C target-feature=+crt-static' \
	cargo build --locked --profile "$PROFILE" "${targets[@]}" --target "$host" --target-dir "$work/target" \
	--config "$work/profiles.toml" --config "profile.$PROFILE.package.multimaster.codegen-units=15"
"$ROOT/hack/operator-image.sh" "$work/target/$host/$PROFILE/multimaster" "$ref" "$out"
