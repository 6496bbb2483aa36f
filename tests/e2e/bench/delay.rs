//! How long after its acknowledgement a change is to be seen at the next server, and at the last one on the way.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use futures::future::try_join_all;
use mysql_async::Conn;
use tokio::time::timeout;

use crate::support::ring::Ring;
use crate::support::sql;

use super::report::{Report, percentile};
use super::stage::{Path, Stage, settled};

/// Rows that are inserted, then updated, then deleted.
const ROWS: u32 = 200;
/// Between two looks. With the look itself it is the precision.
const LOOK: Duration = Duration::from_millis(1);
/// A change that takes longer was lost.
const LOST: Duration = Duration::from_secs(30);

pub async fn measure(stage: &Stage, report: &mut Report) -> Result<()> {
    report.say(
        "## Replication delay\n\n\
         Milliseconds from the acknowledgement of a change at one server until a reader of another one sees it: median / 95th percentile of \
         200 each, one after the other.\n\n\
         | servers | seen at | insert | update | delete |\n|---|---|---|---|---|",
    );
    let ways: [(Path, &[(u8, &str)]); 2] = [
        (Path::Pen, &[(1, "the other master")]),
        (Path::Service, &[(1, "the next member"), (2, "the farthest member")]),
    ];
    for (path, targets) in ways {
        let servers = stage.servers(path);
        let title = if path == Path::Pen { "two masters" } else { "ring of 3" };
        let ordinals: Vec<u8> = targets.iter().map(|(ordinal, _)| *ordinal).collect();
        match delays(servers, &ordinals).await {
            Err(error) => report.say(&format!("| {title} | not measured: {error:#} | | | |")),
            Ok(delays) => {
                for ((_, seen_at), delays) in targets.iter().zip(delays) {
                    let cells = delays.map(|mut all| {
                        let [median, most] = [0.5, 0.95].map(|part| percentile(&mut all, part));
                        format!("{median:.1} / {most:.1}")
                    });
                    report.say(&format!("| {title} | {seen_at} | {} |", cells.join(" | ")));
                }
            }
        }
        settled(servers).await?;
    }
    report.say("");
    Ok(())
}

/// Milliseconds for every target: of inserts, of updates, of deletes. All are written at member 0.
async fn delays(servers: &Ring, targets: &[u8]) -> Result<Vec<[Vec<f64>; 3]>> {
    let mut writer = servers.app(&servers.ip(0).await?).await?;
    let mut readers = Vec::new();
    for target in targets {
        readers.push(servers.app(&servers.ip(*target).await?).await?);
    }
    let mut delays = vec![[const { Vec::new() }; 3]; targets.len()];
    // What is to be seen of the row: how often it was changed, or nothing.
    let kinds = [
        ("INSERT INTO app.delays VALUES (:id, 0)", Some(0)),
        ("UPDATE app.delays SET changes = 1 WHERE id = :id", Some(1)),
        ("DELETE FROM app.delays WHERE id = :id", None),
    ];
    for (kind, (statement, wanted)) in kinds.into_iter().enumerate() {
        for id in 0..ROWS {
            sql::run(&mut writer, &statement.replace(":id", &id.to_string())).await?;
            let acknowledged = Instant::now();
            let looks = readers.iter_mut().map(|reader| seen(reader, id, wanted, acknowledged));
            for (delays, delay) in delays.iter_mut().zip(try_join_all(looks).await?) {
                delays[kind].push(delay.as_secs_f64() * 1000.0);
            }
        }
    }
    Ok(delays)
}

/// Looks until the row is as it was written.
async fn seen(reader: &mut Conn, id: u32, wanted: Option<u32>, acknowledged: Instant) -> Result<Duration> {
    let look = format!("SELECT changes FROM app.delays WHERE id = {id}");
    let looks = async {
        loop {
            let rows: Vec<u32> = sql::rows(reader, &look).await?;
            if rows.first().copied() == wanted {
                return Ok(acknowledged.elapsed());
            }
            tokio::time::sleep(LOOK).await;
        }
    };
    timeout(LOST, looks)
        .await
        .with_context(|| format!("row {id} was not replicated"))?
}
