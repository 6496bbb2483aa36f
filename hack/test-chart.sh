#!/usr/bin/env bash
# test-chart.sh: holds the Helm chart equal to the manifests, by the real helm; needs no cluster.
# test-chart.sh up|down: installs the chart in CLUSTER with this host's images, or
# uninstalls it and checks that the CRDs stay. CLUSTER must not have the operator
# by `make deploy`: the names are the same.
# shellcheck source=hack/lib.sh
. "$(dirname "$0")/lib.sh"
cd "$ROOT"
chart=charts/multimaster-operator
release=multimaster-operator
namespace=multimaster-system
hack/tools.sh helm kubectl

# render OPTION...: what helm would install, as YAML.
render() { helm template "$release" "$chart" --namespace "$namespace" --include-crds "$@"; }

# objects FILE...: as JSON, one a line. With --local kubectl asks no server.
objects() {
	local file
	for file; do
		KUBECONFIG=/dev/null kubectl patch --local --type=merge -p '{}' -f "$file" -o json
	done | jq -c .
}

# normal: sorted, without what only a chart adds to metadata. helm makes the namespace itself.
normal() {
	jq -sS '
		map(select(.kind != "Namespace"))
		| map(.metadata |= (
			.labels = ((.labels // {}) | with_entries(select(.key | test("^(helm\\.sh|app\\.kubernetes\\.io)/") | not)))
			| .annotations = ((.annotations // {}) | with_entries(select(.key | startswith("helm.sh/") | not)))
			| with_entries(select(.value != {} and .value != null))))
		| sort_by(.kind, .metadata.name)[]'
}

# refuses WHERE OPTION...: the schema does not take OPTION, and helm says where.
refuses() {
	local where=$1 said
	shift
	if said=$(render "$@" 2>&1 >/dev/null); then fail "the chart takes $*"; fi
	grep -qF "$where" <<<"$said" || fail "$*: refused, but not for $where: $said"
	say "refused, as it should be: $*"
}

# renders EXPRESSION OPTION...: with OPTION, EXPRESSION is true of the list of objects.
renders() {
	local expression=$1
	shift
	render "$@" >"$tmp/other.yaml"
	objects "$tmp/other.yaml" | jq -es "$expression" >/dev/null || fail "with $* this is not true: $expression"
	say "rendered: $*"
}

check() {
	tmp=$(mktemp -d "$CACHE/tmp/chart.XXXXXX")
	trap 'rm -rf "$tmp"' EXIT
	local files=(crds/*.yaml manifests/operator/*.yaml)

	cmp crds/multimasterclusters.yaml "$chart/files/crds/multimasterclusters.yaml" || fail "the chart's CRD is not the generated one: make generate"
	helm lint --strict "$chart" >"$tmp/lint" 2>&1 || { cat "$tmp/lint" >&2; fail "helm lint"; }
	render >"$tmp/chart.yaml"
	objects "$tmp/chart.yaml" | normal >"$tmp/chart.json"
	objects "${files[@]}" | normal >"$tmp/manifests.json"
	diff -u --label manifests "$tmp/manifests.json" --label chart "$tmp/chart.json" >&2 ||
		fail "the chart does not install what crds/ and manifests/operator/ do, see the difference"
	say "equal: $(grep -c '^  "kind"' "$tmp/chart.json") objects"

	refuses /replicas --set-string replicas=two
	refuses /replicas --set replicas=-1
	refuses /logFormat --set logFormat=xml
	refuses /image --set image.tags=1
	refuses replicaCount --set replicaCount=3
	refuses /mysqlImage --set mysqlImage=97
	refuses /resources --set resources.request.cpu=1

	local crd='map(select(.kind == "CustomResourceDefinition"))'
	local pod='(map(select(.kind == "Deployment"))[0].spec.template)'
	renders "$crd | .[0].metadata.annotations[\"helm.sh/resource-policy\"] == \"keep\"" --set crds.keep=true
	renders "$crd | length == 1 and .[0].metadata.annotations == null" --set crds.keep=false
	renders "$crd == []" --set crds.enabled=false
	renders 'map(select(.apiVersion | startswith("rbac"))) == []' --set rbac.create=false
	renders 'map(select(.apiVersion | startswith("admissionregistration"))) == []' --set admissionPolicy.create=false
	renders 'map(select(.kind == "ServiceAccount")) == [] and (map(.subjects[]?.name) | unique) == ["mine"]' \
		--set serviceAccount.create=false --set serviceAccount.name=mine
	renders 'map(select(.kind == "ServiceAccount"))[0].metadata.annotations == {a: "b"}' --set serviceAccount.annotations.a=b
	renders "$pod.spec.containers[0] | .image == \"r/o:1\" and .imagePullPolicy == \"Always\" and (.env | map({(.name): .value}) | add
		| .OPERATOR_IMAGE == \"r/o:1\" and .MYSQL_IMAGE == \"r/m:2\" and .LOG_FORMAT == \"Text\")" \
		--set image.repository=r/o --set-string image.tag=1 --set image.pullPolicy=Always --set mysqlImage=r/m:2 --set logFormat=Text
	renders "$pod | .metadata.labels.a == \"b\" and .metadata.annotations.c == \"d\" and .spec.priorityClassName == \"high\" and .spec.nodeSelector.e == \"f\"" \
		--set podLabels.a=b --set podAnnotations.c=d --set priorityClassName=high --set nodeSelector.e=f
	renders "$pod.spec | .affinity == null and .tolerations == null and .securityContext == null and (.containers[0] | .resources == null and .securityContext == null)" \
		--set affinity=null --set tolerations=null --set podSecurityContext=null --set securityContext=null --set resources=null
	renders 'map(select(.kind == "Service")) | length == 1 and .[0].spec.ports[0].port == 8080' --set metrics.service.enabled=true
}

up() {
	local operator mysql haproxy begin=$EPOCHREALTIME
	operator=$(hack/images.sh print operator)
	mysql=$(hack/images.sh print mysql)
	haproxy=$(hack/images.sh print haproxy)
	helm upgrade --install "$release" "$chart" --kube-context "kind-$CLUSTER" --namespace "$namespace" --create-namespace \
		--set "image.repository=${operator%:*}" --set-string "image.tag=${operator##*:}" --set-string "mysqlImage=$mysql" --set-string "haproxyImage=$haproxy" \
		--wait --timeout 120s
	kubectl --context "kind-$CLUSTER" -n "$namespace" rollout status deployment/multimaster-operator --timeout=120s
	say "    $operator runs, by helm: $(elapsed "$begin")"
}

# The CRDs stay: with them would go every ring.
down() {
	helm uninstall "$release" --kube-context "kind-$CLUSTER" --namespace "$namespace" \
		--ignore-not-found --cascade foreground --wait --timeout 120s
	kubectl --context "kind-$CLUSTER" get -f crds/ >&2 || fail "the CRDs went with the release"
}

case ${1:-check} in
check | up | down) "${1:-check}" ;;
*) fail "usage: $0 [up|down]" ;;
esac
