#!/usr/bin/env bash
# test.sh: all tests. Format, linter, generated files, unit tests, a real mysqld, the
# chart, and behaviour on a kind cluster of its own, which is removed afterwards.
# KEEP=1 leaves the cluster and the operator; TESTS=NAME runs only such e2e tests.
# In the end it says which steps took longest.
export CLUSTER=${CLUSTER:-} PROFILE=ci
[ -n "$CLUSTER" ] && [ "$CLUSTER" != multimaster ] || CLUSTER=multimaster-test
# shellcheck source=hack/lib.sh
. "$(dirname "$0")/lib.sh"
cd "$ROOT"
compiler
begun=$EPOCHREALTIME
# Rings of this commit's operator are upgraded, and go back. tests/upgrade/ has what it wrote.
earlier=operator:b2239ad1dce6c6e68b6bf5069802eb4ccde9f131
# Rows of test, step, seconds. The e2e tests add theirs.
export MULTIMASTER_TEST_TIMES=$CACHE/logs/e2e-times.tsv
: >"$MULTIMASTER_TEST_TIMES"
results=$(mktemp "$CACHE/tmp/results.XXXXXX")
K=(kubectl --context "kind-$CLUSTER")

# check NAME COMMAND...: a step whose output is of interest as it comes. `set -e` does
# not work within COMMAND where that is a function.
check() {
	local name=$1 begin=$EPOCHREALTIME status=0
	shift
	say "==> $name"
	"$@" || status=$?
	note "$name" "$begin"
	[ $status = 0 ] || fail "$name failed after $(elapsed "$begin")"
	say "    $name: $(elapsed "$begin")"
}

# note STEP BEGIN: how long a step of this script took.
note() {
	local seconds
	seconds=$(elapsed "$2")
	printf '%s\t%s\t%s\n' "$SELF" "$1" "${seconds% s}" >>"$MULTIMASTER_TEST_TIMES" || fail "no time could be written"
}
SELF='make test'

# longest COUNT WHAT CONDITION: of those rows of the times for which awk's CONDITION holds.
longest() {
	say "the longest $2, in seconds (all are in $MULTIMASTER_TEST_TIMES):"
	sort -t $'\t' -k 3,3nr "$MULTIMASTER_TEST_TIMES" |
		awk -F '\t' -v self="$SELF" -v most="$1" "($3) && n++ < most { printf \"%8.1f  %s: %s\\n\", \$3, \$1, \$2 }" >&2
}
# shellcheck disable=SC2016 # awk expands it
slowest() {
	longest 30 "steps of this script" '$1 == self' &&
		longest 10 "e2e tests" '$1 != self && $2 == "whole test"' &&
		longest 20 "steps of e2e tests" '$1 != self && $2 != "whole test"'
}

# tests NAME ARGUMENT...: `cargo test`; its verdicts are kept for the end.
tests() {
	local name=$1
	shift
	check "$name" cargo_test "$@"
}
cargo_test() { cargo test --locked --profile "$PROFILE" "$@" 2>&1 | tee >(grep '^test result' >>"$results"); }

finish() {
	local status=$?
	trap - EXIT
	# A signal ends the script with the status of the last command.
	[ -n "${finished:-}" ] || [ $status != 0 ] || status=1
	# Each is a process group: what it has started ends with it.
	for group in ${lane:-} ${servers:-}; do kill -- -"$group" 2>/dev/null || true; done
	if [ -n "${deployed:-}" ] && [ $status != 0 ]; then diagnose >&2 || true; fi
	if [ -z "${KEEP:-}" ]; then
		CLUSTER=$CLUSTER hack/cluster.sh down || status=1
	else
		say "cluster $CLUSTER is kept: kubectl --context kind-$CLUSTER get mmc -A"
	fi
	slowest || status=1
	if [ $status = 0 ]; then
		say "all passed, $(elapsed "$begun")"
		awk '{ passed += $4; failed += $6 } END { printf "test result: ok. %d passed; %d failed\n", passed, failed }' "$results"
	fi
	rm -f "$results"
	exit $status
}
diagnose() {
	"${K[@]}" get nodes,mmc,pods,pvc -A -o wide
	"${K[@]}" get events -A --sort-by=.lastTimestamp | tail -n 80
	"${K[@]}" logs -n multimaster-system -l app.kubernetes.io/name=multimaster-operator --tail=100 --prefix
}
trap finish EXIT

# The cluster downloads and waits while the host compiles. The chart needs no cluster, and only one core.
say "==> cluster $CLUSTER, images and the chart's test, in the background: $CACHE/logs/test-cluster.log"
# What an interrupted run left behind would be in the way.
fresh() { [ -n "${KEEP:-}" ] || hack/cluster.sh down; }
cluster() {
	hack/host.sh && fresh && hack/cluster.sh up && note "in the background: the cluster" "$begun" &&
		hack/load.sh operator "$earlier" && note "in the background: the cluster with the operator's image" "$begun" &&
		check "the chart equals the manifests" hack/test-chart.sh
}
set -m
cluster >"$CACHE/logs/test-cluster.log" 2>&1 &
lane=$!
set +m

check "cargo fmt" cargo fmt --all --check
check "clippy" cargo clippy --profile "$PROFILE" --all-targets --locked --quiet -- -D warnings
if have shellcheck; then check "shellcheck" shellcheck -x hack/*.sh hack/*/*.sh .ci/run; fi
# The background needs the operator for its image. Whoever is first compiles, the other one waits for it and has nothing left to do.
check "cargo build" compile
tests "unit tests"
generated() {
	local before
	before=$(sha256sum crds/* charts/*/files/crds/*)
	make --no-print-directory generate MULTIMASTER="$OPERATOR" || return 1
	[ "$before" = "$(sha256sum crds/* charts/*/files/crds/*)" ] || fail "make generate changed something: commit it"
}
check "generated files" generated
# Without it, tests that need a real mysqld show nothing.
MYSQL_ROOT=$(hack/mysqld.sh)
export MYSQL_ROOT
# The same for those that need an API server.
KUBERNETES=$(hack/images.sh tool kubernetes)/kubernetes
ETCD=$(hack/images.sh tool etcd)/etcd
export KUBERNETES ETCD
# Tests against a real mysqld, in the background: e2e tests that run one after the other wait for their members most of the time, and leave a core.
# They yield to those, whose members must not seem to hang. Two long histories of the model run only by name: --ignored chance, --ignored purged.
servers_log=$CACHE/logs/test-servers.log
real_servers() {
	local begin=$EPOCHREALTIME
	cargo_test --test agent --test compare --test simulation --test conflicts -- --ignored --test-threads=2 --skip chance --skip purged --skip cut:: &&
		cargo_test --test api_server -- --ignored &&
		# What is cut off must be cut in the middle: by itself, as far as these tests go.
		cargo_test --test conflicts -- --ignored --test-threads=1 cut:: &&
		note "in the background: tests against a real mysqld" "$begin"
}
begin_real_servers() {
	say "==> tests against a real mysqld, in the background: $servers_log"
	set -m
	(renice -n 5 "$BASHPID" >/dev/null; real_servers) >"$servers_log" 2>&1 &
	servers=$!
	set +m
}
end_real_servers() {
	local status=0
	wait "$servers" || status=$?
	servers=''
	cat "$servers_log"
	return $status
}

ready() { wait "$lane" || { tail -n 40 "$CACHE/logs/test-cluster.log" >&2; return 1; }; }
check "the cluster is ready" ready
lane=''
deployed=yes
check "the operator, by helm" hack/test-chart.sh up
check "routes to pods and Services" hack/routes.sh
export MULTIMASTER_TEST_CONTEXT=kind-$CLUSTER
MULTIMASTER_EARLIER_OPERATOR=$(hack/images.sh print "$earlier")
export MULTIMASTER_EARLIER_OPERATOR
tests "e2e, side by side" --test e2e -- --ignored --test-threads=2 --skip alone:: --skip chaos:: --skip bench:: --skip capture:: ${TESTS:+"$TESTS"}
begin_real_servers
tests "e2e, alone" --test e2e -- --ignored --test-threads=1 "alone::${TESTS:-}"
# With each death of an operator in the tests before, the kubelet waits longer before it starts it again: minutes in the end.
fresh_operator() {
	local of=(-n multimaster-system -l app.kubernetes.io/name=multimaster-operator)
	"${K[@]}" rollout restart deployment "${of[@]}" >&2 && "${K[@]}" rollout status deployment "${of[@]}" --timeout=180s >&2
}
[ -n "${TESTS:-}" ] || check "other pods of the operator" fresh_operator
# What no test of its own shows; `make chaos` has all of them.
[ -n "${TESTS:-}" ] || FAULT='corrupted,API server' tests "some faults" --test e2e -- --ignored --nocapture chaos::
check "tests against a real mysqld, begun beside them" end_real_servers
[ -n "${KEEP:-}" ] || check "the operator goes, the CRDs stay" hack/test-chart.sh down
finished=yes
