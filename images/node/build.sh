#!/usr/bin/env bash
# build.sh REF ROOT KUBERNETES ETCD CRICTL CONTAINERD COREDNS STORAGE OUT: a node
# image for kind, without an image registry. ROOT is what root.sh made, the others
# are folders of Go programs; OUT becomes `docker save` of the image.
set -euo pipefail
ref=$1 root=$2 kubernetes=$3 etcd=$4 crictl=$5 containerd=$6 coredns=$7 storage=$8 out=$9
here=$(cd "$(dirname "$0")" && pwd)
hack=$here/../../hack
: "${ARCH:?}"

work=$(mktemp -d "$(dirname "$out")/node.XXXXXX")
container=''
cleanup() {
	if [ -n "$container" ]; then docker rm -fv "$container" >/dev/null || true; fi
	rm -rf "$work"
}
trap cleanup EXIT

# kind's own files come with its Go module.
kind=$(cd "$here/../kind" && go mod download sigs.k8s.io/kind && go list -m -f '{{.Dir}}' sigs.k8s.io/kind)
version=$(cd "$here/../kubernetes" && go list -m -f '{{.Version}}' k8s.io/kubernetes)
storage_go=$kind/pkg/build/nodeimage/const_storage.go
constant() { sed -nE "s/^const $1 = \"(.*)\"/\1/p" "$storage_go"; }
provisioner=$(constant storageProvisionerImage)
helper=$(constant storageHelperImage)

ln -s "$kubernetes/kubernetes" "$work/kubeadm"
"$work/kubeadm" config images list --kubernetes-version "$version" >"$work/images"
named() { grep "/$1:" "$work/images" || { echo "kubeadm names no image $1" >&2; exit 1; }; }

# The containers of the control plane: one layer that holds all their programs.
# The manifests say which to run, except those of coredns and of pause.
layer=$work/layer.tar
bin=$work/parts/usr/local/bin
mkdir -p "$bin"
ln "$kubernetes/kubernetes" "$etcd/etcd" "$coredns/coredns" "$storage/local-path-provisioner" "$bin/"
for name in kube-apiserver kube-controller-manager kube-scheduler kube-proxy kubectl; do
	ln -s kubernetes "$bin/$name"
done
for name in {iptables,ip6tables}{,-save,-restore}; do
	ln -s /usr/sbin/xtables-nft-multi "$bin/$name"
done
for name in cat mkdir mv rm sleep; do ln -s /bin/busybox "$bin/$name"; done
install -m 0755 "$here/podnet.sh" "$bin/podnet"
mkdir "$work/parts/bin"
ln -s busybox "$work/parts/bin/sh"
cp "$root/parts.tar" "$layer"
(cd "$work/parts" && find . ! -type d | tar --owner=0 --group=0 -rf "$layer" -T -)

image() { # file, command, name...: an image of that layer
	local file=$work/$1 config
	config=$(jq -nc --argjson command "$2" '{Env: ["PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"], Entrypoint: $command}')
	shift 2
	"$hack/pack.sh" "$layer" "$file" "$config" "$@"
}
mkdir "$work/load"
image load/parts.tar null \
	"$(named kube-apiserver)" "$(named kube-controller-manager)" "$(named kube-scheduler)" "$(named kube-proxy)" \
	"$(named etcd)" "$provisioner" "$helper" multimaster/podnet:local
image load/coredns.tar '["/usr/local/bin/coredns"]' "$(named coredns)"
image load/pause.tar '["/usr/bin/catatonit", "-P"]' "$(named pause)"
named pause >"$work/load/pause"
printf %s "$version" >"$work/load/version"

# The manifest of the default storage is a constant of kind's, in two parts of Go.
# shellcheck disable=SC2016 # Go's quotes, not the shell's
sed -n '/^const defaultStorageManifest = `/,/^`$/p' "$storage_go" |
	sed -e '1d;$d' -e "s|\` + storageProvisionerImage + \`|$provisioner|; s|\` + storageHelperImage + \`|$helper|" \
		>"$work/load/default-storage.yaml"
cp "$here/default-cni.yaml" "$here/install.sh" "$work/load/"
mkdir "$work/load/bin"
ln "$kubernetes/kubernetes" "$crictl/crictl" "$containerd/"* "$work/load/bin/"
cp -r "$kind/images/base/files" "$work/load/files"

# The node: its packages, then install.sh inside, as kind's Dockerfile would do it.
base=multimaster/node-base:$(basename "$root")
"$hack/pack.sh" "$root/node.tar" "$work/base.tar" \
	'{"Env": ["container=docker", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"], "StopSignal": "SIGRTMIN+3"}' \
	"$base"
docker load -qi "$work/base.tar"
container=$(docker run -d --privileged --network none -v "$work/load:/load:ro" "$base" sleep infinity)
docker exec "$container" bash /load/install.sh
docker commit --change 'ENTRYPOINT ["/usr/local/bin/entrypoint", "/sbin/init"]' --change 'CMD []' "$container" "$ref"
docker save -o "$out" "$ref"
