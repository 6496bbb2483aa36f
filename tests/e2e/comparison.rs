//! Members that have executed the same and hold different rows are found out, while applications write.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use multimaster::api::status::ComparisonStatus;
use multimaster::names::ANNOTATION_COMPARE;
use serde_json::json;

use crate::support::ring::Ring;
use crate::support::writers::Writers;
use crate::support::{INTERVAL, eventually, sql};

/// Changes that a busy client is ahead of the next member.
const BEHIND: u64 = 5;

/// Comparisons beside the busy client, of which at least one has to stop writes.
const COMPARISONS: u32 = 30;

pub async fn names_what_differs(ring: &Ring) -> Result<()> {
    let writers = Writers::at_members(ring).await?;
    writers.go_on_everywhere().await?;
    let mut root = ring.root(0).await?;
    for statement in [
        "CREATE TABLE app.prices (id INT PRIMARY KEY, price INT NOT NULL)",
        "CREATE TABLE app.busy (n BIGINT PRIMARY KEY)",
        "INSERT INTO app.busy VALUES (0)",
        "INSERT INTO app.prices VALUES (1, 100), (2, 100), (3, 100)",
    ] {
        sql::run(&mut root, statement).await?;
    }
    eventually("the rows are everywhere", || async {
        for mut conn in ring.roots().await? {
            let rows: u64 = sql::value(&mut conn, "SELECT COUNT(*) FROM app.prices").await?;
            ensure!(rows == 3, "{rows}");
        }
        Ok(())
    })
    .await?;
    let equal = compared(ring, "as they are").await?;
    ensure!(equal.differing == 0 && equal.tables >= 2, "{equal:?}");
    let converged = ring.condition("Converged").await?;
    ensure!(converged.status == "True", "{converged:?}");

    // What an update here and an update there of the same row at the same time leave behind.
    price(ring, 2000).await?;
    let busy = tokio::spawn(without_a_pause(ring.clone()));
    let diverged = compared_in_a_stop(ring).await;
    ensure!(!busy.is_finished(), "the busy client ended: {:?}", busy.await);
    busy.abort();
    let diverged = diverged?;
    eprintln!("{diverged:?}; {} writes refused", writers.refused());
    let converged = ring.condition("Converged").await?;
    ensure!(
        converged.status == "False" && converged.reason == "Diverged",
        "{converged:?}"
    );
    let words = "rows of table app.prices where id > 1 AND id <= 2: demo-0,demo-2 | demo-1";
    ensure!(converged.message.contains(words), "{converged:?}");
    writers.go_on_everywhere().await?;
    ring.wait_ready().await?;
    ensure!(
        writers.failures() == writers.refused(),
        "{} writes failed, {} of them because writes were stopped",
        writers.failures(),
        writers.refused()
    );

    price(ring, 100).await?;
    let mended = compared(ring, "after it was mended").await?;
    ensure!(mended.differing == 0, "{mended:?}");
    let converged = ring.condition("Converged").await?;
    ensure!(converged.status == "True", "{converged:?}");
    writers.settle().await.map(drop)
}

/// Changes a row at member 0 as fast as it can, so that members are never equal by themselves, but waits while member 1 is more than [`BEHIND`]
/// changes behind: where links never catch up, nothing can be compared. A change fails while writes are stopped, and is tried again.
async fn without_a_pause(ring: Ring) -> Result<()> {
    let mut downstream = ring.root(1).await?;
    let address = ring.ip(0).await?;
    let mut app = ring.app(&address).await?;
    for n in 1.. {
        while let Err(error) = sql::run(&mut app, &format!("UPDATE app.busy SET n = {n}")).await {
            eprintln!("busy: {error}");
            tokio::time::sleep(INTERVAL).await;
            app = ring.app(&address).await?;
        }
        while sql::value::<u64>(&mut downstream, "SELECT n FROM app.busy").await? + BEHIND < n {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
    Ok(())
}

/// Sets a row at member 1 only.
async fn price(ring: &Ring, price: u32) -> Result<()> {
    let mut root = ring.root(1).await?;
    sql::run(&mut root, "SET sql_log_bin = 0").await?;
    sql::run(
        &mut root,
        &format!("UPDATE app.prices SET price = {price} WHERE id = 2"),
    )
    .await?;
    Ok(())
}

/// Compares, each time with one difference, until writes were stopped for it: between two changes of the busy client members are equal for a moment,
/// and a comparison that meets such moments needs no stop.
async fn compared_in_a_stop(ring: &Ring) -> Result<ComparisonStatus> {
    for n in 1..=COMPARISONS {
        let diverged = compared(ring, &format!("after two updates, {n}")).await?;
        ensure!(diverged.differing == 1, "{diverged:?}");
        if diverged.writes_stopped_milliseconds > 0 {
            return Ok(diverged);
        }
    }
    anyhow::bail!("writes were stopped in none of {COMPARISONS} comparisons")
}

/// Asks for a comparison and waits for it.
async fn compared(ring: &Ring, text: &str) -> Result<ComparisonStatus> {
    ring.patch(json!({"metadata": {"annotations": {ANNOTATION_COMPARE: text}}}))
        .await?;
    eventually(&format!("members are compared {text}"), || async {
        let status = ring.get().await?.status.context("no status")?;
        let converged = ring.condition("Converged").await?;
        let comparison = status.comparison.with_context(|| format!("{converged:?}"))?;
        ensure!(comparison.requested.as_deref() == Some(text), "{converged:?}");
        Ok(comparison)
    })
    .await
}
