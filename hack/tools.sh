#!/usr/bin/env bash
# tools.sh NAME...: makes sure of kind, kubectl and helm. Where the host's own is
# missing or too old, one goes to the bin folder of the cache, first in PATH.
# shellcheck source=hack/lib.sh
. "$(dirname "$0")/lib.sh"

# The oldest versions that do: kubectl may differ from the server by one minor.
declare -A least=([kind]=0.33.0 [kubectl]=1.36.0 [helm]=3.14.0)

version() { # of a program, given by its path
	case ${1##*/} in
	kind) "$1" version -q ;;
	kubectl) "$1" version --client -o json | jq -r .clientVersion.gitVersion ;;
	helm) "$1" version --template '{{.Version}}' ;;
	esac 2>/dev/null | sed 's/^v//'
}

host_has() {
	local path found
	path=$(type -aP "$1" | grep -vxF "$BIN/$1" | head -n 1)
	[ -n "$path" ] || return 1
	found=$(version "$path") || return 1
	[ "$(printf '%s\n' "$found" "${least[$1]}" | sort -V | head -n 1)" = "${least[$1]}" ]
}

install_tool() {
	local folder node
	case $1 in
	kind | helm) folder=$("$ROOT/hack/images.sh" tool "$1") ;;
	kubectl)
		# Either way the program is there already: as a part of the node image
		# that was built, or in the one that was pulled.
		node=$("$ROOT/hack/images.sh" print node)
		case $node in
		multimaster/*) folder=$("$ROOT/hack/images.sh" tool kubernetes) ;;
		*) folder=$(product kubectl "$(recipe "$node")" "$ROOT/hack/kubectl-of.sh" "$node") ;;
		esac
		[ -e "$folder/kubectl" ] || folder+=/kubernetes
		;;
	esac
	[ -d "$folder" ] && folder+=/$1
	ln -sfn "$folder" "$BIN/$1"
	say "$1 $(version "$BIN/$1") in $BIN"
}

for name; do
	[ -n "${least[$name]:-}" ] || fail "no tool $name, only: ${!least[*]}"
	if host_has "$name"; then rm -f "$BIN/$name"; else install_tool "$name"; fi
done
