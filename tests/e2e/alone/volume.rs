//! Member 0 comes back first and with an empty volume: it must not serve, nor found a new ring.

use anyhow::{Context, Result, ensure};
use kube::ResourceExt;
use multimaster::api::status::MemberState;
use serde_json::json;

use crate::support::ring::Ring;
use crate::support::world::alone;
use crate::support::writers::Writers;
use crate::support::{eventually, kubectl, operator, sql};

#[tokio::test]
#[ignore = "needs a cluster: hack/test.sh"]
async fn an_empty_member_alone_never_serves() -> Result<()> {
    alone("empty", |world| async move {
        let ring = Ring::ready(&world, "demo", 3, json!({})).await?;
        let namespace = world.namespace.as_str();
        let writers = Writers::at_members(&ring).await?;
        writers.go_on_everywhere().await?;
        writers.settle().await?;
        let rows = "SELECT COUNT(*) FROM app.writes";
        let written: u64 = sql::value(&mut ring.root(1).await?, rows).await?;

        // Members 1 and 2 cannot start: their volumes are on nodes that take no pods.
        let (first, second) = (ring.node(1).await?, ring.node(2).await?);
        ensure!(
            ring.node(0).await? != first && ring.node(0).await? != second,
            "members share a node"
        );
        kubectl(&["cordon", &first, &second]).await?;
        let (claim, pod) = (claim_uid(namespace).await?, ring.pod(0).await?.uid());
        let pods = ["pod/demo-0", "pod/demo-1", "pod/demo-2", "pvc/data-demo-0"];
        kubectl(&[&["delete", "-n", namespace, "--wait=false"], pods.as_slice()].concat()).await?;

        eventually("member 0 is back, alone and empty", || async {
            ensure!(claim_uid(namespace).await? != claim, "the volume is still the old one");
            ensure!(ring.pod(0).await?.uid() != pod, "the pod is still the old one");
            let states = [ring.state(0).await?, ring.state(1).await?, ring.state(2).await?];
            let expected = [MemberState::Empty, MemberState::Pending, MemberState::Pending];
            ensure!(states == expected, "{states:?}");
            Ok(())
        })
        .await?;
        // However often the operator looks.
        operator::passes(20.0).await?;
        ensure!(ring.state(0).await? == MemberState::Empty, "{:?}", ring.state(0).await?);
        ensure!(!ring.serves(0).await?, "an empty member serves");
        let fenced: u8 = sql::value(&mut ring.root(0).await?, "SELECT @@GLOBAL.super_read_only").await?;
        ensure!(fenced == 1, "an empty member takes writes");
        let available = ring.condition("Available").await?;
        ensure!(available.status == "False", "{available:?}");
        let ready = ring.condition("Ready").await?;
        ensure!(ready.status == "False", "{ready:?}");

        kubectl(&["uncordon", &first, &second]).await?;
        ring.wait_ready().await?;
        for ordinal in ring.ordinals() {
            let found: u64 = sql::value(&mut ring.root(ordinal).await?, rows).await?;
            ensure!(found == written, "{}: {found} of {written}", ring.member(ordinal));
        }
        let writers = Writers::at_members(&ring).await?;
        writers.go_on_everywhere().await?;
        writers.settle().await.context("after the return").map(drop)
    })
    .await
}

async fn claim_uid(namespace: &str) -> Result<String> {
    kubectl(&[
        "get",
        "pvc/data-demo-0",
        "-n",
        namespace,
        "-o",
        "jsonpath={.metadata.uid}",
    ])
    .await
}
