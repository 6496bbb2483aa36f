#!/usr/bin/env bash
# deploy.sh up|down: the operator in CLUSTER. The manifests name placeholder
# images; the ones that this host has chosen take their place.
# shellcheck source=hack/lib.sh
. "$(dirname "$0")/lib.sh"
cd "$ROOT"
kubectl() { command kubectl --context "kind-$CLUSTER" "$@"; }

up() {
	local operator mysql begin=$EPOCHREALTIME
	operator=$(hack/images.sh print operator)
	mysql=$(hack/images.sh print mysql)
	kubectl apply --server-side --force-conflicts -f crds/
	kubectl wait --for=condition=Established --timeout=30s -f crds/ >/dev/null
	# A namespace must come before what lives in it, whatever the files' names.
	cat_manifests | sed -E "s|multimaster/operator:dev|$operator|; s|(\"?)\bmysql:9\.7\"?\$|\1$mysql\1|" >"$CACHE/tmp/deploy.$$"
	grep -lE '^kind: Namespace' manifests/operator/*.yaml | xargs -r -n 1 kubectl apply --server-side --force-conflicts -f
	kubectl apply --server-side --force-conflicts -f "$CACHE/tmp/deploy.$$"
	kubectl get -f "$CACHE/tmp/deploy.$$" -o json |
		jq -r '(.items // [.])[] | select(.kind == "Deployment") | "\(.metadata.namespace) \(.metadata.name)"' |
		while read -r namespace name; do
			kubectl -n "$namespace" rollout status "deployment/$name" --timeout=120s </dev/null
		done
	rm "$CACHE/tmp/deploy.$$"
	say "    $operator runs: $(elapsed "$begin")"
}

# The CRDs stay: with them would go every ring and, with its policy, its data.
down() { cat_manifests | kubectl delete --ignore-not-found -f -; }

cat_manifests() {
	local file
	for file in manifests/operator/*.yaml; do
		echo ---
		cat "$file"
	done
}

case ${1:-} in
up | down) "$1" ;;
*) fail "usage: $0 up|down" ;;
esac
