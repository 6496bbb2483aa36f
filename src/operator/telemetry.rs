//! Metrics of the operator itself, and how they and its health are served.

mod volumes;

use std::sync::Arc;
use std::time::{Duration, Instant};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

use super::liveness::Liveness;
use crate::api::status::MultiMasterClusterStatus;
use crate::decide::step::Step;
use crate::wire::io::ports::open_server;
use volumes::Volumes;

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Write {
    method: String,
    resource: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct StepKind {
    step: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Cluster {
    namespace: String,
    cluster: String,
}

impl Cluster {
    fn named(namespace: &str, name: &str) -> Self {
        Self {
            namespace: namespace.into(),
            cluster: name.into(),
        }
    }
}

/// Counters and gauges of the operator, served as `/metrics`.
pub struct Metrics {
    registry: Registry,
    api_writes: Family<Write, Counter>,
    steps: Family<StepKind, Counter>,
    passes: Counter,
    failed_passes: Counter,
    broken_passes: Family<Cluster, Counter>,
    pass_seconds: Histogram,
    leader: Gauge,
    ready_members: Family<Cluster, Gauge>,
    desired_members: Family<Cluster, Gauge>,
    lag_seconds: Family<Cluster, Gauge>,
    conflicts: Family<Cluster, Gauge>,
    epoch: Family<Cluster, Gauge<i64>>,
    differences: Family<Cluster, Gauge>,
    compared_at: Family<Cluster, Gauge>,
    volumes: Volumes,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("multimaster");
        let metrics = Self {
            registry: Registry::default(),
            api_writes: Family::default(),
            steps: Family::default(),
            passes: Counter::default(),
            failed_passes: Counter::default(),
            broken_passes: Family::default(),
            // From 1 ms to 8 s.
            pass_seconds: Histogram::new(exponential_buckets(0.001, 2.0, 14)),
            leader: Gauge::default(),
            ready_members: Family::default(),
            desired_members: Family::default(),
            lag_seconds: Family::default(),
            conflicts: Family::default(),
            epoch: Family::default(),
            differences: Family::default(),
            compared_at: Family::default(),
            volumes: Volumes::default(),
        };
        registry.register(
            "api_writes",
            "Requests to the API server that may change something, Leases excepted",
            metrics.api_writes.clone(),
        );
        registry.register("steps", "Steps carried out", metrics.steps.clone());
        registry.register("passes", "Passes over a cluster", metrics.passes.clone());
        registry.register(
            "failed_passes",
            "Passes that ended in an error",
            metrics.failed_passes.clone(),
        );
        registry.register(
            "broken_passes",
            "Passes over a cluster that panicked or did not end",
            metrics.broken_passes.clone(),
        );
        registry.register("pass_seconds", "Duration of a pass", metrics.pass_seconds.clone());
        registry.register("leader", "1 while this replica is the leader", metrics.leader.clone());
        registry.register(
            "ready_members",
            "Members that serve in the closed ring",
            metrics.ready_members.clone(),
        );
        registry.register(
            "desired_members",
            "Members that should serve",
            metrics.desired_members.clone(),
        );
        registry.register("max_lag_seconds", "Largest lag of a link", metrics.lag_seconds.clone());
        registry.register(
            "conflicts",
            "Links whose applier is stopped by an error",
            metrics.conflicts.clone(),
        );
        registry.register("epoch", "Epoch of the ring", metrics.epoch.clone());
        registry.register(
            "differences",
            "Definitions, accounts and chunks of rows that differed at the last comparison of the members",
            metrics.differences.clone(),
        );
        registry.register(
            "last_comparison_timestamp_seconds",
            "When members were last compared",
            metrics.compared_at.clone(),
        );
        metrics.volumes.register(&mut registry);
        Self { registry, ..metrics }
    }
}

impl Metrics {
    /// Counts a request that may change something. Reads are not counted.
    pub fn request(&self, method: &http::Method, path: &str) {
        let resource = resource_of(path);
        // Reviews are questions.
        let writes = !matches!(resource.as_str(), "leases" | "tokenreviews" | "subjectaccessreviews");
        if matches!(*method, http::Method::GET | http::Method::HEAD | http::Method::OPTIONS) || !writes {
            return;
        }
        self.api_writes
            .get_or_create(&Write {
                method: method.to_string(),
                resource,
            })
            .inc();
    }

    /// Counts a step that was carried out.
    pub fn step(&self, step: &Step) {
        self.steps.get_or_create(&StepKind { step: step.kind() }).inc();
    }

    /// Counts a pass.
    pub fn pass(&self, seconds: f64, failed: bool) {
        self.passes.inc();
        self.pass_seconds.observe(seconds);
        if failed {
            self.failed_passes.inc();
        }
    }

    /// Counts a pass that was broken off.
    pub fn broken_pass(&self, namespace: &str, name: &str) {
        let labels = Cluster::named(namespace, name);
        self.broken_passes.get_or_create(&labels).inc();
    }

    /// Whether this replica leads.
    pub fn leads(&self, leads: bool) {
        self.leader.set(i64::from(leads));
    }

    /// Shows the figures of one cluster.
    pub fn cluster(&self, namespace: &str, name: &str, desired: u8, status: &MultiMasterClusterStatus) {
        let labels = Cluster::named(namespace, name);
        self.desired_members.get_or_create(&labels).set(desired.into());
        self.ready_members
            .get_or_create(&labels)
            .set(status.ready_members.into());
        self.conflicts.get_or_create(&labels).set(status.conflicts.into());
        self.epoch.get_or_create(&labels).set(status.epoch);
        if let Some(comparison) = &status.comparison {
            let finished = comparison.finished_at.as_ref().map(|at| at.0.as_second());
            self.differences.get_or_create(&labels).set(comparison.differing.into());
            self.compared_at
                .get_or_create(&labels)
                .set(finished.unwrap_or_default());
        }
        match status.max_lag_seconds {
            Some(lag) => drop(self.lag_seconds.get_or_create(&labels).set(lag)),
            // What cannot be seen is absent, not 0.
            None => drop(self.lag_seconds.remove(&labels)),
        }
        self.volumes.show(namespace, name, &status.member_statuses);
    }

    /// Forgets a cluster that is gone.
    pub fn forget(&self, namespace: &str, name: &str) {
        let labels = Cluster::named(namespace, name);
        for family in [
            &self.desired_members,
            &self.ready_members,
            &self.conflicts,
            &self.lag_seconds,
            &self.epoch,
            &self.differences,
            &self.compared_at,
        ] {
            family.remove(&labels);
        }
        self.broken_passes.remove(&labels);
        self.volumes.show(namespace, name, &[]);
    }

    /// The text format of Prometheus.
    ///
    /// # Errors
    /// When a metric cannot be formatted.
    pub fn encode(&self) -> Result<String, std::fmt::Error> {
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

/// `pods` in `/api/v1/namespaces/x/pods/y`, `statefulsets` in `/apis/apps/v1/namespaces/x/statefulsets`.
fn resource_of(path: &str) -> String {
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    let rest = match parts.as_slice() {
        ["api", _, rest @ ..] | ["apis", _, _, rest @ ..] => rest,
        rest => rest,
    };
    let resource = match rest {
        ["namespaces", _, resource, ..] => resource,
        [resource, ..] => resource,
        [] => "",
    };
    resource.to_owned()
}

/// Serves `/healthz`, `/readyz`, `/metrics` and more routes for ever.
///
/// # Errors
/// When the address cannot be bound.
pub async fn serve(
    address: std::net::SocketAddr,
    metrics: Arc<Metrics>,
    liveness: Arc<Liveness>,
    more: axum::Router,
) -> std::io::Result<()> {
    use axum::http::StatusCode;
    use axum::routing::get;
    let asked = liveness.clone();
    let alive = move || {
        let said = match asked.is_alive(Instant::now()) {
            Ok(()) => (StatusCode::OK, "ok".to_owned()),
            Err(why) => (StatusCode::INTERNAL_SERVER_ERROR, why),
        };
        async move { said }
    };
    let ready = move || {
        let status = if liveness.is_ready() {
            StatusCode::OK
        } else {
            StatusCode::SERVICE_UNAVAILABLE
        };
        async move { status }
    };
    let text = move || {
        let text = metrics.encode().map_err(|_| StatusCode::INTERNAL_SERVER_ERROR);
        async move {
            text.map(|text| {
                (
                    [(
                        "content-type",
                        "application/openmetrics-text; version=1.0.0; charset=utf-8",
                    )],
                    text,
                )
            })
        }
    };
    let router = axum::Router::new()
        .route("/healthz", get(alive))
        .route("/readyz", get(ready))
        .route("/metrics", get(text))
        .merge(more);
    let server = open_server(std::net::TcpListener::bind(address)?, LONGEST_REQUEST)?;
    server.serve(router.into_make_service()).await
}

/// How long a connection lasts at most. A history asks every pod of a cluster.
const LONGEST_REQUEST: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comparison_is_shown_once_there_was_one() {
        let metrics = Metrics::default();
        let mut status = MultiMasterClusterStatus::default();
        let text = || metrics.encode().unwrap_or_default();
        metrics.cluster("x", "demo", 3, &status);
        assert!(!text().contains("multimaster_differences{"), "{}", text());
        status.comparison = Some(crate::api::status::ComparisonStatus {
            differing: 2,
            ..Default::default()
        });
        metrics.cluster("x", "demo", 3, &status);
        let labels = r#"{namespace="x",cluster="demo"}"#;
        assert!(
            text().contains(&format!("multimaster_differences{labels} 2")),
            "{}",
            text()
        );
        metrics.forget("x", "demo");
        assert!(!text().contains("multimaster_differences{"), "{}", text());
    }

    #[test]
    fn leases_and_reads_are_not_writes() {
        let metrics = Metrics::default();
        metrics.request(&http::Method::GET, "/api/v1/namespaces/x/pods");
        metrics.request(
            &http::Method::PATCH,
            "/apis/coordination.k8s.io/v1/namespaces/x/leases/y",
        );
        metrics.request(&http::Method::POST, "/apis/authentication.k8s.io/v1/tokenreviews");
        assert!(!metrics.encode().unwrap_or_default().contains("api_writes_total{"));
        metrics.request(&http::Method::PATCH, "/api/v1/namespaces/x/pods/demo-0");
        metrics.request(
            &http::Method::PUT,
            "/apis/multimaster.dev/v1alpha1/namespaces/x/multimasterclusters/demo/status",
        );
        let text = metrics.encode().unwrap_or_default();
        assert!(
            text.contains(r#"multimaster_api_writes_total{method="PATCH",resource="pods"} 1"#),
            "{text}"
        );
        assert!(text.contains(r#"resource="multimasterclusters""#), "{text}");
    }
}
