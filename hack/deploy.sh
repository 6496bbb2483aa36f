#!/usr/bin/env bash
# deploy.sh up|down: the operator in CLUSTER. The manifests name placeholder
# images; the ones that this host has chosen take their place.
# shellcheck source=hack/lib.sh
. "$(dirname "$0")/lib.sh"
cd "$ROOT"
kubectl() { command kubectl --context "kind-$CLUSTER" "$@"; }

# All manifests as one stream, the namespace first: it must be there before what
# lives in it, whatever the files are called.
manifests() {
	local file
	for file in $(grep -l '^kind: Namespace' manifests/operator/*.yaml) $(grep -L '^kind: Namespace' manifests/operator/*.yaml); do
		echo ---
		cat "$file"
	done
}

apply() { kubectl apply --server-side --force-conflicts -f "$@"; }

up() {
	local operator mysql haproxy begin=$EPOCHREALTIME
	[ -n "$(ls crds/*.yaml 2>/dev/null)" ] || fail "no crds/*.yaml: make generate"
	operator=$(hack/images.sh print operator)
	mysql=$(hack/images.sh print mysql)
	haproxy=$(hack/images.sh print haproxy)
	apply crds/
	kubectl wait --for=condition=Established --timeout=30s -f crds/ >/dev/null
	manifests | sed "s|multimaster/operator:dev|$operator|; s|value: mysql:9.7\$|value: $mysql|; s|value: haproxy:3.2\$|value: $haproxy|" | apply -
	manifests | kubectl get -f - -o json |
		jq -r '.items[] | select(.kind == "Deployment") | "\(.metadata.namespace) \(.metadata.name)"' |
		while read -r namespace name; do
			kubectl -n "$namespace" rollout status "deployment/$name" --timeout=120s </dev/null
		done
	say "    $operator runs: $(elapsed "$begin")"
}

# The CRDs stay: with them would go every ring.
down() { manifests | kubectl delete --ignore-not-found -f -; }

case ${1:-} in
up | down) "$1" ;;
*) fail "usage: $0 up|down" ;;
esac
