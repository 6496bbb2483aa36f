#!/usr/bin/env bash
# build.sh HASH OUT: MySQL from Debian sid, with the user and the folders of the
# official image. OUT is a folder: image.tar, and ref, the image's name. sid moves
# on, so the version in the name is asked of the server that came.
set -euo pipefail
hash=$1 out=$2
hack=$(cd "$(dirname "$0")/../../hack" && pwd)
mkdir "$out"

# Offline tools for files of other engines, and the Perl of a few scripts, are a
# third of it. Every node and every test would carry them.
unused=(/usr/bin/{'myisam*',ibd2sdi,innochecksum,perror,mysql_migrate_keyring,mysql_config_editor,mysql_secure_installation,mysqlimport,mysqlshow})
unused+=('/usr/share/perl/5.*' '/usr/lib/*/libperl.so*')

# mmdebstrap would clean /run at the end, and the server's folder with it.
# shellcheck disable=SC2016 # mmdebstrap expands $1
"$hack/debian.sh" sid "$out/root.tar" --variant=minbase --skip=cleanup/run "${unused[@]/#/--dpkgopt=path-exclude=}" \
	--include=mysql-server-core,mysql-client-core,mysql-common,tini,passwd \
	--customize-hook='chroot "$1" groupadd -r -g 999 mysql' \
	--customize-hook='chroot "$1" useradd -r -u 999 -g mysql -d /var/lib/mysql -s /bin/false mysql' \
	--customize-hook='rm -rf "$1/var/lib/mysql" "$1/var/run/mysqld"' \
	--customize-hook='chroot "$1" install -d -o mysql -g mysql -m 0750 /var/lib/mysql' \
	--customize-hook='chroot "$1" install -d -o mysql -g mysql -m 0755 /var/run/mysqld /var/lib/mysql-files' \
	--customize-hook='chroot "$1" mysqld --version >/dev/null && chroot "$1" mysqld --version >'"$out/version"

version=$(sed -nE 's/.*Ver ([0-9]+\.[0-9]+\.[0-9]+).*/\1/p' "$out/version")
[ -n "$version" ] || { echo "no version in: $(cat "$out/version")" >&2; exit 1; }
ref=multimaster/mysql:$version-$hash
"$hack/pack.sh" "$out/root.tar" "$out/image.tar" \
	'{"Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"], "Cmd": ["mysqld"]}' \
	"$ref" "multimaster/mysql:$version"
rm "$out/root.tar" "$out/version"
echo "$ref" >"$out/ref"
