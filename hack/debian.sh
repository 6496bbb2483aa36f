#!/usr/bin/env bash
# debian.sh SUITE OUT.tar OPTION...: a Debian root filesystem by mmdebstrap, from
# the mirror that this host uses. DEBIAN_MIRROR names one where the host has none.
set -euo pipefail
suite=$1 out=$2
shift 2

mirror=${DEBIAN_MIRROR:-}
if [ -z "$mirror" ] && command -v apt-get >/dev/null; then
	# shellcheck disable=SC2016 # apt expands it
	mirror=$(apt-get indextargets --format '$(REPO_URI)' \
		'Created-By: Packages' 'Origin: Debian' 'Label: Debian' | head -n 1)
fi
if [ -z "$mirror" ]; then
	echo "no Debian mirror in this host's apt configuration: set DEBIAN_MIRROR" >&2
	exit 1
fi

# A proxy of the host's apt serves here as well. Indexes of a mirror's snapshot
# are older than they say they may be. Documentation is of no use in an image.
options=$(mktemp)
trap 'rm -f "$options"' EXIT
{ apt-config dump 2>/dev/null | grep -i '^Acquire::.*Proxy' || true; } >"$options"
echo 'Acquire::Check-Valid-Until "false";' >>"$options"

mmdebstrap --aptopt="$options" \
	--dpkgopt='path-exclude=/usr/share/man/*' \
	--dpkgopt='path-exclude=/usr/share/locale/*' \
	--dpkgopt='path-exclude=/usr/share/doc/*' \
	--dpkgopt='path-include=/usr/share/doc/*/copyright' \
	"$@" "$suite" "$out" "$mirror"
