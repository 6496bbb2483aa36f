#!/usr/bin/env bash
# build.sh HASH OUT: Apache with PHP, and what runs on it: WordPress and phpMyAdmin, all from Debian. One image
# serves every example; which application it is, its pod says by DOCUMENT_ROOT.
# OUT is a folder: image.tar, and ref, the image's name.
set -euo pipefail
hash=$1 out=$2
here=$(cd "$(dirname "$0")" && pwd)
hack=$here/../../hack
mkdir "$out"

# WordPress's package wants a client on the command line. Debian's package of phpMyAdmin makes a key for cookies:
# one in an image would be everybody's. Logs and locks are not for a user without rights.
# shellcheck disable=SC2016 # mmdebstrap expands $1
"$hack/debian.sh" bookworm "$out/root.tar" --variant=minbase --dpkgopt='path-exclude=/usr/bin/mariadb*' \
	--include=apache2,libapache2-mod-php,php-mysql,wordpress,wordpress-theme-twentytwentythree,phpmyadmin,dbconfig-no-thanks \
	--customize-hook="copy-in $here/apache.conf $here/php.ini /tmp" \
	--customize-hook='rm "$1"/etc/apache2/sites-enabled/* "$1"/etc/apache2/conf-enabled/other-vhosts-access-log.conf' \
	--customize-hook='mv "$1/tmp/apache.conf" "$1/etc/apache2/sites-enabled/applications.conf"; : >"$1/etc/apache2/ports.conf"' \
	--customize-hook='for folder in "$1"/etc/php/*/*/conf.d; do cp "$1/tmp/php.ini" "$folder/90-applications.ini"; done; rm "$1/tmp/php.ini"' \
	--customize-hook='rm "$1/var/lib/phpmyadmin/blowfish_secret.inc.php"' \
	--customize-hook='chroot "$1" dpkg-query -W -f "\${Version}" wordpress >'"$out/version"

version=$(sed -nE 's/^([0-9.]+).*/\1/p' "$out/version")
[ -n "$version" ] || { echo "no version in: $(cat "$out/version")" >&2; exit 1; }
ref=multimaster/applications:$version-$hash
"$hack/pack.sh" "$out/root.tar" "$out/image.tar" '{
	"User": "33:33", "Cmd": ["apache2", "-D", "FOREGROUND"], "StopSignal": "SIGWINCH", "Env": [
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "DOCUMENT_ROOT=/usr/share/wordpress",
		"APACHE_RUN_USER=www-data", "APACHE_RUN_GROUP=www-data", "APACHE_RUN_DIR=/tmp", "APACHE_LOCK_DIR=/tmp",
		"APACHE_LOG_DIR=/tmp", "APACHE_PID_FILE=/tmp/apache2.pid"]}' \
	"$ref" "multimaster/applications:$version"
rm "$out/root.tar" "$out/version"
echo "$ref" >"$out/ref"
