#!/usr/bin/env bash
# root.sh OUT: what a node is made of, from Debian bookworm, as two tar files:
# node.tar is the node itself, the list is that of kind's Dockerfile, with runc and
# the CNI plugins from Debian; parts.tar is for the containers of the control plane.
# Not a newer Debian: its systemd must still know cgroup v1 (older than 256).
set -euo pipefail
out=$1
debian=$(cd "$(dirname "$0")/../../hack" && pwd)/debian.sh
mkdir "$out"

"$debian" bookworm "$out/node.tar" --variant=minbase \
	--include=systemd,conntrack,iptables,nftables,iproute2,ethtool,util-linux,mount,kmod \
	--include=libseccomp2,pigz,e2fsprogs,ca-certificates,curl,jq,procps \
	--include=runc,containernetworking-plugins

# Only unpacked: no package is set up, build.sh makes the links that are missing.
"$debian" bookworm "$out/parts.tar" --variant=extract \
	--include=iptables,iproute2,conntrack,busybox-static,catatonit
