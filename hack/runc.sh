#!/usr/bin/env bash
# Stands in for runc on a host that lacks CAP_SYS_RESOURCE: there runc cannot
# start a privileged container ("unable to apply caps"), because it asks for all
# capabilities. This takes the missing one off the list, then runs runc.
set -euo pipefail

action='' bundle=. process='' previous=''
for argument; do
	case $previous in
	--bundle | -b) bundle=$argument ;;
	--process | -p) process=$argument ;;
	esac
	case $argument in
	create | run | exec) [ -n "$action" ] || action=$argument ;;
	--bundle=*) bundle=${argument#*=} ;;
	--process=*) process=${argument#*=} ;;
	esac
	previous=$argument
done

without() { # file, path of its capabilities
	[ -f "$1" ] || return 0
	jq "if $2 then $2 |= map_values(map(select(. != \"CAP_SYS_RESOURCE\"))) else . end" "$1" >"$1.new"
	cat "$1.new" >"$1"
	rm "$1.new"
}
case $action in
create | run) without "$bundle/config.json" .process.capabilities ;;
exec) without "$process" .capabilities ;;
esac
exec runc "$@"
