//! Statements that the operator and the agents share.

use mysql_async::{Conn, Row};

use super::connection::{STEP_DEADLINE, SqlError, optional, required, rows, run, within};
use crate::mysql::quote::literal;
use crate::names::accounts;

/// For each channel: its name (`channel`), and whole seconds since the last heartbeat (`heartbeat`) and since the last transaction
/// (`transaction`) from its source. [`last_contact`] reads the rows.
pub const LAST_CONTACT: &str = "SELECT CHANNEL_NAME AS channel, \
     CAST(TIMESTAMPDIFF(SECOND, LAST_HEARTBEAT_TIMESTAMP, NOW(6)) AS SIGNED) AS heartbeat, \
     CAST(TIMESTAMPDIFF(SECOND, LAST_QUEUED_TRANSACTION_END_QUEUE_TIMESTAMP, NOW(6)) AS SIGNED) AS transaction \
     FROM performance_schema.replication_connection_status";

/// Name of a channel, and whole seconds since the last heartbeat or transaction from its source: a row of [`LAST_CONTACT`].
///
/// # Errors
/// [`SqlError::Unreadable`] when a column is missing or of another type.
pub fn last_contact(row: &Row) -> Result<(String, Option<i64>), SqlError> {
    let ages = [optional(row, "heartbeat")?, optional(row, "transaction")?];
    Ok((required(row, "channel")?, latest(ages)))
}

/// The smaller age. A negative age means that the server's clock was set back after the contact; it is not used.
fn latest(ages: [Option<i64>; 2]) -> Option<i64> {
    ages.into_iter().flatten().filter(|age| *age >= 0).min()
}

/// Stops a server from taking writes. It kills client sessions, because an open transaction would keep `super_read_only` waiting.
///
/// # Errors
/// [`SqlError`]; after [`SqlError::Deadline`] the server may still become fenced, until the next connection kills the session.
pub async fn fence(conn: &mut Conn) -> Result<(), SqlError> {
    kill_clients(conn).await?;
    run(conn, "SET GLOBAL super_read_only = ON").await?;
    // Sessions that began between the two statements.
    kill_clients(conn).await
}

/// Ends a session. Returns whether it was still there.
///
/// # Errors
/// As [`run`].
pub async fn kill(conn: &mut Conn, id: u64) -> Result<bool, SqlError> {
    match run(conn, &format!("KILL {id}")).await {
        // The session ended by itself.
        Err(SqlError::Mysql(mysql_async::Error::Server(error))) if error.code == 1094 => Ok(false),
        killed => killed.map(|()| true),
    }
}

async fn kill_clients(conn: &mut Conn) -> Result<(), SqlError> {
    let system = accounts::SYSTEM.map(literal).join(", ");
    let query = format!(
        "SELECT ID AS id FROM performance_schema.processlist \
         WHERE USER NOT IN ({system}, 'system user', 'event_scheduler', 'mysql.session') AND USER IS NOT NULL AND ID <> CONNECTION_ID()"
    );
    within(STEP_DEADLINE, async {
        for row in rows(conn, &query).await? {
            let id: u64 = required(&row, "id")?;
            kill(conn, id).await?;
        }
        Ok(())
    })
    .await
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_contact_before_the_clock_was_set_back_is_not_used() {
        assert_eq!(super::latest([Some(2), Some(700)]), Some(2));
        assert_eq!(super::latest([Some(-3598), Some(4)]), Some(4));
        assert_eq!(super::latest([Some(-3598), None]), None);
    }
}
