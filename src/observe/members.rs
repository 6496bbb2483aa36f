//! Reads members: all at once, each by its server's SQL and its agent's report. A failed probe is data.

use std::net::IpAddr;

use mysql_async::{Conn, Row};

use crate::agent::report::{Look, PATH_LOOK, PATH_REPORT, Report};
use crate::decide::observed::{Channel, Probe, Receiver, Server, Sighting, SqlError as ThreadError};
use crate::members::{AgentClient, MemberClient};
use crate::mysql::connection::{PROBE_DEADLINE, SqlError, column, rows, within};
use crate::mysql::gtid::GtidSet;

const GLOBALS: &str = "SELECT @@server_uuid AS uuid, @@server_id AS server_id, @@super_read_only AS fenced, \
     @@gtid_executed AS executed, @@gtid_purged AS purged, \
     (SELECT COUNT(*) FROM performance_schema.processlist WHERE USER NOT LIKE 'multimaster\\_%' \
      AND USER NOT IN ('system user', 'event_scheduler', 'mysql.session')) AS sessions";
const SILENCE: &str = "SELECT CHANNEL_NAME AS channel, \
     CAST(TIMESTAMPDIFF(SECOND, LAST_HEARTBEAT_TIMESTAMP, NOW(6)) AS SIGNED) AS heartbeat, \
     CAST(TIMESTAMPDIFF(SECOND, LAST_QUEUED_TRANSACTION_END_QUEUE_TIMESTAMP, NOW(6)) AS SIGNED) AS transaction \
     FROM performance_schema.replication_connection_status";

/// Asks the server. Keeps the connection for the next pass, unless something went wrong with it.
pub async fn server(client: &mut MemberClient) -> Probe<Server> {
    let answer = within(PROBE_DEADLINE, async {
        let conn = client.connection().await?;
        read(conn).await
    })
    .await;
    match answer {
        Ok(server) => Probe::Reached(server),
        Err(error) => {
            client.disconnect();
            let why = format!("its server: {error}");
            if error.is_refusal() {
                Probe::Alive(why)
            } else {
                Probe::Unreachable(why)
            }
        }
    }
}

/// Asks the agent.
pub async fn agent(client: &AgentClient) -> Probe<Report> {
    match client.get::<Report>(PATH_REPORT, PROBE_DEADLINE).await {
        Ok(report) => Probe::Reached(report),
        Err(error) => Probe::Unreachable(format!("its agent: {error}")),
    }
}

/// Asks a member's agent to look at another member, or at its own server. An agent that does not answer has seen nothing.
pub async fn look(by: u8, client: &AgentClient, address: IpAddr) -> Option<Sighting> {
    let path = format!("{PATH_LOOK}?address={address}");
    let look: Look = client.get(&path, PROBE_DEADLINE).await.ok()?;
    Some(Sighting {
        by,
        answered: look.answered,
    })
}

/// `gtid_executed` is read after the channels' retrieved sets, so that what was applied in between is not taken for missing.
async fn read(conn: &mut Conn) -> Result<Server, SqlError> {
    let mut channels: Vec<Channel> = rows(conn, "SHOW REPLICA STATUS").await?.iter().map(channel).collect();
    for row in rows(conn, SILENCE).await? {
        let name: String = column(&row, "channel").unwrap_or_default();
        if let Some(channel) = channels.iter_mut().find(|channel| channel.name == name) {
            channel.silent_seconds = silence([column(&row, "heartbeat"), column(&row, "transaction")]);
        }
    }
    let binary_logs = rows(conn, "SHOW BINARY LOGS")
        .await?
        .iter()
        .filter_map(|row| column(row, "Log_name"))
        .collect();
    let globals = rows(conn, GLOBALS).await?;
    let row = globals
        .first()
        .ok_or_else(|| SqlError::Outdated("SELECT of system variables returned no row".into()))?;
    Ok(Server {
        uuid: column(row, "uuid").unwrap_or_default(),
        server_id: column(row, "server_id").unwrap_or_default(),
        super_read_only: column::<i64>(row, "fenced") == Some(1),
        executed: gtid_set(row, "executed"),
        purged: gtid_set(row, "purged"),
        client_sessions: column(row, "sessions").unwrap_or_default(),
        channels,
        binary_logs,
    })
}

/// Since a channel last heard anything. What it heard in the future, it heard before its server's clock was set back: that says nothing.
fn silence(ages: [Option<i64>; 2]) -> Option<i64> {
    ages.into_iter().flatten().filter(|age| *age >= 0).min()
}

/// Without the number of the attempt, which would be news once a second for as long as a source is away.
fn without_attempts(text: &str) -> String {
    match (text.find("This was attempt "), text.find("Message: ")) {
        (Some(from), Some(to)) if from < to => format!("{}{}", &text[..from], &text[to..]),
        _ => text.into(),
    }
}

fn gtid_set(row: &Row, name: &str) -> GtidSet {
    let text: String = column(row, name).unwrap_or_default();
    text.parse().unwrap_or_else(|error| {
        tracing::error!(%error, name, text, "MySQL printed a GTID set that cannot be read; taken as empty");
        GtidSet::default()
    })
}

fn channel(row: &Row) -> Channel {
    let text = |name: &str| column::<String>(row, name).unwrap_or_default();
    let error = |number: &str, message: &str| {
        let number = column::<u32>(row, number).filter(|number| *number != 0)?;
        Some(ThreadError {
            number,
            text: without_attempts(&text(message)),
        })
    };
    Channel {
        name: text("Channel_Name"),
        source_host: text("Source_Host"),
        source_uuid: Some(text("Source_UUID")).filter(|uuid| !uuid.is_empty()),
        receiver: match text("Replica_IO_Running").as_str() {
            "Yes" => Receiver::On,
            "Connecting" => Receiver::Connecting,
            _ => Receiver::Off,
        },
        applier_running: text("Replica_SQL_Running") == "Yes",
        retrieved: gtid_set(row, "Retrieved_Gtid_Set"),
        receiver_error: error("Last_IO_Errno", "Last_IO_Error"),
        applier_error: error("Last_SQL_Errno", "Last_SQL_Error"),
        lag_seconds: column(row, "Seconds_Behind_Source"),
        receiver_file: text("Source_Log_File"),
        applied_file: text("Relay_Source_Log_File"),
        applied_offset: column(row, "Exec_Source_Log_Pos").unwrap_or_default(),
        silent_seconds: None,
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn what_was_heard_before_the_clock_was_set_back_says_nothing() {
        assert_eq!(super::silence([Some(2), Some(700)]), Some(2));
        assert_eq!(super::silence([Some(-3598), Some(4)]), Some(4));
        assert_eq!(super::silence([Some(-3598), None]), None);
    }

    #[test]
    fn an_error_that_stays_the_same_reads_the_same() {
        let text = |attempt| {
            format!(
                "Error reconnecting to source 'a@b:3306'. This was attempt {attempt}/0, with a delay of 1 seconds between attempts. \
                 Message: Can't connect to MySQL server on 'b:3306' (111)"
            )
        };
        let known = "Error reconnecting to source 'a@b:3306'. Message: Can't connect to MySQL server on 'b:3306' (111)";
        for attempt in [1, 2, 115] {
            assert_eq!(super::without_attempts(&text(attempt)), known);
        }
        assert_eq!(super::without_attempts("Duplicate entry"), "Duplicate entry");
    }
}
