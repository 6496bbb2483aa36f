//! Reads members: all at once, each by its server's SQL and its agent's report. A failed probe is data.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use mysql_async::{Conn, Row};

use crate::decide::observed::{Channel, Probe, Receiver, Server, Sighting, SqlError as ThreadError};
use crate::mysql::io::connection::{PROBE_DEADLINE, SqlError, gtid_set, optional, required, rows, within};
use crate::mysql::io::hearing::Hearing;
use crate::mysql::io::statements::SILENCE;
use crate::operator::conflict_table;
use crate::operator::members::MemberClient;
use crate::wire::agent::{Look, PATH_LOOK, PATH_REPORT, Report, Terms};
use crate::wire::balancer;
use crate::wire::io::client::AgentClient;

const GLOBALS: &str = "SELECT @@server_uuid AS uuid, @@server_id AS server_id, @@read_only AS fenced, \
     @@read_only AND NOT @@super_read_only AS half_fenced, @@GLOBAL.replica_exec_mode <> 'STRICT' AS idempotent, \
     @@gtid_executed AS executed, @@gtid_purged AS purged, \
     (SELECT COUNT(*) FROM performance_schema.processlist WHERE USER NOT LIKE 'multimaster\\_%' \
      AND USER NOT IN ('system user', 'event_scheduler', 'mysql.session')) AS sessions";
/// What appliers stopped at. 3030: a worker that stopped because another one had.
const STOPPED: &str = "SELECT CHANNEL_NAME AS channel, APPLYING_TRANSACTION AS gtid, LAST_ERROR_NUMBER AS number, LAST_ERROR_MESSAGE AS text \
     FROM performance_schema.replication_applier_status_by_worker WHERE LAST_ERROR_NUMBER NOT IN (0, 3030)";

/// Asks the server. Keeps the connection for the next pass, unless something went wrong with it.
pub async fn server(client: &mut MemberClient) -> Probe<Server> {
    let mut hearing = std::mem::take(&mut client.hearing);
    let answer = within(PROBE_DEADLINE, async {
        let conn = client.connection().await?;
        read(conn, &mut hearing).await
    })
    .await;
    client.hearing = hearing;
    match answer {
        Ok(server) => Probe::Reached(server),
        Err(error) => {
            client.disconnect();
            let why = format!("its server: {error}");
            if error.is_of_the_living() {
                Probe::Alive(why)
            } else {
                Probe::Unreachable(why)
            }
        }
    }
}

/// Listens once more to what a server that was just reached hears by its links: one that does not answer takes the whole of a look to do so, and
/// what somebody heard of it before must not count for it.
pub async fn hear_again(client: &mut MemberClient, server: &mut Server) {
    let mut hearing = std::mem::take(&mut client.hearing);
    let heard = within(PROBE_DEADLINE, async {
        let conn = client.observed_connection()?;
        let statuses = rows(conn, "SHOW REPLICA STATUS").await?;
        let told = rows(conn, SILENCE).await?;
        let names = statuses.iter().map(|row| required::<String>(row, "Channel_Name"));
        let names = names.collect::<Result<Vec<_>, _>>()?;
        let silences = hearing.silences(&statuses, &told, Instant::now())?;
        Ok(names.into_iter().zip(silences).collect::<Vec<_>>())
    })
    .await;
    client.hearing = hearing;
    match heard {
        Ok(heard) => {
            for (name, seconds) in heard {
                if let Some(channel) = server.channels.iter_mut().find(|channel| channel.name == name) {
                    channel.silent_seconds = seconds;
                }
            }
        }
        Err(error) => {
            // What it said before stands.
            tracing::debug!(%error, "it cannot say what it hears now");
            client.disconnect();
        }
    }
}

/// Asks the agent, and tells it the terms, if there are any: without them the last ones stay.
pub async fn agent(client: &AgentClient, terms: Option<&Terms>) -> Probe<Report> {
    let path = match terms {
        Some(terms) => format!("{PATH_REPORT}?{terms}"),
        None => PATH_REPORT.to_owned(),
    };
    match client.get::<Report>(&path, PROBE_DEADLINE).await {
        Ok(report) => Probe::Reached(report),
        Err(error) => Probe::Unreachable(format!("its agent: {error}")),
    }
}

/// Asks an HAProxy pod what it does, until it answers, and as often as there are deadlines.
pub async fn balancer(client: &AgentClient, deadlines: &[Duration]) -> Probe<balancer::Report> {
    let mut probe = Probe::NoAddress;
    for deadline in deadlines {
        match client.get::<balancer::Report>(balancer::PATH_REPORT, *deadline).await {
            Ok(report) => return Probe::Reached(report),
            Err(error) => probe = Probe::Unreachable(format!("it does not answer: {error}")),
        }
    }
    probe
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
async fn read(conn: &mut Conn, hearing: &mut Hearing) -> Result<Server, SqlError> {
    let statuses = rows(conn, "SHOW REPLICA STATUS").await?;
    let told = rows(conn, SILENCE).await?;
    let silences = hearing.silences(&statuses, &told, Instant::now())?;
    let with_silence = |(row, silent_seconds)| {
        Ok(Channel {
            silent_seconds,
            ..channel(row)?
        })
    };
    let channels = statuses.iter().zip(silences).map(with_silence);
    let mut channels = channels.collect::<Result<Vec<Channel>, SqlError>>()?;
    for row in rows(conn, STOPPED).await? {
        let name: String = required(&row, "channel")?;
        let error = ThreadError {
            number: required(&row, "number")?,
            text: required(&row, "text")?,
        };
        if let Some(channel) = channels.iter_mut().find(|channel| channel.name == name) {
            stopped(channel, optional(&row, "gtid")?, error);
        }
    }
    let conflicts = conflict_table::recent(conn).await?;
    let binary_logs = rows(conn, "SHOW BINARY LOGS")
        .await?
        .iter()
        .map(|row| required(row, "Log_name"))
        .collect::<Result<_, _>>()?;
    let globals = rows(conn, GLOBALS).await?;
    let row = globals
        .first()
        .ok_or_else(|| SqlError::Unreadable("SELECT of system variables returned no row".into()))?;
    Ok(Server {
        uuid: required(row, "uuid")?,
        server_id: required(row, "server_id")?,
        super_read_only: required::<bool>(row, "fenced")?,
        half_fenced: required::<bool>(row, "half_fenced")?,
        idempotent: required::<bool>(row, "idempotent")?,
        executed: gtid_set(row, "executed")?,
        purged: gtid_set(row, "purged")?,
        client_sessions: required(row, "sessions")?,
        channels,
        binary_logs,
        conflicts: conflicts.records,
        unread: conflicts.unread,
    })
}

/// Notes the transaction at which one of a channel's workers stopped: the first in the order of the source's log, should there be several.
fn stopped(channel: &mut Channel, gtid: Option<String>, at: ThreadError) {
    let (Some(gtid), Some(error)) = (gtid.filter(|gtid| !gtid.is_empty()), &mut channel.applier_error) else {
        return;
    };
    let earlier = channel.blocked.is_none() || place_in(&at.text) < place_in(&error.text);
    if earlier && !channel.applier_running {
        channel.blocked = Some(gtid);
        // The channel's own only says where to find this one, and may be that of a worker which stopped because this one had.
        *error = at;
    }
}

/// Binary log and offset in `... at source log binlog.000001, end_log_pos 422; Could not ...`.
fn place_in(text: &str) -> Option<(&str, u64)> {
    let rest = text.split_once("at source log ")?.1;
    let (file, rest) = rest.split_once(", end_log_pos ")?;
    let digits = rest.split(|c: char| !c.is_ascii_digit()).next()?;
    Some((file, digits.parse().ok()?))
}

/// Without the number of the attempt, which would be news once a second for as long as a source is away.
fn without_attempts(text: &str) -> String {
    match (text.find("This was attempt "), text.find("Message: ")) {
        (Some(from), Some(to)) if from < to => format!("{}{}", &text[..from], &text[to..]),
        _ => text.into(),
    }
}

/// A row of `SHOW REPLICA STATUS`.
fn channel(row: &Row) -> Result<Channel, SqlError> {
    let text = |name: &str| required::<String>(row, name);
    let error = |number: &str, message: &str| {
        let (number, text): (u32, String) = (required(row, number)?, required(row, message)?);
        let error = ThreadError {
            number,
            text: without_attempts(&text),
        };
        Ok::<_, SqlError>((number != 0).then_some(error))
    };
    Ok(Channel {
        name: text("Channel_Name")?,
        source_host: text("Source_Host")?,
        source_uuid: Some(text("Source_UUID")?).filter(|uuid| !uuid.is_empty()),
        receiver: match text("Replica_IO_Running")?.as_str() {
            "Yes" => Receiver::On,
            "Connecting" => Receiver::Connecting,
            _ => Receiver::Off,
        },
        applier_running: text("Replica_SQL_Running")? == "Yes",
        retrieved: gtid_set(row, "Retrieved_Gtid_Set")?,
        receiver_error: error("Last_IO_Errno", "Last_IO_Error")?,
        applier_error: error("Last_SQL_Errno", "Last_SQL_Error")?,
        lag_seconds: optional(row, "Seconds_Behind_Source")?,
        receiver_file: text("Source_Log_File")?,
        applied_file: text("Relay_Source_Log_File")?,
        applied_offset: required(row, "Exec_Source_Log_Pos")?,
        silent_seconds: None,
        blocked: None,
    })
}

#[cfg(test)]
mod tests {
    #[test]
    fn of_several_workers_the_first_in_the_log_counts() {
        let text = |place: u32| {
            format!(
                "Worker 2 failed executing transaction 'x' at source log binlog.000009, end_log_pos {place}; Could not"
            )
        };
        for order in [[422, 1000], [1000, 422]] {
            let mut channel = super::Channel {
                applier_error: Some(super::ThreadError {
                    number: 3030,
                    text: "Coordinator stopped".into(),
                }),
                ..super::Channel::default()
            };
            for place in order {
                let error = super::ThreadError {
                    number: 1032,
                    text: text(place),
                };
                super::stopped(&mut channel, Some(format!("u:{place}")), error);
            }
            assert_eq!(channel.blocked.as_deref(), Some("u:422"));
            let error = channel.applier_error.unwrap();
            assert_eq!((error.number, error.text), (1032, text(422)));
        }
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
