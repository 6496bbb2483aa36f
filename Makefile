# The local cluster, the images, the operator. `make` alone lists the targets.
# Variables: CLUSTER, IMAGES=pull|build|auto, NODE_IMAGE, MYSQL_IMAGE, HAPROXY_IMAGE, APPLICATIONS_IMAGE, BENCH_IMAGE, KUBECONFIG;
# of the operator's image: PROFILE=release|ci; of the simulation: SEED, SEEDS, FROM, WITHIN (seconds), FAILURES; EXHAUSTIVE=faults,writes,kinds.
CLUSTER ?= multimaster
CACHE := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/multimaster

# What make sets is what the scripts see; the cache's own tools come first.
export CLUSTER PROFILE IMAGES NODE_IMAGE MYSQL_IMAGE HAPROXY_IMAGE APPLICATIONS_IMAGE BENCH_IMAGE PICTURES
export SEED SEEDS FROM WITHIN FAILURES
export PATH := $(CACHE)/bin:$(PATH)

.DEFAULT_GOAL := help
.PHONY: help
help: ## this list
	@sed -nE 's/^([a-z-]+):.*## (.*)/\1|\2/p' $(MAKEFILE_LIST) | column -t -s '|'

.PHONY: cluster cluster-delete images load routes
cluster: ## a Ready kind cluster CLUSTER with the MySQL image in its nodes
	@hack/cluster.sh up
cluster-delete: ## removes the kind cluster CLUSTER
	@hack/cluster.sh down
images: ## builds (or pulls) the images of MySQL, HAProxy and the operator, prints their names
	@hack/images.sh print mysql
	@hack/images.sh print haproxy
	@hack/images.sh print operator
load: ## these images into the nodes of the cluster
	@hack/load.sh mysql haproxy operator
routes: ## routes from this host to the pods
	@hack/routes.sh

.PHONY: deploy undeploy run
deploy: load ## the operator in the cluster, from the manifests
	@hack/deploy.sh up
undeploy: ## removes the operator from the cluster; rings and CRDs stay
	@hack/deploy.sh down
run: routes ## the operator on this host, against the cluster
	kubectl config use-context kind-$(CLUSTER)
	cargo run -- operator

.PHONY: generate fmt clippy chaos test simulate exhaustive demo demo-app bench-balancer bench-many bench-neighbours bench-busy
MULTIMASTER := cargo run --quiet --bin multimaster --
generate: ## writes what is generated: the CRDs, and the chart's copy
	@mkdir -p crds
	$(MULTIMASTER) crd > crds/.new && mv crds/.new crds/multimasterclusters.yaml
	cp crds/multimasterclusters.yaml charts/multimaster-operator/files/crds/
fmt: ## formats the code
	cargo fmt --all
clippy: ## the linter, warnings are errors
	cargo clippy --all-targets --locked -- -D warnings
chaos: deploy routes ## faults in turn on a ring in the cluster, and a table of what they cost; FAULT=NAME,NAME for some of them
	MULTIMASTER_TEST_CONTEXT=kind-$(CLUSTER) cargo test --locked --test e2e -- --ignored --nocapture chaos::
test: ## all tests
	@hack/test.sh
# Line numbers of failures in the model matter more than its speed, so only this package is optimised.
simulate: ## many seeds of the simulation: SEEDS=n FROM=n WITHIN=seconds FAILURES=n; SEED=n replays one
	cargo test --locked --config profile.dev.package.multimaster.opt-level=1 --test simulation -- $(if $(SEED),replay,every_seed) --nocapture
TWO_FAULTS := 2,0,2
exhaustive: ## the simulation in every order of events: EXHAUSTIVE=faults,writes,kinds of faults (2,0,2), WITHIN=seconds
	EXHAUSTIVE=$(or $(EXHAUSTIVE),$(TWO_FAULTS)) cargo test --locked --config profile.dev.package.multimaster.opt-level=1 --test simulation -- every_order --nocapture
demo: ## a ring that heals, step by step
	@hack/demo.sh
demo-app: cluster deploy routes ## WordPress on a ring, a browser, and the loss of the server it writes to; pictures go to PICTURES=FOLDER
	@hack/demo-app.sh
bench-many: ## a thousand clusters on an API server alone
	CLUSTERS=1000 KUBERNETES=$$(hack/images.sh tool kubernetes)/kubernetes ETCD=$$(hack/images.sh tool etcd)/etcd \
		cargo test --locked --test api_server -- --ignored --nocapture
bench-neighbours: deploy routes ## a quarter of an hour: how a ring heals beside others that cannot; HOSTILE_IMAGE names the image of a hostile server
	MULTIMASTER_TEST_CONTEXT=kind-$(CLUSTER) cargo test --locked --test e2e -- --ignored --nocapture bench::neighbours::
bench-busy: deploy routes ## ten minutes: three rings on a busy machine
	MULTIMASTER_TEST_CONTEXT=kind-$(CLUSTER) cargo test --locked --test e2e -- --ignored --nocapture bench::busy::
bench-balancer: cluster deploy routes ## a quarter of an hour: one server, PEN, Service and HAProxy compared; PARTS=delay,sysbench,load,outages for some; the report goes to BENCH=FOLDER
	@hack/load.sh applications bench
	MULTIMASTER_TEST_CONTEXT=kind-$(CLUSTER) BENCH=$(or $(BENCH),$(CACHE)/bench) cargo test --locked --test e2e -- --ignored --nocapture bench::balancers
