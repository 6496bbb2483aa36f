//! Taking: the applier executes exactly the transaction that it stopped at, and what is in the way of its rows is overwritten.

use std::time::{Duration, Instant};

use crate::mysql::io::connection::{SqlError, ask, column, run};
use crate::mysql::quote::literal;

use super::references::{self, TableName};
use super::session::Session;

/// How long an applier may take for the one transaction that it is to execute.
const TAKING: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(20);

/// Takes a transaction that changes these tables. No other applier of the member may run, and `replica_exec_mode` is left IDEMPOTENT.
pub(super) async fn take(at: &mut Session, channel: &str, gtid: &str, tables: &[TableName]) -> Result<(), SqlError> {
    // It was looked at when the conflict was recorded; somebody may have added a foreign key since.
    let references = references::of(&mut at.aside, tables).await?;
    if let Some(why) = references::why_not_taken(&references) {
        return Err(SqlError::Outdated(why));
    }
    at.be_lenient().await?;
    let start = format!(
        "START REPLICA SQL_THREAD UNTIL SQL_AFTER_GTIDS = {} FOR CHANNEL {}",
        literal(gtid),
        literal(channel)
    );
    run(&mut at.logged, &start).await?;
    until_it_stands(at, channel, gtid).await
}

/// Waits until the applier stands, and says whether it has executed the transaction.
async fn until_it_stands(at: &mut Session, channel: &str, gtid: &str) -> Result<(), SqlError> {
    let state = format!(
        "SELECT SERVICE_STATE AS state, (SELECT MAX(LAST_ERROR_MESSAGE) FROM performance_schema.replication_applier_status_by_worker \
         WHERE CHANNEL_NAME = {channel} AND LAST_ERROR_NUMBER <> 0) AS error \
         FROM performance_schema.replication_applier_status WHERE CHANNEL_NAME = {channel}",
        channel = literal(channel)
    );
    let end = Instant::now() + TAKING;
    while Instant::now() < end {
        let rows = ask(&mut at.logged, &state).await?;
        let row = rows.first();
        if row.and_then(|row| column::<String>(row, "state")).as_deref() == Some("OFF") {
            return match at.has_executed(gtid).await? {
                true => Ok(()),
                false => Err(SqlError::Outdated(
                    row.and_then(|row| column(row, "error"))
                        .unwrap_or_else(|| format!("the applier did not execute {gtid}")),
                )),
            };
        }
        tokio::time::sleep(POLL).await;
    }
    Err(SqlError::Deadline(TAKING))
}
