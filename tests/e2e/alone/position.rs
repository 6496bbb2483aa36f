//! A channel is gone from its replica: it is attached again where it was, never "from now".

use anyhow::{Context, Result, ensure};
use multimaster::api::status::Position;

use crate::support::ring::Ring;
use crate::support::writers::{At, Writers};
use crate::support::{eventually, operator, sql};

pub async fn forgotten(rings: &[Ring; 2]) -> Result<()> {
    let mut written = Vec::new();
    for ring in rings {
        let writers = Writers::at_members(ring).await?;
        writers.go_on_everywhere().await?;
        written.push(writers);
        eventually("positions in status", || async {
            let position = position(ring, 1).await?;
            ensure!(
                position.file.contains('.') && !position.source_uuid.is_empty(),
                "{position:?}"
            );
            Ok(())
        })
        .await?;
    }
    // The operator is away. The channel of member 1 is forgotten; its upstream, member 0, goes on writing.
    operator::scale(0).await?;
    for (ring, writers) in rings.iter().zip(&written) {
        forget(ring, 1).await?;
        writers.go_on(&[At::Member(0)]).await?;
        let mut root = ring.root(1).await?;
        let channels: Vec<String> = sql::rows(
            &mut root,
            "SELECT channel_name FROM performance_schema.replication_connection_configuration",
        )
        .await?;
        ensure!(channels.is_empty(), "{channels:?}");
    }
    operator::scale(2).await?;
    for ring in rings {
        attached(ring, 1).await?;
    }
    // Once more while the operator looks.
    for ring in rings {
        forget(ring, 2).await?;
        attached(ring, 2).await?;
    }
    for (ring, writers) in rings.iter().zip(written) {
        ring.wait_ready().await?;
        writers.go_on_everywhere().await?;
        writers.settle().await?;
    }
    Ok(())
}

/// STOP and RESET REPLICA ALL. An operator that starts the channel in between is a reason to try again.
async fn forget(ring: &Ring, ordinal: u8) -> Result<()> {
    let mut root = ring.root(ordinal).await?;
    for _ in 0..20 {
        sql::run(&mut root, "STOP REPLICA").await?;
        if sql::run(&mut root, "RESET REPLICA ALL").await.is_ok() {
            return Ok(());
        }
    }
    anyhow::bail!("the channel of {} cannot be reset", ring.member(ordinal))
}

/// The link is there again, with both threads, by the means that its mode has.
async fn attached(ring: &Ring, ordinal: u8) -> Result<()> {
    let auto_position = if ring.name == "gtid" { "1" } else { "0" };
    eventually(&format!("{} has its link again", ring.member(ordinal)), || async {
        let mut root = ring.root(ordinal).await?;
        for (column, wanted) in [
            ("Replica_IO_Running", "Yes"),
            ("Replica_SQL_Running", "Yes"),
            ("Auto_Position", auto_position),
        ] {
            let seen = sql::column(&mut root, "SHOW REPLICA STATUS", column).await?;
            ensure!(seen == wanted, "{column} is {seen}");
        }
        Ok(())
    })
    .await
}

async fn position(ring: &Ring, ordinal: u8) -> Result<Position> {
    let status = ring.get().await?.status.context("no status")?;
    let member = status
        .member_statuses
        .into_iter()
        .nth(ordinal.into())
        .context("not in status")?;
    let link = member.links.into_iter().next().context("no link")?;
    link.position.context("no position")
}
