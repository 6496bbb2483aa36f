#!/usr/bin/env bash
# cluster.sh up|down: the kind cluster CLUSTER, one control plane and three workers.
# shellcheck source=hack/lib.sh
. "$(dirname "$0")/lib.sh"
cd "$ROOT"
kubectl() { command kubectl --context "kind-$CLUSTER" "$@"; }

# Not by a pipe: grep ends at the first match, and kind by the signal that it then gets.
exists() {
	local clusters
	clusters=$(kind get clusters 2>/dev/null) && grep -qx "$CLUSTER" <<<"$clusters"
}

# Another cluster gets other subnets for its pods and Services, so that the host can
# have routes to both. The name decides, so they are the same again.
config() {
	local net
	cat kind-config.yaml
	if [ "$CLUSTER" != multimaster ]; then
		net=10.$((100 + $(cksum <<<"$CLUSTER" | cut -d' ' -f1) % 100))
		printf 'networking:\n  podSubnet: %s.0.0/17\n  serviceSubnet: %s.128.0/17\n' "$net" "$net"
	fi
}

up() {
	local image begin stopped
	hack/host.sh
	hack/images.sh prepare
	export QUIET=1 # it has said what it chose
	image=$(hack/images.sh print node)
	hack/tools.sh kind kubectl

	if exists; then
		# After a restart of the host or of docker the nodes may be stopped.
		stopped=$(docker ps -aq --filter "label=io.x-k8s.kind.cluster=$CLUSTER" --filter status=exited)
		# shellcheck disable=SC2086 # one argument each
		[ -z "$stopped" ] || step "start the nodes of $CLUSTER" docker start $stopped
		kind export kubeconfig --name "$CLUSTER" -q
		say "cluster $CLUSTER is there"
	else
		config >"$CACHE/tmp/kind-$CLUSTER.yaml"
		step "create cluster $CLUSTER of $image" \
			kind create cluster --name "$CLUSTER" --image "$image" --config "$CACHE/tmp/kind-$CLUSTER.yaml"
		rm "$CACHE/tmp/kind-$CLUSTER.yaml"
	fi

	begin=$EPOCHREALTIME
	# Tests freeze workers. A member that finds no name any more is another fault.
	kubectl -n kube-system patch deployment coredns --type=merge -p \
		'{"spec": {"template": {"spec": {"nodeSelector": {"node-role.kubernetes.io/control-plane": ""}}}}}' >/dev/null
	kubectl wait --for=condition=Ready nodes --all --timeout=180s >/dev/null
	for deployment in kube-system/coredns local-path-storage/local-path-provisioner; do
		kubectl -n "${deployment%/*}" rollout status "deployment/${deployment#*/}" --timeout=180s >/dev/null
	done
	say "    nodes, DNS and storage ready: $(elapsed "$begin")"
	hack/load.sh mysql haproxy
	kubectl get nodes >&2
}

down() {
	if ! have kind || ! docker info >/dev/null 2>&1; then
		say "nothing runs here: no kind or no docker"
	elif exists; then
		step "delete cluster $CLUSTER" kind delete cluster --name "$CLUSTER"
		hack/routes.sh
	else
		say "there is no cluster $CLUSTER"
	fi
}

case ${1:-} in
up | down) "$1" ;;
*) fail "usage: $0 up|down" ;;
esac
