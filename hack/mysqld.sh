#!/usr/bin/env bash
# mysqld.sh: prints a folder with the root filesystem of the MySQL image, so that
# tests can run a real mysqld by chroot, without a cluster. As root: files keep
# their owners. An image that is pulled serves as well as one that is built.
# shellcheck source=hack/lib.sh
. "$(dirname "$0")/lib.sh"
[ "$(id -u)" = 0 ] || fail "only root can unpack and enter a root filesystem"

archive=$("$ROOT/hack/images.sh" archive mysql)
# The archive's place in the cache carries the hash of its recipe.
hash=${archive#"$CACHE"/}
hash=${hash%%/*}
product mysql-rootfs "${hash##*-}" "$ROOT/hack/unpack.sh" "$archive"
