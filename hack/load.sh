#!/usr/bin/env bash
# load.sh mysql|haproxy|operator|operator:COMMIT|applications|bench...: loads images into the workers of CLUSTER, except those
# that have them (the control plane takes no such pods). An archive is written once
# and the nodes read it side by side, faster than `kind load`; `--local` leaves out
# containerd's transfer service, which takes three times as long.
# shellcheck source=hack/lib.sh
. "$(dirname "$0")/lib.sh"

nodes=$(kind get nodes --name "$CLUSTER" 2>/dev/null)
[ -n "$nodes" ] || fail "there is no cluster $CLUSTER: make cluster"
workers=$(docker ps --filter "label=io.x-k8s.kind.cluster=$CLUSTER" --filter label=io.x-k8s.kind.role=worker --format '{{.Names}}')

load() { # name, archive
	local node jobs=() job
	for node in ${workers:-$nodes}; do
		if docker exec "$node" crictl inspecti -q "$1" >/dev/null 2>&1; then continue; fi
		docker exec -i "$node" ctr -n k8s.io images import --local - <"$2" >"$CACHE/logs/load-$node.log" 2>&1 &
		jobs+=($!)
	done
	for job in ${jobs[@]+"${jobs[@]}"}; do wait "$job" || fail "a node could not load $1, see $CACHE/logs/load-$CLUSTER-*.log"; done
	echo "${#jobs[@]}"
}

for image; do
	name=$("$ROOT/hack/images.sh" print "$image")
	archive=$(QUIET=1 "$ROOT/hack/images.sh" archive "$image")
	begin=$EPOCHREALTIME
	count=$(load "$name" "$archive")
	say "    $name: loaded into $count nodes, $(elapsed "$begin")"
done
