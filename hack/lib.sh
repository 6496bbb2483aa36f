# shellcheck shell=bash
# What every script here shares: strict mode, steps with times, the cache.
# Messages go to stderr, so that stdout can be a value for other scripts.
set -euo pipefail
shopt -s inherit_errexit

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
CACHE=${XDG_CACHE_HOME:-$HOME/.cache}/multimaster
BIN=$CACHE/bin
CLUSTER=${CLUSTER:-multimaster}
# A profile of Cargo.toml: release, or ci, which is what `make test` builds.
PROFILE=${PROFILE:-release}
export CACHE BIN CLUSTER PROFILE
export PATH="$BIN:$PATH:/usr/local/sbin:/usr/sbin:/sbin"
mkdir -p "$BIN" "$CACHE"/{locks,logs,tmp}

case $(uname -m) in
x86_64) ARCH=amd64 ;;
aarch64) ARCH=arm64 ;;
*) ARCH=$(uname -m) ;;
esac
export ARCH

say() { printf '%s\n' "$*" >&2; }
fail() {
	say "error: $*"
	exit 1
}
have() { command -v "$1" >/dev/null 2>&1; }

# step NAME COMMAND...: runs COMMAND with its output in a log file, prints the
# name and the time, and the end of the log if it fails. Let COMMAND be a
# program, not a function: bash ignores `set -e` in a function that is tested.
step() {
	local name=$1 begin=$EPOCHREALTIME log status=0
	shift
	log=$CACHE/logs/${name//[^a-zA-Z0-9.-]/-}.log
	say "==> $name"
	"$@" >"$log" 2>&1 || status=$?
	if [ "$status" != 0 ]; then
		tail -n 30 "$log" >&2
		fail "$name failed (status $status), see $log"
	fi
	say "    $name: $(elapsed "$begin")"
}

elapsed() { awk -v a="$1" -v b="$EPOCHREALTIME" 'BEGIN { printf "%.1f s", b - a }'; }

# recipe ITEM...: a hash of files (names relative to the project) and of words.
recipe() {
	local item
	(
		cd "$ROOT"
		echo "$ARCH"
		for item; do
			if [ -f "$item" ]; then sha256sum "$item"; else echo "$item"; fi
		done
	) | sha256sum | cut -c1-12
}

# product NAME HASH COMMAND...: prints the path of a cached product. Where it is
# missing COMMAND makes it, at the path that is added to its arguments. A lock
# keeps two builds of the same apart, the rename keeps half a product out.
product() {
	local name=$1 out=$CACHE/$1-$2 lock tmp
	shift 2
	if [ ! -e "$out" ]; then
		exec {lock}>"$CACHE/locks/$name"
		flock "$lock"
		if [ ! -e "$out" ]; then
			tmp=$(mktemp -d "$CACHE/tmp/$name.XXXXXX")
			if ! (step "build $name" "$@" "$tmp/out"); then
				rm -rf "$tmp"
				return 1
			fi
			mv -T "$tmp/out" "$out"
			rm -rf "$tmp"
			forget "$name"
		fi
		exec {lock}>&-
	fi
	echo "$out"
}

# forget NAME: removes all but the last three versions of a product.
forget() {
	find "$CACHE" -maxdepth 1 -regex ".*/$1-[0-9a-f]+" -printf '%T@ %p\n' |
		sort -rn | tail -n +4 | cut -d' ' -f2- | xargs -r rm -rf
}

# target FOLDER: makes cargo's target folder this checkout's. cargo tells what is stale
# by the times of files, and two checkouts that share a folder look the same to it: it
# would take a binary that the other has built since for this one's.
target() {
	local mark=$1/.checkout
	if [ "$(cat "$mark" 2>/dev/null)" != "$ROOT" ]; then
		mkdir -p "$1"
		find "$ROOT/src" "$ROOT/tests" -name '*.rs' -exec touch {} +
		echo "$ROOT" >"$mark"
	fi
}

# compiler: from here on cargo compiles static programs, as the operator's image needs them, in a
# folder of the cache, so that another clean checkout compiles its own code only. OPERATOR is
# the path of the operator there.
compiler() {
	local host
	case $PROFILE in release | ci) ;; *) fail "PROFILE=$PROFILE: it is release or ci" ;; esac
	host=$(rustc -vV | sed -n 's/^host: //p')
	export CARGO_BUILD_TARGET=$host RUSTFLAGS='-C target-feature=+crt-static'
	export CARGO_TARGET_DIR=$CACHE/target-$PROFILE
	# shellcheck disable=SC2034 # for those who source this
	OPERATOR=$CARGO_TARGET_DIR/$host/$PROFILE/multimaster
	target "$CARGO_TARGET_DIR"
}

# compile: the operator, and with profile ci all tests too. The tests' dependencies add features to
# the operator's: compiled without the tests, the operator would need most dependencies once more.
compile() {
	local targets=(--bin multimaster)
	[ "$PROFILE" != ci ] || targets+=(--tests)
	cargo build --quiet --locked --profile "$PROFILE" "${targets[@]}"
}

# wait_for SECONDS WHAT COMMAND...: until COMMAND succeeds.
wait_for() {
	local end=$((SECONDS + $1)) what=$2
	shift 2
	until "$@" >/dev/null 2>&1; do
		[ $SECONDS -lt $end ] || fail "waited too long for $what"
		sleep 0.2
	done
}
