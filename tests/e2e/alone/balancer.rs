//! HAProxy's pods and their nodes fail under a client that writes, and HAProxy leaves a frozen member without an operator, too.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::DeleteParams;
use multimaster::names;
use serde_json::json;

use crate::support::ring::{Ring, is_serving};
use crate::support::world::alone;
use crate::support::writers::{At, Writers};
use crate::support::{docker, eventually, http_get, kubectl, operator};

#[tokio::test]
#[ignore = "needs a cluster: hack/test.sh"]
async fn writes_go_on_without_one_haproxy_and_without_an_operator() -> Result<()> {
    alone("haproxy", |world| async move {
        let ring = Ring::ready(&world, "demo", 3, json!({"balancer": {"type": "HAProxy"}})).await?;
        let writers = Writers::start(&ring, vec![At::Service]).await?;
        writers.go_on(&[At::Service]).await?;
        eventually("every HAProxy tells of every member", || statistics(&ring)).await?;
        a_node_stands_still(&ring, &writers).await?;
        a_pod_is_deleted(&ring, &writers).await?;
        without_an_operator(&ring, &writers).await?;
        writers.settle().await.map(drop)
    })
    .await
}

/// Each pod has a page for people, and each member's state for Prometheus.
async fn statistics(ring: &Ring) -> Result<()> {
    let pods = ring.balancers().await?;
    ensure!(pods.len() == 2, "{} pods", pods.len());
    for pod in pods {
        let ip = pod.status.as_ref().and_then(|status| status.pod_ip.clone());
        let address = format!(
            "http://{}:{}",
            ip.context("no address")?,
            names::BALANCER_STATISTICS_PORT
        );
        let (status, page) = http_get(&format!("{address}/"), None).await?;
        ensure!(status == 200, "{}: {status} {page}", pod.name_any());
        let (status, metrics) = http_get(&format!("{address}/metrics"), None).await?;
        ensure!(status == 200, "{}: {status} {metrics}", pod.name_any());
        for ordinal in ring.ordinals() {
            let labels = [r#"state="UP""#.to_owned(), format!(r#"server="m-{ordinal}""#)];
            let mut states = metrics
                .lines()
                .filter(|line| line.starts_with("haproxy_server_status{"));
            let up = states.any(|line| labels.iter().all(|label| line.contains(label)) && line.ends_with(" 1"));
            ensure!(up, "{}: m-{ordinal} is not UP: {metrics}", pod.name_any());
        }
    }
    Ok(())
}

/// The node of an HAProxy pod stands still, and with it the member that is there.
async fn a_node_stands_still(ring: &Ring, writers: &Writers) -> Result<()> {
    let path = "jsonpath={.spec.nodeName}";
    let leader = operator::leader().await?;
    let leaders = kubectl(&["get", "pod", &leader, "-n", operator::NAMESPACE, "-o", path]).await?;
    let mut pods = ring.balancers().await?;
    // Where it can be: the operator is to look on, not to change its leader as well.
    pods.sort_by_key(|pod| node(pod) == Some(leaders.as_str()));
    let [frozen, other] = pods.as_slice() else {
        anyhow::bail!("{} HAProxy pods", pods.len());
    };
    ensure!(node(frozen) != node(other), "both HAProxy pods are on one node");
    let (name, stands_still) = (frozen.name_any(), node(frozen).context("no node")?);

    docker(&["pause", stands_still]).await?;
    let went_on = async {
        eventually(&format!("{name} leaves the Service"), || async {
            let pod = ring.pods().get(&name).await?;
            ensure!(!is_serving(&pod), "it still serves");
            Ok(())
        })
        .await?;
        writers.go_on(&[At::Service]).await
    };
    let went_on: Result<()> = went_on.await;
    docker(&["unpause", stands_still]).await?;
    went_on?;
    // It, or its successor where Kubernetes has given it up meanwhile.
    both_serve(ring).await
}

async fn a_pod_is_deleted(ring: &Ring, writers: &Writers) -> Result<()> {
    let pod = ring.balancers().await?.pop().context("no HAProxy pod")?;
    // What was sent before is over.
    writers.go_on(&[At::Service]).await?;
    let failures = writers.failures();
    ring.pods().delete(&pod.name_any(), &DeleteParams::default()).await?;
    writers.go_on(&[At::Service]).await?;
    both_serve(ring).await?;
    eventually("the deleted pod is gone", || async {
        let pod = ring.pods().get_opt(&pod.name_any()).await?;
        ensure!(pod.is_none(), "it is still ending");
        Ok(())
    })
    .await?;
    let failures = writers.failures() - failures;
    ensure!(failures == 0, "a farewell cost {failures} writes");
    Ok(())
}

/// With nobody to tell it HAProxy leaves a frozen member, and takes it back.
async fn without_an_operator(ring: &Ring, writers: &Writers) -> Result<()> {
    operator::scale(0).await?;
    let left = left_and_taken_back(ring, 1).await;
    operator::scale(2).await?;
    left?;
    operator::passes(10.0).await?;
    both_serve(ring).await?;
    writers.go_on(&[At::Service]).await
}

async fn left_and_taken_back(ring: &Ring, ordinal: u8) -> Result<()> {
    let service = ring.service_ip().await?;
    let all: BTreeSet<String> = ring.ordinals().map(|ordinal| ring.member(ordinal)).collect();
    let others = ring.ordinals().filter(|other| *other != ordinal);
    let others: BTreeSet<String> = others.map(|other| ring.member(other)).collect();
    leads_to(ring, &service, &all).await?;

    ring.signal_mysqld(ordinal, "STOP").await?;
    let left = async {
        leads_to(ring, &service, &others).await?;
        // From now on nobody comes to it, and everybody to another.
        for _ in 0..3 {
            let reached = ring.reached(&service).await?;
            ensure!(reached.is_subset(&others), "{reached:?}");
        }
        Ok(())
    };
    let left: Result<()> = left.await;
    ring.signal_mysqld(ordinal, "CONT").await?;
    left?;
    leads_to(ring, &service, &all).await
}

async fn leads_to(ring: &Ring, service: &str, members: &BTreeSet<String>) -> Result<()> {
    eventually(&format!("the Service leads to {members:?}"), || async {
        let reached = ring.reached(service).await?;
        ensure!(reached == *members, "{reached:?}");
        Ok(())
    })
    .await
}

/// Waits until HAProxy is whole and the ring Ready.
async fn both_serve(ring: &Ring) -> Result<()> {
    eventually("both HAProxy pods serve", || async {
        let pods = ring.balancers().await?;
        let states: Vec<_> = pods.iter().map(|pod| (pod.name_any(), is_serving(pod))).collect();
        ensure!(states.len() == 2 && states.iter().all(|state| state.1), "{states:?}");
        Ok(())
    })
    .await?;
    ring.wait_ready().await
}

fn node(pod: &Pod) -> Option<&str> {
    pod.spec.as_ref()?.node_name.as_deref()
}
