//! One member takes the writes; another one does when it fails, and never two at a time. HAProxy leads to it, kube-proxy to the readers.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use serde_json::json;

use crate::support::ring::Ring;
use crate::support::stubborn::Stubborn;
use crate::support::world::in_namespace;
use crate::support::writers::{At, Writers};
use crate::support::{eventually, sql};

#[tokio::test]
#[ignore = "needs a cluster: hack/test.sh"]
async fn the_writer_moves_when_it_fails_and_not_back() -> Result<()> {
    in_namespace("writer", |world| async move {
        let ring = Ring::ready(
            &world,
            "demo",
            3,
            json!({
                "maxLagSeconds": 5,
                // With others beside it on two cores a writer may not be confirmed for three seconds, the default.
                "isolation": {"leaseSeconds": 10},
                "failureDetection": {"holdOutSeconds": 0},
                "balancer": {"type": "HAProxy"},
            }),
        )
        .await?;
        let writers = Writers::start(&ring, vec![At::Service]).await?;
        ring.patch(json!({"spec": {"writes": "SingleWriter"}})).await?;
        ring.wait_ready().await?;
        writers.go_on(&[At::Service]).await?;
        let first = writer(&ring).await?;
        reads_lead_to(&ring, &[0, 1, 2]).await?;
        let stubborn = Stubborn::start(&ring).await?;

        // Its agent is told that another one is the writer, cannot fence a server that stands still, and kills it.
        ring.signal_mysqld(first, "STOP").await?;
        let second = moved(&ring, first).await?;
        writers.go_on(&[At::Service]).await?;
        ring.wait_ready().await?;
        ensure!(writer(&ring).await? == second, "it moved back by itself");

        ring.kill_mysqld(second).await?;
        let third = moved(&ring, second).await?;
        writers.go_on(&[At::Service]).await?;
        ring.wait_ready().await?;

        ring.delete_pod(third).await?;
        let fourth = moved(&ring, third).await?;
        writers.go_on(&[At::Service]).await?;
        ring.wait_ready().await?;
        let took: Vec<String> = stubborn.settle().await?.into_iter().map(|turn| turn.member).collect();
        let in_turn = [first, second, third, fourth].map(|ordinal| ring.member(ordinal));
        ensure!(
            took == in_turn,
            "two members took writes at the same time: {took:?}, not {in_turn:?}"
        );

        too_far_behind(&ring).await?;

        ring.patch(json!({"spec": {"writes": "AllMembers"}})).await?;
        eventually("all members take writes", || async {
            let cluster = ring.get().await?;
            let status = cluster.status.as_ref().context("no status")?;
            let writable = |member: &multimaster::api::status::MemberStatus| member.writable == Some(true);
            ensure!(
                status.writer.is_none() && status.member_statuses.iter().all(writable),
                "{status:?}"
            );
            Ok(())
        })
        .await?;
        ring.wait_ready().await?;
        writers.settle().await.map(drop)
    })
    .await
}

/// Ordinal of the member that takes the writes.
pub async fn writer(ring: &Ring) -> Result<u8> {
    ring.get().await?.writer().context("no writer")
}

/// Waits until another member than this takes the writes, and says which.
pub async fn moved(ring: &Ring, from: u8) -> Result<u8> {
    eventually("another member takes the writes", || async {
        let cluster = ring.get().await?;
        let writer = cluster.writer().context("no writer")?;
        ensure!(writer != from, "still {writer}");
        let statuses = cluster.status.unwrap_or_default().member_statuses;
        let status = statuses.get(usize::from(writer)).context("no status")?;
        ensure!(status.writable == Some(true), "{status:?}");
        Ok(writer)
    })
    .await
}

/// The Service for reads leads to these members and no other.
async fn reads_lead_to(ring: &Ring, ordinals: &[u8]) -> Result<()> {
    let ip = ring.reads_ip().await?;
    let wanted: BTreeSet<String> = ordinals.iter().map(|ordinal| ring.member(*ordinal)).collect();
    eventually(&format!("reads are served by {ordinals:?}"), || async {
        let reached = ring.reached(&ip).await?;
        ensure!(reached == wanted, "{reached:?}");
        Ok(())
    })
    .await
}

/// A reader whose applier waits leaves the reads, and comes back when it has caught up.
async fn too_far_behind(ring: &Ring) -> Result<()> {
    let writer = writer(ring).await?;
    // The last one on the way: nobody else gets anything from it.
    let last = (writer + ring.members - 1) % ring.members;
    let others: Vec<u8> = ring.ordinals().filter(|ordinal| *ordinal != last).collect();
    reads_lead_to(ring, &[0, 1, 2]).await?;
    let mut holder = ring.root(last).await?;
    sql::run(&mut holder, "LOCK TABLES app.writes READ").await?;
    eventually("it is too far behind", || async {
        let status = ring.get().await?.status.unwrap_or_default();
        let reads = status.member_statuses.get(usize::from(last)).map(|member| member.reads);
        let lag = status.max_lag_seconds;
        ensure!(
            reads == Some(false) && lag > Some(5),
            "reads: {reads:?}, {lag:?} s behind"
        );
        Ok(())
    })
    .await?;
    reads_lead_to(ring, &others).await?;
    sql::run(&mut holder, "UNLOCK TABLES").await?;
    reads_lead_to(ring, &[0, 1, 2]).await
}
