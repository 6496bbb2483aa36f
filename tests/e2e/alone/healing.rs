//! Members are lost for good or frozen: the others close the ring, and take them back with what only they had.

use anyhow::{Context, Result, ensure};
use serde_json::json;

use crate::support::ring::Ring;
use crate::support::volume::Volume;
use crate::support::world::alone;
use crate::support::writers::{At, Writers};
use crate::support::{docker, eventually, kubectl, part, sql, uncordon};

#[tokio::test]
#[ignore = "needs a cluster: hack/test.sh"]
async fn the_lost_and_the_frozen_come_back_with_what_only_they_had() -> Result<()> {
    alone("healing", |world| async move {
        // Member 1 is bypassed again and again; otherwise each return would wait for the end of its being held out.
        let detection = json!({"failureDetection": {"holdOutSeconds": 0}});
        let ring = Ring::ready(&world, "demo", 3, detection).await?;
        part(
            "a frozen member is gone around, and fenced when it thaws",
            frozen(&ring),
        )
        .await?;
        part(
            "the ring closes around the lost, and merges what was stranded",
            lost(&ring),
        )
        .await?;
        part("a volume that went back in time begins a new life", older(&ring)).await?;
        part("who missed what was purged is drained and made a copy", behind(&ring)).await
    })
    .await
}

async fn lost(ring: &Ring) -> Result<()> {
    let writers = Writers::at_members(ring).await?;
    writers.go_on_everywhere().await?;

    // Member 1 takes writes that nobody reads, and is lost.
    strand(ring, "lost").await?;
    kubectl(&["cordon", &ring.node(1).await?]).await?;
    ring.delete_pod(1).await?;
    eventually("member 1 is gone", || async {
        let phase = ring.pod(1).await?.status.and_then(|status| status.phase);
        ensure!(phase.as_deref() == Some("Pending"), "{phase:?}");
        Ok(())
    })
    .await?;
    ring.patch(json!({"spec": {"paused": false}})).await?;

    ring.wait_closed("0→2→0").await?;
    writers.go_on(&[At::Member(0), At::Member(2)]).await?;
    reaches(ring, 0, 2).await?;
    reaches(ring, 2, 0).await?;
    let table = "SELECT COUNT(*) FROM information_schema.tables WHERE table_name = 'stranded_lost'";
    for ordinal in [0, 2] {
        let known: u8 = sql::value(&mut ring.root(ordinal).await?, table).await?;
        ensure!(known == 0, "{} has what should be stranded", ring.member(ordinal));
    }

    // The one after it is lost too.
    kubectl(&["cordon", &ring.node(2).await?]).await?;
    ring.delete_pod(2).await?;
    ring.wait_closed("0").await?;
    writers.go_on(&[At::Member(0)]).await?;

    uncordon().await?;
    ring.wait_ready().await?;
    writers.go_on_everywhere().await?;
    all_have_what_was_stranded(ring, "lost").await?;
    writers.settle().await.map(drop)
}

async fn frozen(ring: &Ring) -> Result<()> {
    // These keep their connections, so they go on as soon as the node does.
    let writers = Writers::at_members(ring).await?;
    writers.go_on_everywhere().await?;
    let node = ring.node(1).await?;
    docker(&["pause", &node]).await?;
    let healed = ring.wait_closed("0→2→0").await;
    let went_on = writers.go_on(&[At::Member(0), At::Member(2)]).await;
    docker(&["unpause", &node]).await?;
    healed.and(went_on)?;
    ring.wait_ready().await?;
    let fenced = kubectl(&[
        "get",
        "events",
        "-n",
        &ring.namespace,
        "--field-selector=reason=Fenced",
        "-o",
        "jsonpath={.items[*].message}",
    ])
    .await?;
    ensure!(fenced.contains("demo-1 answers again and is fenced"), "{fenced}");
    writers.go_on_everywhere().await?;
    writers.settle().await.map(drop)
}

async fn older(ring: &Ring) -> Result<()> {
    let writers = Writers::at_members(ring).await?;
    writers.go_on_everywhere().await?;
    let volume = Volume::of(ring, 1).await?;

    ring.away(1).await?;
    volume.copy().await?;
    uncordon().await?;
    ring.wait_ready().await?;
    writers.go_on_everywhere().await?;
    let life = ring.server_uuid(1).await?;

    ring.away(1).await?;
    volume.set_back().await?;
    uncordon().await?;
    ring.wait_ready().await?;
    ensure!(
        ring.server_uuid(1).await? != life,
        "it goes on under the UUID whose writes it lacks"
    );
    writers.go_on_everywhere().await?;
    writers.settle().await.map(drop)
}

async fn behind(ring: &Ring) -> Result<()> {
    let writers = Writers::at_members(ring).await?;
    writers.go_on_everywhere().await?;
    let life = ring.server_uuid(1).await?;
    strand(ring, "behind").await?;
    kubectl(&["cordon", &ring.node(1).await?]).await?;
    ring.delete_pod(1).await?;
    ring.patch(json!({"spec": {"paused": false}})).await?;
    ring.wait_closed("0→2→0").await?;
    writers.go_on(&[At::Member(0), At::Member(2)]).await?;
    for ordinal in [0, 2] {
        ring.purge_binary_logs(ordinal).await?;
    }
    uncordon().await?;
    ring.wait_ready().await?;
    ensure!(ring.server_uuid(1).await? != life, "it is no copy");
    all_have_what_was_stranded(ring, "behind").await?;
    writers.go_on_everywhere().await?;
    writers.settle().await.map(drop)
}

/// Pauses the operator, and lets member 1 take writes that nobody reads.
async fn strand(ring: &Ring, name: &str) -> Result<()> {
    ring.patch(json!({"spec": {"paused": true}})).await?;
    ring.wait_paused().await?;
    let stop = "STOP REPLICA IO_THREAD FOR CHANNEL 'from-1'";
    sql::run(&mut ring.root(2).await?, stop).await?;
    let mut root = ring.root(1).await?;
    sql::run(
        &mut root,
        &format!("CREATE TABLE app.stranded_{name} (id INT PRIMARY KEY)"),
    )
    .await?;
    sql::run(
        &mut root,
        &format!("INSERT INTO app.stranded_{name} VALUES (1), (2), (3)"),
    )
    .await?;
    Ok(())
}

async fn all_have_what_was_stranded(ring: &Ring, name: &str) -> Result<()> {
    let query = format!("SELECT COUNT(*) FROM app.stranded_{name}");
    for ordinal in ring.ordinals() {
        let rows: u8 = sql::value(&mut ring.root(ordinal).await?, &query).await?;
        ensure!(rows == 3, "{} has {rows} of 3 stranded rows", ring.member(ordinal));
    }
    Ok(())
}

/// What is written at one member arrives at another.
async fn reaches(ring: &Ring, from: u8, to: u8) -> Result<()> {
    let mut conn = ring.root(from).await?;
    sql::run(
        &mut conn,
        "CREATE TABLE IF NOT EXISTS app.marks (id BIGINT AUTO_INCREMENT PRIMARY KEY)",
    )
    .await?;
    sql::run(&mut conn, "INSERT INTO app.marks VALUES ()").await?;
    let mark: u64 = sql::value(&mut conn, "SELECT LAST_INSERT_ID()").await?;
    eventually(&format!("a write at {from} arrives at {to}"), || async {
        let query = format!("SELECT COUNT(*) FROM app.marks WHERE id = {mark}");
        let there: u8 = sql::value(&mut ring.root(to).await?, &query)
            .await
            .context("not there yet")?;
        ensure!(there == 1, "not there yet");
        Ok(())
    })
    .await
}
