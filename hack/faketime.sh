#!/usr/bin/env bash
# faketime.sh: prints the path of libfaketime.so.1, with which a test moves the clock
# of one mysqld. From this host's Debian mirror into the cache; FAKETIME_LIBRARY names
# another where the host is no Debian.
# shellcheck source=hack/lib.sh
. "$(dirname "$0")/lib.sh"

unpacked() { # folder
	mkdir -p "$1" && cd "$1"
	# A fresh host has no package lists.
	apt-get download libfaketime || { [ "$(id -u)" = 0 ] && apt-get update && apt-get download libfaketime; }
	dpkg-deb -x libfaketime_*.deb .
	rm libfaketime_*.deb
}
case ${1:-} in
--unpack) unpacked "$2" ;;
'')
	if [ -n "${FAKETIME_LIBRARY:-}" ]; then
		echo "$FAKETIME_LIBRARY"
		exit
	fi
	have apt-get || fail "no apt-get on this host: FAKETIME_LIBRARY must name a libfaketime.so.1"
	folder=$(product faketime "$(recipe hack/faketime.sh)" "$ROOT/hack/faketime.sh" --unpack)
	find "$folder" -name libfaketime.so.1
	;;
*) fail "usage: $0" ;;
esac
