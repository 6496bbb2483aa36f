//! The operator is killed, or cut off: rings do not notice, and its successor goes on where it was.

use anyhow::{Context, Result, ensure};
use serde_json::json;

use crate::support::history::History;
use crate::support::ring::Ring;
use crate::support::world::alone;
use crate::support::writers::Writers;
use crate::support::{eventually, operator};

#[tokio::test]
#[ignore = "needs a cluster: hack/test.sh"]
async fn a_ring_does_not_notice_the_death_of_the_leader() -> Result<()> {
    alone("leader", |world| async move {
        let ring = Ring::ready(&world, "demo", 2, json!({})).await?;
        let history = History::of(&ring).await?;
        let writers = Writers::at_members(&ring).await?;
        writers.go_on_everywhere().await?;
        let ready = ring.condition("Ready").await?;
        let leader = operator::leader().await?;
        operator::kill(std::slice::from_ref(&leader)).await?;
        eventually("another leader", || async {
            ensure!(operator::leader().await? != leader, "still {leader}");
            Ok(())
        })
        .await?;
        operator::passes(10.0).await?;
        writers.go_on_everywhere().await?;
        ensure!(writers.failures() == 0, "{} writes failed", writers.failures());
        ensure!(history.order().is_empty(), "{:?}", history.changes());
        ensure!(ring.condition("Ready").await? == ready, "Ready has changed");

        // The new leader does a leader's work.
        ring.delete_pod(1).await?;
        history.went_and_came_back("demo-1", 0).await?;
        ring.wait_ready().await?;
        writers.settle().await.map(drop)
    })
    .await
}

/// Only the leader's pod does not reach the API server: it ends before another one leads.
#[tokio::test]
#[ignore = "needs a cluster: hack/test.sh"]
async fn a_leader_that_is_cut_off_ends_before_another_leads() -> Result<()> {
    alone("cutoff", |world| async move {
        let ring = Ring::ready(&world, "demo", 2, json!({})).await?;
        let writers = Writers::at_members(&ring).await?;
        writers.go_on_everywhere().await?;
        let leader = operator::leader().await?;
        let (cut, before) = (operator::cut_off(&leader).await?, operator::restarts(&leader).await?);
        let succeeded = eventually("another leader, and the end of this one", || async {
            let next = operator::leader().await?;
            ensure!(next != leader, "still {leader}");
            ensure!(operator::restarts(&leader).await? > before, "{leader} has not ended");
            Ok(())
        })
        .await;
        cut.mend().await?;
        succeeded?;
        let (ended, led) = (operator::ended_at(&leader).await?, operator::led_since().await?);
        eprintln!("{leader} ended at {ended}, the next one has led since {led}");
        ensure!(ended <= led, "two led: until {ended}, and since {led}");
        writers.go_on_everywhere().await?;
        ensure!(writers.failures() == 0, "{} writes failed", writers.failures());
        operator::passes(10.0).await?;
        writers.settle().await.map(drop)
    })
    .await
}

pub async fn together(rings: &[Ring; 2]) -> Result<()> {
    let mut watched = Vec::new();
    for ring in rings {
        watched.push((ring, History::of(ring).await?, Writers::at_members(ring).await?));
    }
    for (.., writers) in &watched {
        writers.go_on_everywhere().await?;
    }
    let pods = operator::pods().await?;
    ensure!(pods.len() == 2, "{pods:?}");
    let (gtid, file) = (&rings[0], &rings[1]);
    tokio::try_join!(operator::kill(&pods), gtid.kill_mysqld(1), file.kill_mysqld(1))?;
    for (ring, history, writers) in &watched {
        history.went_and_came_back(&ring.member(1), 0).await?;
        writers.go_on_everywhere().await?;
    }
    let pods = operator::pods().await?;
    tokio::try_join!(operator::kill(&pods), gtid.delete_pod(2), file.delete_pod(2))?;
    for (ring, history, writers) in watched {
        history.went_and_came_back(&ring.member(2), 0).await?;
        ring.wait_ready().await?;
        writers.go_on_everywhere().await?;
        let epoch = ring.get().await?.status.context("no status")?.epoch;
        ensure!(epoch > 0, "the ring was forgotten");
        writers.settle().await?;
    }
    Ok(())
}
