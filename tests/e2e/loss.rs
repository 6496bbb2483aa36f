//! A member is lost and returns, in both positioning modes: nothing is lost, nothing is there twice.

use anyhow::{Context, Result, ensure};
use kube::ResourceExt;
use serde_json::json;

use crate::support::eventually;
use crate::support::history::History;
use crate::support::ring::Ring;
use crate::support::sql;
use crate::support::world::in_namespace;
use crate::support::writers::{At, Writers};

#[tokio::test]
#[ignore = "needs a cluster: hack/test.sh"]
async fn loss_with_gtid() -> Result<()> {
    in_namespace("loss-gtid", |world| async move {
        let ring = Ring::ready(&world, "demo", 3, json!({})).await?;
        lose_and_return(&ring, "1").await
    })
    .await
}

#[tokio::test]
#[ignore = "needs a cluster: hack/test.sh"]
async fn loss_with_file_position() -> Result<()> {
    in_namespace("loss-file", |world| async move {
        let ring = Ring::ready(
            &world,
            "demo",
            3,
            json!({"replication": {"positioning": "FilePosition"}}),
        )
        .await?;
        lose_and_return(&ring, "0").await
    })
    .await
}

async fn lose_and_return(ring: &Ring, auto_position: &str) -> Result<()> {
    eventually("one link into each member", || links_use(ring, auto_position)).await?;
    let history = History::of(ring).await?;
    let writers = Writers::at_members(ring).await?;
    writers.go_on_everywhere().await?;

    // A pod is deleted. Its successor is another pod with the same volume.
    let before = ring.pod(1).await?;
    let uuid = uuid(ring, 1).await?;
    ring.delete_pod(1).await?;
    writers.go_on(&[At::Member(0), At::Member(2)]).await?;
    history.went_and_came_back("demo-1", 0).await?;
    ensure!(ring.pod(1).await?.uid() != before.uid(), "the pod was not replaced");
    writers.go_on_everywhere().await?;

    // mysqld is killed. The agent starts it again in the same pod.
    let before = ring.pod(2).await?;
    ring.kill_mysqld(2).await?;
    writers.go_on(&[At::Member(0), At::Member(1)]).await?;
    history.went_and_came_back("demo-2", 0).await?;
    let after = ring.pod(2).await?;
    ensure!(
        after.uid() == before.uid() && restarts(&after) == restarts(&before),
        "the pod or container was replaced"
    );
    writers.go_on_everywhere().await?;

    ring.wait_ready().await?;
    ensure!(
        self::uuid(ring, 1).await? == uuid,
        "a return with all its data is no new life"
    );
    ensure!(
        history.most_absent() == 1 && history.departures("demo-0") == 0,
        "{:?}",
        history.changes()
    );
    eventually("one link into each member, with its position", || {
        links_use(ring, auto_position)
    })
    .await?;
    writers.settle().await.map(drop)
}

async fn uuid(ring: &Ring, ordinal: u8) -> Result<String> {
    sql::value(&mut ring.root(ordinal).await?, "SELECT @@GLOBAL.server_uuid").await
}

fn restarts(pod: &k8s_openapi::api::core::v1::Pod) -> i32 {
    let statuses = pod
        .status
        .as_ref()
        .and_then(|status| status.container_statuses.as_ref());
    statuses
        .into_iter()
        .flatten()
        .map(|container| container.restart_count)
        .sum()
}

/// Every link finds its place as the spec says, and its position is in status.
async fn links_use(ring: &Ring, auto_position: &str) -> Result<()> {
    for ordinal in ring.ordinals() {
        let mut root = ring.root(ordinal).await?;
        let used = sql::column(&mut root, "SHOW REPLICA STATUS", "Auto_Position").await?;
        ensure!(
            used == auto_position,
            "{}: Auto_Position is {used}",
            ring.member(ordinal)
        );
    }
    let status = ring.get().await?.status.context("no status")?;
    for member in status.member_statuses {
        ensure!(
            member.links.len() == 1 && member.links[0].position.is_some(),
            "{member:?}"
        );
    }
    Ok(())
}
