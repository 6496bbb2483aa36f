#!/usr/bin/env bash
# routes.sh: routes from this host to the pods of CLUSTER, by way of their nodes, and
# to its Services, by way of the control plane: so an operator or a test that runs
# on the host reaches members. Takes away what earlier clusters left. Routes made
# here carry a protocol number of their own.
# shellcheck source=hack/lib.sh
. "$(dirname "$0")/lib.sh"
protocol=218

[ "$(uname -s)" = Linux ] || fail "only on Linux has the host routes to containers"
# Asks for rights only where a route must change.
route() {
	local sudo=()
	if [ "$(id -u)" != 0 ]; then
		sudo=(sudo -n)
		"${sudo[@]}" true 2>/dev/null || fail "only root may change routes: run $0 as root, or let sudo do it without a password"
	fi
	"${sudo[@]}" ip route "$@" proto "$protocol"
}

wanted=''
clusters=$(kind get clusters 2>/dev/null || true)
if grep -qx "$CLUSTER" <<<"$clusters"; then
	wanted=$(kubectl --context "kind-$CLUSTER" get nodes,servicecidrs -o json | jq -r '
		def address: .status.addresses[] | select(.type == "InternalIP").address;
		(.items | map(select(.kind == "Node"))) as $nodes
		| ($nodes[] | "\(.spec.podCIDR) via \(address)"),
		  ($nodes[] | select(.metadata.labels | has("node-role.kubernetes.io/control-plane")) | address) as $control
		| .items[] | select(.kind == "ServiceCIDR") | .spec.cidrs[] | "\(.) via \($control)"')
fi
others=$(docker ps -q --filter label=io.x-k8s.kind.cluster |
	xargs -r docker inspect -f '{{index .Config.Labels "io.x-k8s.kind.cluster"}} {{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}' |
	awk -v own="$CLUSTER" '$1 != own { print $2 }')

while read -r cidr via gateway _; do
	if [ -z "$cidr" ] || grep -qxF "$cidr via $gateway" <<<"$wanted" || grep -qxF "$gateway" <<<"$others"; then continue; fi
	route del "$cidr" "$via" "$gateway"
	say "route to $cidr removed"
done < <(ip -4 route show proto "$protocol")

while read -r cidr via gateway; do
	[ -n "$gateway" ] || continue
	# shellcheck disable=SC2086 # nothing to quote
	route replace $cidr $via $gateway
	say "route to $cidr by $gateway"
done <<<"$wanted"
