//! Readers stand still, and the writer's clients do not notice; the node of the one writer stands still, and its clients with it; then both go on.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde_json::json;

use crate::single_writer::{moved, writer};
use crate::support::ring::Ring;
use crate::support::stubborn::Stubborn;
use crate::support::world::alone;
use crate::support::writers::{At, Writers};
use crate::support::{docker, eventually, operator};

#[tokio::test]
#[ignore = "needs a cluster: hack/test.sh"]
async fn readers_that_stand_still_cost_no_write_and_a_writer_is_fenced_and_merged() -> Result<()> {
    alone("writer", |world| async move {
        let balancer = std::env::var("BALANCER").unwrap_or_else(|_| "Service".into());
        let spec = json!({"writes": "SingleWriter", "failureDetection": {"holdOutSeconds": 0}, "balancer": {"type": balancer}});
        let ring = Ring::ready(&world, "demo", 3, spec).await?;
        let writers = Writers::start(&ring, vec![At::Service]).await?;
        readers_stand_still(&ring, &writers).await?;
        let stubborn = Stubborn::start(&ring).await?;
        writers.go_on(&[At::Service]).await?;
        let first = writer(&ring).await?;
        let node = ring.node(first).await?;

        docker(&["pause", &node]).await?;
        let next = async {
            let next = moved(&ring, first).await?;
            writers.go_on(&[At::Service]).await?;
            Ok(next)
        };
        let next: Result<u8> = next.await;
        docker(&["unpause", &node]).await?;
        let next = next?;
        ring.wait_ready().await?;
        ensure!(writer(&ring).await? == next, "it moved back by itself");
        let turns = stubborn.settle().await?;
        writers.settle().await?;
        let (first, next) = (ring.member(first), ring.member(next));
        ensure!(
            turns.iter().all(|turn| turn.member == first || turn.member == next),
            "{turns:?}"
        );
        ensure!(turns.first().is_some_and(|turn| turn.member == first), "{turns:?}");
        // Measured, not asserted: what old sessions got in between its thaw and its agent's next look.
        let beside: u64 = turns[1..]
            .iter()
            .filter(|turn| turn.member == first)
            .map(|turn| turn.writes)
            .sum();
        eprintln!("writes that {first} took beside {next}, all of them merged: {beside}");
        Ok(())
    })
    .await
}

/// Each reader in turn is frozen, agent and mysqld, until the others have closed the ring around it; every second time the leading operator is
/// killed just after. `FREEZES` says how often (2), `BALANCER` behind which balancer (Service).
async fn readers_stand_still(ring: &Ring, writers: &Writers) -> Result<()> {
    let freezes: u8 = std::env::var("FREEZES")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(2);
    writers.go_on(&[At::Service]).await?;
    let (writer, before) = (writer(ring).await?, writers.failures());
    for freeze in 0..freezes {
        let reader = (writer + 1 + freeze % 2) % 3;
        let others: Vec<String> = ring
            .ordinals()
            .filter(|other| *other != reader)
            .map(|other| other.to_string())
            .collect();
        ring.signal_pod(reader, "STOP").await?;
        let killed = match freeze % 2 {
            1 => operator::kill(&[operator::leader().await?]).await,
            _ => Ok(()),
        };
        let closed = ring
            .wait_closed(&format!("{}→{}→{}", others[0], others[1], others[0]))
            .await;
        let went_on = writers.go_on(&[At::Service]).await;
        ring.signal_pod(reader, "CONT").await?;
        killed.and(closed).and(went_on)?;
        ring.wait_ready().await?;
        let failed = writers.failures() - before;
        eprintln!(
            "freeze {} of {freezes}, of {}{}: {failed} writes failed, {} acknowledged",
            freeze + 1,
            ring.member(reader),
            if freeze % 2 == 1 { ", the operator killed" } else { "" },
            writers.safe(At::Service)
        );
        ensure!(failed == 0, "{failed} writes failed");
    }
    ensure!(self::writer(ring).await? == writer, "the writer has changed");
    Ok(())
}

/// Twice the default: nobody opens a writer again that was not confirmed for once, because this machine was busy.
const LEASE: Duration = Duration::from_secs(6);

/// Without an operator the others confirm the writer, and nothing stops.
#[tokio::test]
#[ignore = "needs a cluster: hack/test.sh"]
async fn a_writer_goes_on_without_an_operator() -> Result<()> {
    alone("orphan", |world| async move {
        let spec = json!({"writes": "SingleWriter", "isolation": {"leaseSeconds": LEASE.as_secs()}});
        let ring = Ring::ready(&world, "demo", 3, spec).await?;
        let writers = Writers::start(&ring, vec![At::Service]).await?;
        writers.go_on(&[At::Service]).await?;
        operator::scale(0).await?;
        let went_on = async {
            // Some leases later.
            let began = Instant::now();
            while began.elapsed() < 4 * LEASE {
                writers.go_on(&[At::Service]).await?;
            }
            anyhow::Ok(writers.failures())
        };
        let failures = went_on.await;
        operator::scale(2).await?;
        let failures = failures?;
        ensure!(failures == 0, "{failures} writes failed");
        eventually("an operator leads again", || async {
            ring.patch(json!({"metadata": {"annotations": {"multimaster.dev/compare": "again"}}}))
                .await?;
            let status = ring.get().await?.status.unwrap_or_default();
            let requested = status.comparison.and_then(|comparison| comparison.requested);
            ensure!(requested.as_deref() == Some("again"), "{requested:?}");
            Ok(())
        })
        .await?;
        writers.settle().await.map(drop)
    })
    .await
}
