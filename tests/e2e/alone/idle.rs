//! With nothing changing, nothing is written: not to the API server, not to MySQL.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde_json::json;

use crate::support::ring::Ring;
use crate::support::times::timed;
use crate::support::world::{alone, quiet};
use crate::support::writers::Writers;
use crate::support::{INTERVAL, eventually, operator, sql};

const WRITES: [&str; 2] = ["multimaster_api_writes_total", "multimaster_steps_total"];
/// What is claimed is about this span; nothing is waited for.
const SPAN: Duration = Duration::from_secs(60);

#[tokio::test]
#[ignore = "needs a cluster: hack/test.sh"]
async fn nothing_is_written_while_nothing_changes() -> Result<()> {
    alone("idle", |world| async move {
        quiet().await?;
        let ring = Ring::ready(&world, "demo", 3, json!({})).await?;
        let writers = Writers::at_members(&ring).await?;
        writers.go_on_everywhere().await?;
        writers.settle().await?;
        let leader = operator::leader().await?;
        // The last positions and GTID sets reach status some seconds after the last write.
        eventually("the last write is in status", || async {
            let status = ring.get().await?.status.unwrap_or_default();
            let executed: String = sql::value(&mut ring.root(0).await?, "SELECT @@GLOBAL.gtid_executed").await?;
            let executed = executed.replace(['\n', ' '], "");
            let seen: Vec<String> = status
                .member_statuses
                .iter()
                .map(|it| it.gtid_executed.replace(['\n', ' '], ""))
                .collect();
            ensure!(seen.iter().all(|set| *set == executed), "{executed}: {seen:?}");
            Ok(())
        })
        .await?;
        operator::passes(10.0).await?;

        let (before, logs) = (counts(&leader).await?, binary_logs(&ring).await?);
        ensure!(
            before.iter().all(|(_, count)| *count > 0.0),
            "nothing was ever counted: {before:?}"
        );
        let passes = operator::total(&leader, "multimaster_passes_total").await?;
        let started = Instant::now();
        let unchanged = async {
            while started.elapsed() < SPAN {
                tokio::time::sleep(INTERVAL * 5).await;
                let (now, logs_now) = (counts(&leader).await?, binary_logs(&ring).await?);
                ensure!(
                    now == before,
                    "after {:?}: {before:?} became {now:?}",
                    started.elapsed()
                );
                ensure!(
                    logs_now == logs,
                    "after {:?}: {logs:?} became {logs_now:?}",
                    started.elapsed()
                );
            }
            Ok(())
        };
        timed("nothing is written", unchanged).await?;
        ensure!(
            operator::total(&leader, "multimaster_passes_total").await? > passes,
            "it did not even look"
        );
        ensure!(operator::leader().await? == leader, "another leads");
        Ok(())
    })
    .await
}

async fn counts(leader: &str) -> Result<Vec<(String, f64)>> {
    let mut counts = Vec::new();
    for name in WRITES {
        counts.extend(operator::metric(leader, name).await?);
    }
    Ok(counts)
}

/// How far each member's binary log is: any logged statement moves it.
async fn binary_logs(ring: &Ring) -> Result<Vec<(String, String)>> {
    let mut ends = Vec::new();
    for mut conn in ring.roots().await? {
        let file = sql::column(&mut conn, "SHOW BINARY LOG STATUS", "File").await?;
        ends.push((
            file,
            sql::column(&mut conn, "SHOW BINARY LOG STATUS", "Position").await?,
        ));
    }
    Ok(ends)
}
