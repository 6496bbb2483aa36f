//! The operator itself: who leads, its metrics, its pods.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use jiff::Timestamp;
use serde_json::json;

use super::ring::Ring;
use super::times::timed;
use super::{docker, eventually, http_get, kubectl};

pub const NAMESPACE: &str = "multimaster-system";
pub const DEPLOYMENT: &str = "deployment/multimaster-operator";
/// Names the image of an earlier operator, whose rings are upgraded.
const EARLIER: &str = "MULTIMASTER_EARLIER_OPERATOR";
/// For so many seconds a pod of the operator runs before a rollout that is to stop halfway goes on.
const HALFWAY_SECONDS: u16 = 500;
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

/// Image of an earlier operator.
pub fn earlier_image() -> Result<String> {
    std::env::var(EARLIER).with_context(|| format!("{EARLIER} must name an image in the nodes; hack/test.sh does"))
}

/// The image that the Deployment asks for.
pub async fn image() -> Result<String> {
    let path = "jsonpath={.spec.template.spec.containers[0].image}";
    kubectl(&["get", DEPLOYMENT, "-n", NAMESPACE, "-o", path]).await
}

/// Upgrades to this image, or goes back to it, and waits until no other operator is there.
pub async fn roll(image: &str) -> Result<()> {
    set(image, 0).await?;
    kubectl(&["rollout", "status", DEPLOYMENT, "-n", NAMESPACE, "--timeout=300s"]).await?;
    eventually(&format!("every operator is {image}"), || async {
        let images = images().await?;
        ensure!(images.values().all(|found| found == image), "{images:?}");
        Ok(())
    })
    .await?;
    lead(image).await
}

/// Begins to; returns when a pod of this image runs beside the others, which stay.
pub async fn roll_halfway(image: &str) -> Result<()> {
    set(image, HALFWAY_SECONDS).await?;
    beside(image).await
}

/// Waits until an operator of this image is Ready beside one of another.
pub async fn beside(image: &str) -> Result<()> {
    eventually(&format!("an operator of {image} beside another"), || async {
        let images = images().await?;
        ensure!(images.values().any(|found| found != image), "{images:?}");
        for pod in images.iter().filter(|(_, found)| *found == image).map(|(pod, _)| pod) {
            let path = r#"jsonpath={.status.conditions[?(@.type=="Ready")].status}"#;
            let ready = kubectl(&["get", "pod", pod, "-n", NAMESPACE, "-o", path, "--ignore-not-found"]).await?;
            if ready == "True" {
                return Ok(());
            }
        }
        Err(anyhow::anyhow!("{images:?}"))
    })
    .await
}

/// Begins to upgrade to this image, or to go back to it.
pub async fn set(image: &str, min_ready_seconds: u16) -> Result<()> {
    let container = json!({"name": "operator", "image": image, "env": [{"name": "OPERATOR_IMAGE", "value": image}]});
    let template = json!({"spec": {"containers": [container]}});
    let patch = json!({"spec": {"minReadySeconds": min_ready_seconds, "template": template}});
    kubectl(&["patch", DEPLOYMENT, "-n", NAMESPACE, "-p", &patch.to_string()])
        .await
        .map(drop)
}

/// Images of the operator's pods, those that end included.
async fn images() -> Result<BTreeMap<String, String>> {
    let path = r#"jsonpath={range .items[*]}{.metadata.name} {.spec.containers[0].image}{"\n"}{end}"#;
    let found = kubectl(&["get", "pods", "-n", NAMESPACE, "-l", SELECTOR, "-o", path]).await?;
    let pods = found.lines().filter_map(|line| line.split_once(' '));
    Ok(pods.map(|(name, image)| (name.to_owned(), image.to_owned())).collect())
}

/// Makes an operator of this image lead: whoever leads meanwhile ends and gives the lease back.
pub async fn lead(image: &str) -> Result<()> {
    eventually(&format!("{image} leads"), || async {
        let leader = leader().await?;
        if images().await?.get(&leader).is_some_and(|found| found == image) {
            return Ok(());
        }
        kubectl(&["delete", "pod", &leader, "-n", NAMESPACE, "--ignore-not-found"]).await?;
        Err(anyhow::anyhow!("{leader} led"))
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

/// A pod of the operator that does not reach the API server.
pub struct CutOff {
    node: String,
    rule: Vec<String>,
}

/// Cuts a pod of the operator off from the API server, and from nobody else.
pub async fn cut_off(pod: &str) -> Result<CutOff> {
    let of = async |path: &str| kubectl(&["get", "pod", pod, "-n", NAMESPACE, "-o", path]).await;
    let (node, ip) = (
        of("jsonpath={.spec.nodeName}").await?,
        of("jsonpath={.status.podIP}").await?,
    );
    // Where its packets come in: whichever node the API server is on, also this one, and by whichever address it is meant. No member has these ports.
    let rule = format!("PREROUTING -s {ip} -p tcp -m multiport --dports 443,6443 -j DROP");
    let rule = rule.split(' ').map(str::to_owned).collect();
    let cut = CutOff { node, rule };
    cut.filter("-I").await?;
    Ok(cut)
}

impl CutOff {
    async fn filter(&self, action: &str) -> Result<()> {
        let rule = self.rule.iter().map(String::as_str);
        let command: Vec<&str> = ["exec", &self.node, "iptables", "-t", "raw", action]
            .into_iter()
            .chain(rule)
            .collect();
        docker(&command).await.map(drop)
    }

    pub async fn mend(self) -> Result<()> {
        self.filter("-D").await
    }
}

/// How often the container of a pod was started again.
pub async fn restarts(pod: &str) -> Result<u32> {
    let path = "jsonpath={.status.containerStatuses[0].restartCount}";
    Ok(kubectl(&["get", "pod", pod, "-n", NAMESPACE, "-o", path])
        .await?
        .parse()?)
}

/// When the process before the present one ended in a pod.
pub async fn ended_at(pod: &str) -> Result<Timestamp> {
    let path = "jsonpath={.status.containerStatuses[0].lastState.terminated.finishedAt}";
    Ok(kubectl(&["get", "pod", pod, "-n", NAMESPACE, "-o", path])
        .await?
        .parse()?)
}

/// Since when the leader holds the lease.
pub async fn led_since() -> Result<Timestamp> {
    let path = "jsonpath={.spec.acquireTime}";
    Ok(
        kubectl(&["get", "lease", "multimaster-operator", "-n", NAMESPACE, "-o", path])
            .await?
            .parse()?,
    )
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
