#!/usr/bin/env bash
# go.sh NAME OUT: builds the programs of images/NAME/go.mod (its `tool` lines, or
# main.go) into the folder OUT. go.mod and go.sum pin every byte of the source.
set -euo pipefail
name=$1 out=$2
cd "$(dirname "$0")/../images/$name"

tags='' link='-s -w' package=tool
case $name in
kubernetes)
	package=.
	version=$(go list -m -f '{{.Version}}' k8s.io/kubernetes)
	for variable in k8s.io/component-base/version k8s.io/client-go/pkg/version; do
		link+=" -X $variable.gitVersion=$version -X $variable.gitMajor=$(cut -d. -f1 <<<"${version#v}") -X $variable.gitMinor=$(cut -d. -f2 <<<"$version")"
	done
	;;
containerd)
	# Snapshotters that a node never uses, some of which need C libraries.
	tags=no_aufs,no_zfs,no_btrfs,no_devmapper
	link+=" -X github.com/containerd/containerd/v2/version.Version=$(go list -m -f '{{.Version}}' github.com/containerd/containerd/v2)"
	;;
helm)
	link+=" -X helm.sh/helm/v4/internal/version.version=$(go list -m -f '{{.Version}}' helm.sh/helm/v4)"
	;;
esac

mkdir -p "$out"
CGO_ENABLED=0 go build -buildvcs=false -trimpath -mod=readonly -tags "$tags" -ldflags "$link" -o "$out/" "$package"
# Go names a program by the last part of its path, without the major version.
if [ -f "$out/server" ]; then mv "$out/server" "$out/etcd"; fi
