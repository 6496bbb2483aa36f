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

# The dependencies are those of the present operator's build: in its folder, by its profiles.
# A setting that the present build has not keeps the two operators apart there, and the
# program is left elsewhere, as another build may go on meanwhile.
host=$(rustc -vV | sed -n 's/^host: //p')
export CARGO_BUILD_BUILD_DIR=$CACHE/target-image RUSTFLAGS='-C target-feature=+crt-static'
mkdir "$work/sources"
# -m: they are newer than what another commit has left there.
git -C "$ROOT" archive "$commit" | tar -xm -C "$work/sources"
awk '/^\[/ { profile = /^\[profile/ } profile' "$ROOT/Cargo.toml" >"$work/profiles.toml"
cd "$work/sources"
cargo build --release --locked --bin multimaster --target "$host" --target-dir "$work/target" \
	--config "$work/profiles.toml" --config 'profile.release.package.multimaster.codegen-units=15'
"$ROOT/hack/operator-image.sh" "$work/target/$host/release/multimaster" "$ref" "$out"
