#!/bin/sh
# The pod network of a kind cluster that is built here. Runs on every node, in
# place of kindnet, which is no Go module: writes the CNI configuration for this
# node's pods, and routes the pods of every other node by that node's address.
set -eu
: "${NODE_NAME:?}" "${POD_SUBNET:?}"

configure() { # CIDR of this node's pods
	cat >/etc/cni/net.d/.podnet.tmp <<-JSON
		{
		  "cniVersion": "0.4.0",
		  "name": "podnet",
		  "plugins": [
		    {
		      "type": "ptp",
		      "ipMasq": false,
		      "ipam": {
		        "type": "host-local",
		        "dataDir": "/run/cni-ipam-state",
		        "routes": [{"dst": "0.0.0.0/0"}],
		        "ranges": [[{"subnet": "$1"}]]
		      }
		    },
		    {"type": "portmap", "capabilities": {"portMappings": true}}
		  ]
		}
	JSON
	mv /etc/cni/net.d/.podnet.tmp /etc/cni/net.d/10-podnet.conflist
}

# Pods see each other's own addresses; what leaves for the world outside carries
# the node's.
masquerade() {
	set -- POSTROUTING -s "$POD_SUBNET" ! -d "$POD_SUBNET" -m addrtype ! --dst-type LOCAL -j MASQUERADE
	iptables -w -t nat -C "$@" 2>/dev/null || iptables -w -t nat -A "$@"
}

node() { # name, CIDR of its pods, its address
	if [ -z "$2" ] || [ -z "$3" ]; then return; fi
	if [ "$1" = "$NODE_NAME" ]; then configure "$2"; else ip route replace "$2" via "$3"; fi
}

# Each change of a node repeats its line. A watch ends after a while, by design;
# at first it fails, until the Service of the API server works on this node.
watch() {
	while :; do
		kubectl get nodes --watch -o 'jsonpath={.metadata.name} {.spec.podCIDR} {.status.addresses[?(@.type=="InternalIP")].address}{"\n"}' || sleep 1
	done | while read -r name cidr address; do node "$name" "$cidr" "$address"; done
}

masquerade
# The shell is process 1 and waits in the background, so it obeys SIGTERM at once.
trap 'exit 0' TERM INT
watch &
wait $!
exit 1
