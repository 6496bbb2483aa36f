#!/usr/bin/env bash
# host.sh [PROGRAM=PACKAGE...]: what this host needs for a kind cluster, and these programs.
# Installs it as root on Debian, elsewhere says what is missing. Starts the Docker engine
# where nothing else does.
# shellcheck source=hack/lib.sh
. "$(dirname "$0")/lib.sh"

root() { [ "$(id -u)" = 0 ]; }

# Programs, and the Debian packages that bring them.
missing=() packages=()
need() { have "$1" || { missing+=("$1"); packages+=("$2"); }; }
need jq jq
need flock util-linux
need ip iproute2
need iptables iptables
have docker || need docker docker.io
docker version >/dev/null 2>&1 || need dockerd docker.io
if [ "${IMAGES:-auto}" != pull ]; then need mmdebstrap mmdebstrap; fi
for program; do need "${program%%=*}" "${program#*=}"; done
if [ ${#missing[@]} != 0 ]; then
	if ! root || ! have apt-get; then
		fail "missing on this host: ${missing[*]} (as root on Debian this is installed: ${packages[*]})"
	fi
	# shellcheck disable=SC2016 # the inner bash expands it
	step "install ${packages[*]}" env DEBIAN_FRONTEND=noninteractive bash -c \
		'apt-get update; apt-get install -y --no-install-recommends "$@"' - "${packages[@]}"
fi
have go || fail "missing on this host: Go ($(sed -n 's/^go //p' "$ROOT"/images/*/go.mod | sort -V | tail -n 1) or newer)"

# Kubelets and kube-proxies of a second cluster die of "too many open files"
# with the usual 128 instances.
raise() { # setting, least value
	[ "$(sysctl -n "$1")" -ge "$2" ] || root || fail "as root, please: sysctl -w $1=$2"
	[ "$(sysctl -n "$1")" -ge "$2" ] || sysctl -qw "$1=$2"
}
raise fs.inotify.max_user_instances 1024
raise fs.inotify.max_user_watches 524288
# A mysqld has some thousands of requests to its disk ready, and many run at once.
raise fs.aio-max-nr 1048576

capable() { # has this host CAP_SYS_RESOURCE (bit 24)?
	(((0x$(awk '/^CapBnd/ { print $2 }' /proc/self/status) >> 24) & 1))
}
ready() { docker info >/dev/null 2>&1; }

if ! ready; then
	root || fail "the Docker engine does not answer (docker info); start it, or may this user not use it?"
	arguments=()
	if ! capable; then
		install -m 0755 "$ROOT/hack/runc.sh" "$CACHE/tmp/runc.$$"
		mv "$CACHE/tmp/runc.$$" "$CACHE/runc-without-sys-resource"
		arguments=(--add-runtime "capless=$CACHE/runc-without-sys-resource" --default-runtime capless)
	fi
	if [ -d /run/systemd/system ] && capable; then
		step "start docker" systemctl start docker
	else
		# It outlives this script and make. A stale pid file would stop it.
		say "==> start dockerd by hand (${arguments[*]:-no options}), log: $CACHE/dockerd.log"
		begin=$EPOCHREALTIME
		if ! pgrep -x dockerd >/dev/null; then rm -f /var/run/docker.pid; fi
		setsid nohup dockerd "${arguments[@]}" >>"$CACHE/dockerd.log" 2>&1 </dev/null &
		dockerd=$!
		answered() { ready || ! kill -0 "$dockerd" 2>/dev/null; }
		wait_for 60 "dockerd, see $CACHE/dockerd.log" answered
		ready || { tail -n 20 "$CACHE/dockerd.log" >&2; fail "dockerd ended"; }
		say "    start dockerd: $(elapsed "$begin")"
	fi
fi
if ! capable && [ "$(docker info -f '{{.DefaultRuntime}}')" = runc ]; then
	fail "this host lacks CAP_SYS_RESOURCE and the running dockerd uses plain runc: stop it, then $0 starts it with hack/runc.sh"
fi
