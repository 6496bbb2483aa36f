//! Statements that the operator and the agents share.

use mysql_async::{Conn, prelude::Queryable};

use crate::mysql::connection::{STEP_DEADLINE, SqlError, column, rows, run, within};
use crate::mysql::quote::literal;
use crate::names::accounts;

/// For each channel: its name (`channel`), and how many whole seconds ago it last heard anything from its source (`seconds`), a heartbeat or a
/// transaction.
pub const SILENCE: &str = "SELECT CHANNEL_NAME AS channel, CAST(TIMESTAMPDIFF(SECOND, \
     GREATEST(LAST_HEARTBEAT_TIMESTAMP, LAST_QUEUED_TRANSACTION_END_QUEUE_TIMESTAMP), NOW(6)) AS SIGNED) AS seconds \
     FROM performance_schema.replication_connection_status";

/// Stops a server from taking writes: client sessions are killed, since an open transaction would keep `super_read_only` waiting.
///
/// # Errors
/// [`SqlError`]; after [`SqlError::Deadline`] the server may still become fenced.
pub async fn fence(conn: &mut Conn) -> Result<(), SqlError> {
    kill_clients(conn).await?;
    run(conn, "SET GLOBAL super_read_only = ON").await?;
    // Those that came between the two.
    kill_clients(conn).await
}

async fn kill_clients(conn: &mut Conn) -> Result<(), SqlError> {
    let system = accounts::SYSTEM.map(literal).join(", ");
    let query = format!(
        "SELECT ID AS id FROM performance_schema.processlist \
         WHERE USER NOT IN ({system}, 'system user', 'event_scheduler', 'mysql.session') AND USER IS NOT NULL AND ID <> CONNECTION_ID()"
    );
    within(STEP_DEADLINE, async {
        for row in rows(conn, &query).await? {
            let Some(id) = column::<u64>(&row, "id") else { continue };
            match conn.query_drop(format!("KILL {id}")).await {
                Ok(()) => {}
                // 1094: it ended by itself.
                Err(mysql_async::Error::Server(error)) if error.code == 1094 => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    })
    .await
}
