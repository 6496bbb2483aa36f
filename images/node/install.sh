#!/usr/bin/env bash
# Runs in the container that becomes the node image: does what kind's Dockerfile
# and `kind build node-image` do. /load holds what build.sh has gathered.
set -euo pipefail

install -d /kind/bin /kind/manifests /opt/cni/bin /etc/kubernetes/manifests /LICENSES
cp -r /load/files/etc /load/files/kind /load/files/usr /
chmod -R u=rwX,go=rX /kind /etc/containerd /etc/default /etc/sysctl.d /etc/systemd /etc/crictl.yaml
chmod 0755 /usr/local/bin/* /kind/bin/*

install -m 0755 /load/bin/{containerd,containerd-shim-runc-v2,ctr,crictl} /usr/local/bin/
install -m 0755 /load/bin/kubernetes /usr/bin/kubernetes
for name in kubeadm kubelet kubectl; do ln -s kubernetes "/usr/bin/$name"; done
ln -sf /usr/lib/cni/* /opt/cni/bin/
ln -sf /usr/lib/systemd/systemd /sbin/init

# Units that make no sense in a container; the kernel's log would only confuse.
rm -f /lib/systemd/system/sysinit.target.wants/systemd-tmpfiles-setup.service \
	/lib/systemd/system/multi-user.target.wants/* /etc/systemd/system/*.wants/* \
	/lib/systemd/system/local-fs.target.wants/* \
	/lib/systemd/system/sockets.target.wants/*{udev,initctl}* \
	/lib/systemd/system/basic.target.wants/*
echo ReadKMsg=no >>/etc/systemd/journald.conf
systemctl enable kubelet containerd undo-mount-hacks
systemctl mask systemd-binfmt

sed -i "s|sandbox_image = .*|sandbox_image = \"$(cat /load/pause)\"|" /etc/containerd/config.toml
ctr oci spec | jq '.hooks.createContainer += [{path: "/kind/bin/mount-product-files.sh"}] | del(.process.rlimits)' \
	>/etc/containerd/cri-base.json
cp /load/version /kind/version
cp /load/default-cni.yaml /load/default-storage.yaml /kind/manifests/

containerd >/tmp/containerd.log 2>&1 &
until ctr version >/dev/null 2>&1; do
	kill -0 $! || { cat /tmp/containerd.log; exit 1; }
	sleep 0.1
done
# Pinned: the kubelet must not remove what it could not pull again. Local: without
# containerd's transfer service the same takes a third of the time.
for image in /load/*.tar; do
	ctr -n k8s.io images import --local --label io.cri-containerd.pinned=pinned --no-unpack "$image"
done
kill $!
wait $! || true
rm -rf /run/containerd /tmp/containerd.log
