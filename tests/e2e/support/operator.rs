//! The operator itself: who leads, its metrics, its pods.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};

use super::ring::Ring;
use super::times::timed;
use super::{eventually, http_get, kubectl};

pub const NAMESPACE: &str = "multimaster-system";
pub const DEPLOYMENT: &str = "deployment/multimaster-operator";
const SELECTOR: &str = "app.kubernetes.io/name=multimaster-operator";

/// The last words of every replica.
pub async fn logs() -> Result<String> {
    kubectl(&["logs", "-n", NAMESPACE, "-l", SELECTOR, "--tail=150", "--prefix"]).await
}

/// Names of its pods.
pub async fn pods() -> Result<Vec<String>> {
    let names = kubectl(&["get", "pods", "-n", NAMESPACE, "-l", SELECTOR, "-o", "name"]).await?;
    Ok(names
        .lines()
        .map(|name| name.trim_start_matches("pod/").to_owned())
        .collect())
}

/// Waits for this many replicas; for none: until the last pod is gone.
pub async fn scale(replicas: u8) -> Result<()> {
    kubectl(&["scale", DEPLOYMENT, "-n", NAMESPACE, &format!("--replicas={replicas}")]).await?;
    let arguments = ["rollout", "status", DEPLOYMENT, "-n", NAMESPACE, "--timeout=300s"];
    timed(&format!("{replicas} replicas of the operator"), kubectl(&arguments)).await?;
    eventually("the operator's pods", || async {
        let pods = pods().await?;
        ensure!(pods.len() == usize::from(replicas), "{pods:?}");
        Ok(())
    })
    .await
}

/// Takes pods of the operator away without a farewell, as the death of a node would.
pub async fn kill(pods: &[String]) -> Result<()> {
    let mut arguments = vec!["delete", "pod", "-n", NAMESPACE, "--grace-period=0", "--force"];
    arguments.extend(pods.iter().map(String::as_str));
    kubectl(&arguments).await.map(drop)
}

/// The pod that holds the lease.
pub async fn leader() -> Result<String> {
    eventually("a leader", || async {
        let path = "jsonpath={.spec.holderIdentity}";
        let lease = kubectl(&["get", "lease", "multimaster-operator", "-n", NAMESPACE, "-o", path]).await?;
        ensure!(
            pods().await?.contains(&lease),
            "the lease is held by {lease:?}, which is no pod"
        );
        Ok(lease)
    })
    .await
}

/// Values of the metrics with this name, by their labels.
pub async fn metric(pod: &str, name: &str) -> Result<BTreeMap<String, f64>> {
    let path = format!("/api/v1/namespaces/{NAMESPACE}/pods/{pod}:8080/proxy/metrics");
    let text = kubectl(&["get", "--raw", &path]).await?;
    ensure!(
        text.contains(&format!("# TYPE {}", name.trim_end_matches("_total"))),
        "no metric {name} in {text}"
    );
    let lines = text.lines().filter_map(|line| {
        let rest = line.strip_prefix(name)?;
        rest.starts_with(['{', ' ']).then(|| rest.rsplit_once(' ')).flatten()
    });
    lines
        .map(|(labels, value)| Ok((labels.to_owned(), value.parse().context("a metric's value")?)))
        .collect()
}

/// The sum of them.
pub async fn total(pod: &str, name: &str) -> Result<f64> {
    Ok(metric(pod, name).await?.values().sum())
}

/// Waits until the leader has looked at its clusters this many times more.
pub async fn passes(more: f64) -> Result<()> {
    let leader = leader().await?;
    let before = total(&leader, "multimaster_passes_total").await?;
    eventually("some more passes", || async {
        let now = total(&leader, "multimaster_passes_total").await?;
        ensure!(now >= before + more, "{before}, {now}");
        Ok(())
    })
    .await
}

/// Asks one replica for the history of a ring: the HTTP status, and what it said.
pub async fn history(pod: &str, ring: &Ring, token: &str, query: &str) -> Result<(u16, String)> {
    let path = "jsonpath={.status.podIP}";
    let ip = kubectl(&["get", "pod", pod, "-n", NAMESPACE, "-o", path]).await?;
    let url = format!(
        "http://{ip}:8080/v1/clusters/{}/{}/history{query}",
        ring.namespace, ring.name
    );
    http_get(&url, Some(token)).await
}
