#!/usr/bin/env bash
# demo-app.sh: WordPress on a ring of three MySQL servers of which one takes the writes. A browser installs it and
# publishes, the member that serves WordPress is killed and kept away, the browser publishes on, the member returns.
# In the end every post and comment that was acknowledged must be on all three. It is left running.
# Pictures of the blog go to the folder PICTURES.
# shellcheck source=hack/lib.sh
. "$(dirname "$0")/lib.sh"
cd "$ROOT"
ring=blog namespace=demo-app
PICTURES=${PICTURES:-$CACHE/demo-app}
K=(kubectl --context "kind-$CLUSTER" --namespace "$namespace")

title() { printf '\n── %s\n\n' "$*"; }
show() { # a command, as a person would type it, and what it prints
	echo "\$ $*"
	"$@" --context "kind-$CLUSTER" --namespace "$namespace"
	echo
}

tmp=$(mktemp -d "$CACHE/tmp/demo-app.XXXXXX") probe='' quota=''
leave() {
	local status=$?
	[ -z "$probe" ] || kill "$probe" 2>/dev/null || true
	if [ -n "$quota" ]; then "${K[@]}" delete quota no-new-pods --ignore-not-found || true; fi # it would keep pods away
	if [ $status != 0 ]; then
		say "The demo failed. What it saw is in $tmp. What the operator thinks:
  kubectl --namespace $namespace describe mmc $ring
  kubectl --namespace multimaster-system logs deployment/multimaster-operator"
	else
		rm -rf "$tmp"
	fi
}
trap leave EXIT

# query HOST SQL: as WordPress's user and from WordPress's pod; HOST is the ring's Service or a member.
query() {
	local host=$1
	[ "$host" = "$ring" ] || host+=.$ring-members
	# shellcheck disable=SC2016 # PHP expands it
	"${K[@]}" exec deployment/wordpress -- php -r '
		$database = new mysqli($argv[1], getenv("DB_USER"), getenv("DB_PASSWORD"), getenv("DB_NAME"));
		foreach ($database->query($argv[2])->fetch_all() as $row) echo implode("\t", $row), "\n";' -- "$host" "$2"
}
posts="SELECT post_title FROM wp_posts WHERE post_type = 'post' AND post_status = 'publish'"
comments="SELECT REPLACE(comment_content, '\n', ' ') FROM wp_comments WHERE comment_approved = '1'"

install() { # FOLDER of an example
	kubectl kustomize "examples/$1" | sed "s|multimaster/applications:dev|$image|" | "${K[@]}" apply -f -
}
browser() { node hack/demo-app/browser.js "$@"; }
publish() { # TITLE
	local id clicks server
	read -r id clicks < <(browser publish "$1") || fail "\"$1\" was not published"
	echo "$1" >>"$tmp/published"
	server=$(query "$ring" 'SELECT @@hostname')
	echo "\"$1\" is published: post $id, $clicks click(s) on Publish; $server serves"
	post=$id
}
picture() { # NAME
	mkdir -p "$PICTURES"
	browser picture "$PICTURES/wordpress-$1.png"
	echo "picture: $PICTURES/wordpress-$1.png"
}

hack/host.sh curl=curl node=nodejs npm=npm chromium=chromium
NODE_PATH=$(product demo-app "$(recipe hack/demo-app/{package.json,package-lock.json,install.sh})" hack/demo-app/install.sh)/node_modules
hack/load.sh applications
image=$(QUIET=1 hack/images.sh print applications)

title "A new namespace $namespace with examples/wordpress: three MySQL servers, HAProxy, WordPress"
kubectl --context "kind-$CLUSTER" delete namespace "$namespace" --ignore-not-found --timeout=300s
kubectl --context "kind-$CLUSTER" create namespace "$namespace"
install wordpress
show kubectl wait --for=condition=Ready "mmc/$ring" --timeout=300s
"${K[@]}" rollout status deployment/wordpress --timeout=300s
wait_for 120 "the database" query "$ring" 'SELECT 1'
mapfile -t members < <("${K[@]}" get mmc "$ring" -o json | jq -r '.status.memberStatuses[].name')
show kubectl get mmc "$ring"

title "A browser installs WordPress and publishes"
SITE=http://$("${K[@]}" get service wordpress -o 'jsonpath={.spec.clusterIP}')
WORDPRESS_USER=editor WORDPRESS_PASSWORD=$(od -An -N12 -tx1 /dev/urandom | tr -d ' \n')
CHROMIUM=$(command -v chromium) SESSION=$tmp/session
export NODE_PATH SITE WORDPRESS_USER WORDPRESS_PASSWORD CHROMIUM SESSION
# For a person who wants to look around afterwards.
"${K[@]}" create secret generic wordpress-login --from-literal="user=$WORDPRESS_USER" --from-literal="password=$WORDPRESS_PASSWORD" >/dev/null
reachable() { curl -sf -m 10 -o /dev/null "$SITE/wp-includes/version.php"; }
wait_for 60 "$SITE from this host (make routes)" reachable
browser install
browser login
publish "All three servers are there"
picture before

title "From now on the blog is read ten times a second, and somebody comments once a second"
node hack/demo-app/probe.js "$tmp/probe" "$post" 2>"$tmp/probe.err" &
probe=$!
answered() { kill -0 "$probe" && [ "$(grep -c ' get ok' "$tmp/probe")" -ge 20 ] && [ "$(grep -c ' post ok' "$tmp/probe")" -ge 3 ]; }
wait_for 120 "answers, see $tmp/probe" answered
tail -n 3 "$tmp/probe"

victim=$(query "$ring" 'SELECT @@hostname')
title "$victim serves WordPress: it is killed, and kept away by a quota for pods"
quota=yes
show kubectl create quota no-new-pods --hard=pods=0
"${K[@]}" wait --for=jsonpath='{.status.hard.pods}'=0 quota/no-new-pods --timeout=60s >/dev/null
echo "\$ kubectl exec $victim -c mysql -- kill -9 MYSQLD; kubectl delete pod $victim"
begin=$EPOCHREALTIME
# shellcheck disable=SC2016 # the pod's shell expands it
"${K[@]}" exec "$victim" -c mysql -- sh -ec 'for p in /proc/[0-9]*; do [ "$(cat "$p/comm")" != mysqld ] || kill -9 "${p#/proc/}"; done'
"${K[@]}" delete pod "$victim" --wait=false
publish "$victim is down, the blog is not"
gone() {
	local pod
	pod=$("${K[@]}" get pod "$victim" --ignore-not-found -o name) || return 1
	[ -z "$pod" ]
}
wait_for 120 "the end of $victim's pod" gone
show kubectl wait --for=condition=Ready=False "mmc/$ring" --timeout=60s
publish "Two servers go on"
picture during
gone || fail "$victim was not away"
show kubectl get mmc "$ring"

title "$victim may start again"
show kubectl delete quota no-new-pods
quota=''
show kubectl wait --for=create "pod/$victim" --timeout=300s
show kubectl wait --for=condition=Ready "mmc/$ring" --timeout=300s
echo "$victim was away for $(elapsed "$begin")"
show kubectl get mmc "$ring"
publish "All three servers are there again"
picture after
kill "$probe"
wait "$probe" || fail "the probe failed: $(cat "$tmp/probe.err")"
probe=''

title "Is everything on every server that somebody was told is published?"
equal() {
	local member
	for member in "${members[@]}"; do query "$member" "SELECT REPLACE(@@global.gtid_executed, '\n', '')" || return 1; done >"$tmp/sets"
	[ "$(wc -l <"$tmp/sets")" = ${#members[@]} ] && [ "$(sort -u "$tmp/sets" | wc -l)" = 1 ]
}
wait_for 120 "gtid_executed to be equal on all members" equal
awk '$3 == "post" && $4 == "ok" { print $5 }' "$tmp/probe" | cat "$tmp/published" - | sort >"$tmp/told"
status=0
{
	echo "SERVER POSTS COMMENTS MISSING TWICE"
	for member in "${members[@]}"; do
		query "$member" "$posts" >"$tmp/posts"
		query "$member" "$comments" >"$tmp/comments"
		sort "$tmp/posts" "$tmp/comments" >"$tmp/rows"
		echo "$member $(wc -l <"$tmp/posts") $(wc -l <"$tmp/comments")" \
			"$(comm -23 "$tmp/told" "$tmp/rows" | wc -l) $(uniq -d "$tmp/rows" | wc -l)"
	done
} >"$tmp/table"
column -t "$tmp/table"
echo
[ "$(tail -n +2 "$tmp/table" | cut -d ' ' -f 2- | sort -u | wc -l)" = 1 ] || { say "error: the servers differ"; status=1; }
tail -n +2 "$tmp/table" | awk '$4 + $5 > 0 { bad = 1 } END { exit bad }' || { say "error: posts or comments are missing, or there twice"; status=1; }
[ $status = 0 ] || exit $status
echo "gtid_executed is equal; all $(wc -l <"$tmp/told") posts and comments that were acknowledged are there."
echo
grep ' failed ' "$tmp/probe" || echo "No request failed."
# An outage of a kind of request: from its first failure to its next success.
sort -n "$tmp/probe" | awk -v kill="$begin" '
	{ n[$3]++; if ($2 > slow[$3]) slow[$3] = $2 }
	$4 == "failed" { bad[$3]++; if (!since[$3]) since[$3] = $1 }
	$4 == "ok" && since[$3] {
		printf "%s failed for %.1f s, from %.1f s after the command to kill\n", $3 == "get" ? "reading" : "commenting", $1 + $2 / 1000 - since[$3], since[$3] - kill
		since[$3] = 0
	}
	END {
		printf "\n%d pages read, %d failed, the slowest took %.1f s\n", n["get"], bad["get"], slow["get"] / 1000
		printf "%d comments sent, %d failed, the slowest took %.1f s\n", n["post"], bad["post"], slow["post"] / 1000
	}'

title "A person looks into the database with examples/admin: phpMyAdmin"
install admin
"${K[@]}" rollout status deployment/admin --timeout=300s
ADMIN=http://$("${K[@]}" get service admin -o 'jsonpath={.spec.clusterIP}')
ADMIN_PASSWORD=$("${K[@]}" get secret "$ring-credentials" -o 'jsonpath={.data.root-password}' | base64 -d)
export ADMIN ADMIN_PASSWORD
browser table "$PICTURES/phpmyadmin.png" >"$tmp/seen"
cat "$tmp/seen"
echo "picture: $PICTURES/phpmyadmin.png"
missing=$(sort "$tmp/published" | comm -23 - <(sort "$tmp/seen"))
[ -z "$missing" ] || fail "phpMyAdmin does not show: $missing"

title "The blog goes on running"
printf '%-62s # %s\n' \
	"$SITE" "the blog, from this host" \
	"$ADMIN" "phpMyAdmin, from this host" \
	"kubectl -n $namespace get secret wordpress-login -o yaml" "the login, in base64" \
	"kubectl delete namespace $namespace" "removes all of it"
