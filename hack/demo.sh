#!/usr/bin/env bash
# demo.sh: a ring of three MySQL servers on a local cluster. A client writes through
# the Service, one server is deleted meanwhile, comes back and catches up; in the
# end every acknowledged write must be on all three. The ring is left running.
# shellcheck source=hack/lib.sh
. "$(dirname "$0")/lib.sh"
cd "$ROOT"
ring=demo victim=demo-1 client=demo-client writer=demo-writer
longest=120 # seconds after which the writer ends by itself
K=(kubectl --context "kind-$CLUSTER" --namespace default)

title() { printf '\n── %s\n\n' "$*"; }
show() { # a command, as a person would type it, and what it prints
	echo "\$ $*"
	"$@" --context "kind-$CLUSTER" --namespace default
	echo
}
# since TIME...: seconds from `begin` to TIME, or a dash where there is none.
since() { awk -v a="$begin" -v b="${1:-}" 'BEGIN { if (b == "") print "-"; else printf "%.1f s\n", b - a }'; }

watchers=() tmp=$(mktemp -d "$CACHE/tmp/demo.XXXXXX")
leave() {
	local status=$?
	[ ${#watchers[@]} = 0 ] || kill "${watchers[@]}" 2>/dev/null || true
	rm -rf "$tmp"
	[ $status = 0 ] || say "the demo failed; what the operator thinks of it: kubectl describe mmc $ring, and" \
		"kubectl -n multimaster-system logs deployment/multimaster-operator"
}
trap leave EXIT

# A pod with the mysql client, logged in as the application: NAME SCRIPT FILE; Ready once FILE exists.
# It reads the password from the Secret; neither this script nor a log ever has it.
pod() {
	# shellcheck disable=SC2016 # the pod's bash expands it
	local login='umask 077
printf "[client]\nhost=%s\nuser=app\npassword=\"%s\"\n[mysql]\ndatabase=app\nconnect-timeout=1\n" "$RING" "$APP_PASSWORD" >~/.my.cnf
unset APP_PASSWORD
'
	jq -n --arg name "$1" --arg ring "$ring" --arg image "$image" --arg script "$login$2" --arg ready "$3" '{
		apiVersion: "v1", kind: "Pod", metadata: {name: $name},
		spec: {restartPolicy: "Never", terminationGracePeriodSeconds: 1, containers: [{
			name: "client", image: $image, imagePullPolicy: "IfNotPresent", command: ["bash", "-c", $script],
			env: [
				{name: "HOME", value: "/tmp"}, {name: "RING", value: $ring},
				{name: "APP_PASSWORD", valueFrom: {secretKeyRef: {name: "\($ring)-credentials", key: "app-password"}}}
			],
			readinessProbe: {exec: {command: ["test", "-e", $ready]}, periodSeconds: 1},
			resources: {requests: {cpu: "20m", memory: "64Mi"}}
		}]}
	}' | "${K[@]}" apply -f - >/dev/null
}

# One new connection for each write, ten a second. What is printed as ok was acknowledged.
write=$(
	cat <<'END'
ok=0 failed=0
until [ -e /tmp/stop ] || [ $SECONDS -ge $longest ]; do
	next=$((${EPOCHREALTIME/./} + 100000))
	if answer=$(timeout 5 mysql -Nse "INSERT INTO writes (member, n, at) VALUES (@@hostname, $n, NOW(3)); SELECT @@hostname" 2>&1); then
		echo "ok $n $answer"
		ok=$((ok + 1))
		[ $ok != 20 ] || touch /tmp/writing
	else
		echo "failed $n" $answer
		failed=$((failed + 1))
	fi
	n=$((n + 1)) left=$((next - ${EPOCHREALTIME/./}))
	[ $left -le 0 ] || sleep "$(printf "0.%06d" $left)"
done
echo "$ok acknowledged, $failed failed"
END
)

query() { # HOST SQL, as the application's user; HOST is the ring's Service or a member
	local host=$1
	[ "$host" = "$ring" ] || host+=.$ring-members
	"${K[@]}" exec "$client" -- mysql -h "$host" -Nse "$2"
}

# The same transactions on all members?
equal() {
	local sets
	# shellcheck disable=SC2016 # the pod's bash expands it
	sets=$("${K[@]}" exec "$client" -- bash -ec 'for host; do mysql -h "$host" -Nse "SELECT @@global.gtid_executed"; done' \
		- "${members[@]/%/.$ring-members}")
	[ "$(wc -l <<<"$sets")" = ${#members[@]} ] && [ "$(sort -u <<<"$sets" | wc -l)" = 1 ]
}
written_by_victim() { "${K[@]}" logs "$writer" | grep -c "^ok .* $victim\$" || true; }

title "A cluster of four nodes, and the operator on it: make cluster deploy"
make --no-print-directory cluster
make --no-print-directory deploy

title "A ring of three MySQL servers"
cat manifests/demo.yaml
echo
show kubectl apply -f manifests/demo.yaml
show kubectl wait --for=condition=Ready "mmc/$ring" --timeout=300s
show kubectl get mmc "$ring"
show kubectl get pods -l "multimaster.dev/cluster=$ring" -o \
	'custom-columns=POD:.metadata.name,NODE:.spec.nodeName,IP:.status.podIP,SERVING:.metadata.labels.multimaster\.dev/serving'
"${K[@]}" get mmc "$ring" -o json | jq -r '
	["MEMBER", "STATE", "READS-FROM", "APPLIED-UP-TO"],
	(.status.memberStatuses[] | [.name, .state, (.links[0] | .upstream // "-", ((.position // {}) | "\(.file // "-"):\(.offset // "-")"))]) | @tsv' |
	column -t
mapfile -t members < <("${K[@]}" get mmc "$ring" -o json | jq -r '.status.memberStatuses[].name')

title "A client writes through the Service $ring, ten times a second, each time over a new connection"
"${K[@]}" delete pod "$client" "$writer" --ignore-not-found >/dev/null
image=$("${K[@]}" get pod "$ring-0" -o 'jsonpath={.spec.containers[?(@.name=="mysql")].image}')
pod "$client" 'exec sleep infinity' /tmp/.my.cnf
"${K[@]}" wait --for=condition=Ready "pod/$client" --timeout=60s >/dev/null
wait_for 60 "the database app" query "$ring" 'SELECT 1'
table='CREATE TABLE IF NOT EXISTS writes (
  id BIGINT PRIMARY KEY AUTO_INCREMENT,
  member VARCHAR(63) NOT NULL,   -- the server that took the write
  n BIGINT NOT NULL,             -- the number that the client gave it
  at TIMESTAMP(3) NOT NULL)'
echo "$table"
query "$ring" "$table"
wait_for 60 "the table on all members" equal
first=$(query "$ring" 'SELECT COALESCE(MAX(n), 0) + 1 FROM writes')
pod "$writer" "n=$first longest=$longest"$'\n'"$write" /tmp/writing
"${K[@]}" wait --for=condition=Ready "pod/$writer" --timeout=60s >/dev/null
echo
echo "\$ kubectl logs $writer --tail=5"
"${K[@]}" logs "$writer" --tail=5

title "Meanwhile the server $victim is deleted"
# Three watches write to one pipe, a line each time something changes: time, what, value.
mkfifo "$tmp/changes"
exec 3<>"$tmp/changes"
watch() { # JQ KIND...
	local filter=$1
	shift
	"${K[@]}" get "$@" --watch --output-watch-events -o json \
		> >(exec jq --unbuffered -r --arg victim "$victim" --arg old "$old" "$filter | [now, .[]] | @tsv" >&3) 2>/dev/null &
	watchers+=($!)
	disown
}
old=$("${K[@]}" get pod "$victim" -o 'jsonpath={.metadata.uid}')
# shellcheck disable=SC2016 # jq expands it, here and below
watch '.object | ["service", if any(.endpoints[]?; .targetRef.name == $victim and .conditions.ready) then "in" else "out" end]' \
	endpointslices -l "kubernetes.io/service-name=$ring"
# shellcheck disable=SC2016
watch '["pod", if .type == "DELETED" then "gone" elif .object.metadata.deletionTimestamp then "ending"
	elif .object.metadata.uid == $old then "old" elif any(.object.status.containerStatuses[]?; .name == "mysql" and .state.running) then "runs"
	else "new" end]' pods --field-selector "metadata.name=$victim"
# shellcheck disable=SC2016
watch '.object.status | (["ready", (.conditions[]? | select(.type == "Ready").status)], ["ring", .ring],
	(.memberStatuses[]? | select(.name == $victim) | ["member", .state]))' "mmc/$ring"

declare -A now=() out=() texts=(
	[service:out]="it is out of the Service" [service:in]="it is in the Service again"
	[pod:ending]="its pod is told to end" [pod:gone]="its pod is gone" [pod:new]="there is a new pod" [pod:runs]="the new pod runs"
	[ready:False]="mmc/$ring is not Ready" [ready:True]="mmc/$ring is Ready" [ready:Unknown]="mmc/$ring: Ready is unknown"
)
change() { # reads one; sets at, what, value; prints it if it is one
	local left=$((deadline - SECONDS)) text
	if [ $left -le 0 ] || ! IFS=$'\t' read -r -t $left -u 3 at what value; then fail "waited too long for $victim"; fi
	[ "${now[$what]:-}" != "$value" ] || return 0
	if [ -n "${begin:-}" ]; then
		case $what in
		member) text="the operator says: $victim is $value" ;;
		ring) text="the operator sees the ring: $value" ;;
		*) text=${texts[$what:$value]:-$what is $value} ;;
		esac
		printf '%9s  %s\n' "$(since "$at")" "$text"
		out[$what:$value]=$at
	fi
	now[$what]=$value
}

deadline=$((SECONDS + 30))
until [ "${now[service]:-} ${now[pod]:-} ${now[ready]:-} ${now[member]:-}" = "in old True Serving" ]; do change; done
begin=$(date +%s.%N)
echo "\$ kubectl delete pod $victim"
"${K[@]}" delete pod "$victim" --wait=false >/dev/null
deadline=$((SECONDS + 300))
# Not Ready first, then Ready with the new pod.
until [ -n "${out[ready:False]:-}" ]; do change; done
until [ "${now[service]} ${now[pod]} ${now[ready]} ${now[member]}" = "in runs True Serving" ]; do change; done
kill "${watchers[@]}" 2>/dev/null || true
watchers=()

count=$(written_by_victim)
served() { [ "$(written_by_victim)" -gt "$count" ] || "${K[@]}" logs "$writer" --tail=1 | grep -q acknowledged; }
wait_for 60 "a write at $victim" served
"${K[@]}" exec "$writer" -- touch /tmp/stop 2>/dev/null || true # it may have ended by itself
"${K[@]}" wait --for=jsonpath='{.status.phase}'=Succeeded "pod/$writer" --timeout=30s >/dev/null
"${K[@]}" logs "$writer" >"$tmp/log"
echo
echo "$victim out of the Service after   $(since "${out[service:out]:-}")"
echo "       running again after        $(since "${out[pod:runs]:-}")"
echo "       caught up, serving after   $(since "${out[service:in]:-}")"
echo "       writes meanwhile           $(tail -n 1 "$tmp/log")"
grep -m 1 '^failed ' "$tmp/log" | cut -c 1-92 | sed 's/^/       first: /' || true

title "The writer has stopped. Is every write on every server?"
wait_for 120 "gtid_executed to be equal on all members" equal
awk '$1 == "ok" { print $2 }' "$tmp/log" | sort >"$tmp/acknowledged"
status=0
{
	echo "SERVER ROWS CHECKSUM ACKNOWLEDGED-BUT-MISSING TWICE"
	for member in "${members[@]}"; do
		query "$member" 'SELECT n FROM writes' | sort >"$tmp/rows"
		echo "$member $(wc -l <"$tmp/rows") $(query "$member" 'CHECKSUM TABLE writes' | cut -f 2)" \
			"$(comm -23 "$tmp/acknowledged" "$tmp/rows" | wc -l) $(uniq -d "$tmp/rows" | wc -l)"
	done
} >"$tmp/table"
column -t "$tmp/table"
echo
[ "$(tail -n +2 "$tmp/table" | cut -d ' ' -f 2- | sort -u | wc -l)" = 1 ] || { say "error: rows differ"; status=1; }
tail -n +2 "$tmp/table" | awk '$4 + $5 > 0 { bad = 1 } END { exit bad }' || { say "error: rows are missing, or there twice"; status=1; }
[ -s "$tmp/acknowledged" ] || { say "error: nothing was written"; status=1; }
[ $status = 0 ] || exit $status
echo "gtid_executed, rows and checksums are equal; all $(wc -l <"$tmp/acknowledged") acknowledged writes of this run are there, by server:"
awk '$1 == "ok" { by[$3]++ } END { for (m in by) print "  " m, by[m] }' "$tmp/log" | sort
"${K[@]}" delete pod "$writer" >/dev/null

title "The ring goes on running"
if [ "$(command -v kubectl)" = "$BIN/kubectl" ]; then echo "export PATH=\"$BIN:\$PATH\"   # kubectl is there"; fi
cat <<END
kubectl exec -it $client -- mysql      # a client at the Service, as the application's user
kubectl describe mmc $ring              # conditions, members, links, events
kubectl get mmc $ring --watch           # and elsewhere: kubectl delete pod $ring-2
make cluster-delete                    # removes all of it
END
