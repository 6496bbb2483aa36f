//! Conflicts that an earlier operator has left open, in every stage that lasts, go on after the upgrade.

use anyhow::{Result, ensure};

use crate::conflicts::{annotate, apart, everywhere, orders, run_at};
use crate::support::ring::Ring;
use crate::support::{eventually, operator, sql};

/// The stages at a member of what its own applier met, in order.
const STAGES: &str = "SELECT GROUP_CONCAT(stage ORDER BY seen_at) FROM multimaster.conflicts \
     WHERE observer = @@GLOBAL.server_uuid AND JSON_UNQUOTE(JSON_EXTRACT(changes, '$[0].key.table')) = 'met'";
const ROWS: &str = "SELECT GROUP_CONCAT(id, ' ', who ORDER BY id) FROM app.met";

/// Leaves conflicts open with the operator that is there. Nobody decides them.
pub async fn leave(ring: &Ring) -> Result<()> {
    run_at(ring, 0, "CREATE TABLE app.met (id INT PRIMARY KEY, who VARCHAR(20))").await?;
    everywhere(ring, "SELECT COUNT(*) FROM app.met", "0").await?;
    apart(ring, async |ring| {
        for (ordinal, id) in [(0, 1), (0, 2), (0, 3), (1, 1), (1, 2), (1, 3)] {
            run_at(
                ring,
                ordinal,
                &format!("INSERT INTO app.met VALUES ({id}, 'at {ordinal}')"),
            )
            .await?;
        }
        Ok(())
    })
    .await?;
    name_winner(ring, "demo-0").await?;
    // Rows are compared when all members have executed what both sides had, and the appliers stand at the next row.
    have(ring, "taken,waiting").await?;
    operator::scale(0).await?;
    // As an operator leaves it that ends before it takes the transaction.
    let settling = "UPDATE multimaster.conflicts SET stage = 'settling', winner = 0 \
         WHERE observer = @@GLOBAL.server_uuid AND stage = 'waiting'";
    let mut root = ring.root(0).await?;
    sql::run(&mut root, "SET sql_log_bin = 0").await?;
    sql::run(&mut root, settling).await?;
    for ordinal in [0, 1] {
        let stages: String = sql::value(&mut ring.root(ordinal).await?, STAGES).await?;
        eprintln!("    open at {}: {stages}", ring.member(ordinal));
    }
    Ok(())
}

/// They are settled: the first two as it was decided before the upgrade, the third by a person.
pub async fn settled(ring: &Ring) -> Result<()> {
    have(ring, "taken,taken,waiting").await?;
    name_winner(ring, "demo-1").await?;
    everywhere(ring, ROWS, "1 at 0,2 at 0,3 at 1").await?;
    have(ring, "settled,settled,settled").await?;
    eventually("no conflict is open", || async {
        let free = ring.condition("ConflictFree").await?;
        ensure!(free.status == "True", "{free:?}");
        Ok(())
    })
    .await
}

async fn name_winner(ring: &Ring, member: &str) -> Result<()> {
    eventually(&format!("a person is asked, and names {member}"), || async {
        let free = ring.condition("ConflictFree").await?;
        let orders = orders(&free.message, member);
        ensure!(!orders.is_empty(), "{free:?}");
        annotate(ring, orders.join(",")).await
    })
    .await
}

async fn have(ring: &Ring, stages: &str) -> Result<()> {
    eventually(&format!("conflicts are {stages}"), || async {
        for ordinal in [0, 1] {
            let found: Option<String> = sql::value(&mut ring.root(ordinal).await?, STAGES).await?;
            ensure!(found.as_deref() == Some(stages), "member {ordinal}: {found:?}");
        }
        Ok(())
    })
    .await
}
