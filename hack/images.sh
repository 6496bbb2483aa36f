#!/usr/bin/env bash
# images.sh print|archive node|mysql|haproxy|operator|operator:COMMIT|applications|bench: makes sure of an
# image, then prints its name, or the path of an archive of it (as `docker save` writes it).
# operator:COMMIT is the operator as it was at a commit of this clone's history.
# images.sh tool NAME: the same for a folder of Go programs of images/NAME.
#
# Stock images are pulled where that works, else built from package registries:
# IMAGES=pull|build decides, NODE_IMAGE, MYSQL_IMAGE and HAPROXY_IMAGE name any other image. The
# operator's, the one of the example applications (APPLICATIONS_IMAGE) and the one of the benchmark's
# tools (BENCH_IMAGE) are nowhere to be pulled.
# shellcheck source=hack/lib.sh
. "$(dirname "$0")/lib.sh"

go_hash() { recipe "images/$1/go.mod" "images/$1/go.sum" "images/$1/main.go" hack/go.sh; }
go_product() { product "go-$1" "$(go_hash "$1")" "$ROOT/hack/go.sh" "$1"; }

mysql_hash() { recipe images/mysql/build.sh hack/debian.sh hack/pack.sh; }
haproxy_hash() { recipe images/haproxy/build.sh hack/debian.sh hack/pack.sh; }
applications_hash() { recipe images/applications/{build.sh,apache.conf,php.ini} hack/debian.sh hack/pack.sh; }
bench_hash() { recipe images/bench/build.sh hack/debian.sh hack/pack.sh; }
root_hash() { recipe images/node/root.sh hack/debian.sh; }
node_parts=(kubernetes etcd crictl containerd coredns local-path-provisioner)
node_hash() {
	local parts part
	parts=$(for part in "${node_parts[@]}" kind; do go_hash "$part"; done)
	recipe images/node/{build.sh,install.sh,podnet.sh,default-cni.yaml} hack/pack.sh "$(root_hash)" "$parts"
}

# stock IMAGE: the name of the image that everybody else would use.
stock() {
	case $1 in
	mysql) echo mysql:9.7 ;;
	haproxy) echo haproxy:3.2 ;;
	node) # the one that this version of kind was released with
		(
			cd "$ROOT/images/kind"
			go mod download sigs.k8s.io/kind
			sed -nE 's/^const Image = "(.*)"/\1/p' "$(go list -m -f '{{.Dir}}' sigs.k8s.io/kind)/pkg/apis/config/defaults/image.go"
		)
		;;
	esac
}

# given IMAGE: the name in NODE_IMAGE, MYSQL_IMAGE, HAPROXY_IMAGE, APPLICATIONS_IMAGE or BENCH_IMAGE, or nothing.
given() {
	local variable=${1^^}_IMAGE
	echo "${!variable:-}"
}

# source_of IMAGE: given, pull or build, and on stderr why, unless QUIET is set.
source_of() {
	local name hash=$1_hash
	because() {
		[ -n "${QUIET:-}" ] || say "$1 image: $2, because $3"
		echo "$2"
	}
	if [ -n "$(given "$1")" ]; then
		because "$1" given "${1^^}_IMAGE names $(given "$1")"
		return
	fi
	case ${IMAGES:-auto} in
	pull | build)
		because "$1" "$IMAGES" "IMAGES=$IMAGES"
		return
		;;
	auto) ;;
	*) fail "IMAGES=$IMAGES: it is pull, build or auto" ;;
	esac
	name=$(stock "$1")
	if [ -e "$CACHE/$1-$("$hash")" ]; then
		because "$1" build "it is in the cache"
	elif docker image inspect "$name" >/dev/null 2>&1; then
		because "$1" pull "docker has $name"
	elif timeout 15 docker manifest inspect "$name" >/dev/null 2>&1; then
		because "$1" pull "a registry answers for $name"
	else
		because "$1" build "no registry answers for $name"
	fi
}

pulled() { # a name that docker has, or has to pull
	docker image inspect "$1" >/dev/null 2>&1 || step "pull $1" docker pull "$1"
}

built() { # the archive, and what made it, of an image that is built
	case $1 in
	mysql)
		product mysql "$(mysql_hash)" "$ROOT/images/mysql/build.sh" "$(mysql_hash)"
		;;
	haproxy)
		product haproxy "$(haproxy_hash)" "$ROOT/images/haproxy/build.sh" "$(haproxy_hash)"
		;;
	node)
		local part root parts=()
		root=$(product node-root "$(root_hash)" "$ROOT/images/node/root.sh")
		for part in "${node_parts[@]}"; do parts+=("$(go_product "$part")"); done
		product node "$(node_hash)" "$ROOT/images/node/build.sh" "multimaster/node:$(node_hash)" "$root" "${parts[@]}"
		;;
	applications)
		product applications "$(applications_hash)" "$ROOT/images/applications/build.sh" "$(applications_hash)"
		;;
	bench)
		product bench "$(bench_hash)" "$ROOT/images/bench/build.sh" "$(bench_hash)"
		;;
	operator) "$ROOT/hack/operator.sh" ;;
	operator:*) "$ROOT/hack/earlier-operator.sh" "${1#*:}" ;;
	esac
}

# Everything for a cluster at once: one lane compiles Kubernetes, the others mostly
# download. What fails is said by its step.
prepare() {
	local node mysql haproxy part lanes=() lane failed=''
	node=$(source_of node)
	mysql=$(source_of mysql)
	haproxy=$(source_of haproxy)
	if [ "$node" = build ]; then
		go_product kubernetes >/dev/null &
		lanes+=($!)
		for part in kind "${node_parts[@]:1}"; do go_product "$part"; done >/dev/null &
		lanes+=($!)
	fi
	{
		if [ "$node" = build ]; then product node-root "$(root_hash)" "$ROOT/images/node/root.sh"; fi
		if [ "$mysql" = build ]; then built mysql; fi
		if [ "$haproxy" = build ]; then built haproxy; fi
	} >/dev/null &
	lanes+=($!)
	for lane in "${lanes[@]}"; do wait "$lane" || failed=yes; done
	[ -z "$failed" ] || fail "not everything could be built, see above"
}

command=${1:-} image=${2:-}
case $command:$image in
tool:?*)
	go_product "$image"
	exit
	;;
print:operator | archive:operator | print:operator:?* | archive:operator:?*) source=build ;;
print:applications | archive:applications | print:bench | archive:bench)
	source=build
	[ -z "$(given "$image")" ] || source=given
	;;
print:node | print:mysql | print:haproxy | archive:node | archive:mysql | archive:haproxy) source=$(source_of "$image") ;;
prepare:)
	prepare
	exit
	;;
*) fail "usage: $0 print|archive node|mysql|haproxy|operator|operator:COMMIT|applications|bench, or $0 tool NAME, or $0 prepare" ;;
esac

case $source in
given) name=$(given "$image") ;;
pull) name=$(stock "$image") ;;
build) archive=$(built "$image") ;;
esac
if [ "$source" = build ] && [ "$image" = node ]; then
	name=multimaster/node:$(node_hash)
	# kind asks docker for it. A fresh docker gets it from the cache.
	docker image inspect "$name" >/dev/null 2>&1 || step "load $name" docker load -qi "$archive"
elif [ "$source" = build ]; then
	name=$(cat "$archive/ref")
	archive=$archive/image.tar
else
	pulled "$name"
	if [ "$command" = archive ]; then
		archive=$(product "pulled-$image" "$(recipe "$(docker image inspect -f '{{.Id}}' "$name")" "$name")" docker save "$name" -o)
	fi
fi
case $command in
print) echo "$name" ;;
archive) echo "$archive" ;;
esac
