//! Reads members, all at the same time: each member's server by SQL, and its agent's report. A failed probe is data.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use mysql_async::{Conn, Row};

use crate::decide::observed::{Channel, Probe, Receiver, Server, SqlError as ThreadError, WitnessProbe};
use crate::mysql::errors::without_secrets;
use crate::mysql::io::connection::{PROBE_DEADLINE, SqlError, gtid_set, optional, required, rows, within};
use crate::mysql::io::contact::Contacts;
use crate::mysql::io::statements::LAST_CONTACT;
use crate::operator::conflict_table::{self, Reading};
use crate::operator::members::MemberClient;
use crate::wire::agent::{PATH_REPORT, PATH_WITNESS, Report, WitnessAnswer};
use crate::wire::balancer;
use crate::wire::io::client::AgentClient;
use crate::wire::lease::LeaseRenewal;

const GLOBALS: &str = "SELECT @@server_uuid AS uuid, @@server_id AS server_id, @@read_only AS fenced, \
     @@read_only AND NOT @@super_read_only AS half_fenced, @@GLOBAL.replica_exec_mode <> 'STRICT' AS idempotent, \
     @@gtid_executed AS executed, @@gtid_purged AS purged, \
     (SELECT COUNT(*) FROM performance_schema.processlist WHERE USER NOT LIKE 'multimaster\\_%' \
      AND USER NOT IN ('system user', 'event_scheduler', 'mysql.session')) AS sessions";
/// The transactions at which appliers stopped. 3030: a worker that stopped because another worker had.
const STOPPED: &str = "SELECT CHANNEL_NAME AS channel, APPLYING_TRANSACTION AS gtid, LAST_ERROR_NUMBER AS number, LAST_ERROR_MESSAGE AS text \
     FROM performance_schema.replication_applier_status_by_worker WHERE LAST_ERROR_NUMBER NOT IN (0, 3030)";
/// When appliers stopped for an error, in seconds before now: times of the epoch, which no time zone and no summer time moves.
const STOPPED_SINCE: &str = "SELECT CHANNEL_NAME AS channel, \
     CAST(UNIX_TIMESTAMP() AS SIGNED) - CAST(MAX(UNIX_TIMESTAMP(LAST_ERROR_TIMESTAMP)) AS SIGNED) AS age FROM \
     (SELECT CHANNEL_NAME, LAST_ERROR_TIMESTAMP FROM performance_schema.replication_applier_status_by_worker WHERE LAST_ERROR_NUMBER <> 0 \
     UNION ALL SELECT CHANNEL_NAME, LAST_ERROR_TIMESTAMP FROM performance_schema.replication_applier_status_by_coordinator \
     WHERE LAST_ERROR_NUMBER <> 0) AS errors GROUP BY CHANNEL_NAME";

/// Asks the server. Keeps the connection for the next pass, unless it failed.
pub async fn server(client: &mut MemberClient) -> Probe<Server> {
    let mut contacts = std::mem::take(&mut client.contacts);
    let with_records = client.reads_records();
    let answer = within(PROBE_DEADLINE, async {
        let conn = client.connection().await?;
        read(conn, &mut contacts, with_records).await
    })
    .await;
    client.contacts = contacts;
    match answer {
        Ok(server) => Probe::Reached(server),
        Err(error) => {
            match error {
                SqlError::TooLong => client.overrun(),
                _ => client.disconnect(),
            }
            let why = format!("its server: {error}");
            if error.is_of_the_living() {
                Probe::Alive(why)
            } else {
                Probe::Unreachable(why)
            }
        }
    }
}

/// Reads once more when each channel of a server that was just reached had its last contact. Reason: an observation of a member that does not
/// answer takes its whole deadline, and a contact from before that must not count as a sign of life.
pub async fn read_contacts_again(client: &mut MemberClient, server: &mut Server) {
    let mut contacts = std::mem::take(&mut client.contacts);
    let read = within(PROBE_DEADLINE, async {
        let conn = client.observed_connection()?;
        let statuses = rows(conn, "SHOW REPLICA STATUS").await?;
        let times = rows(conn, LAST_CONTACT).await?;
        let names = statuses.iter().map(|row| required::<String>(row, "Channel_Name"));
        let names = names.collect::<Result<Vec<_>, _>>()?;
        let seconds = contacts.seconds_since(&statuses, &times, Instant::now())?;
        Ok(names.into_iter().zip(seconds).collect::<Vec<_>>())
    })
    .await;
    client.contacts = contacts;
    match read {
        Ok(channels) => {
            for (name, seconds) in channels {
                if let Some(channel) = server.channels.iter_mut().find(|channel| channel.name == name) {
                    channel.seconds_since_contact = seconds;
                }
            }
        }
        Err(error) => {
            // The times that were read before stay.
            tracing::debug!(%error, "the last contacts of its channels cannot be read again");
            client.disconnect();
        }
    }
}

/// Asks the agent for its report. The request carries the lease renewal, if there is one; without it the agent keeps the one before.
pub async fn agent(client: &AgentClient, renewal: Option<&LeaseRenewal>) -> Probe<Report> {
    let path = match renewal {
        Some(renewal) => format!("{PATH_REPORT}?{renewal}"),
        None => PATH_REPORT.to_owned(),
    };
    match client.get::<Report>(&path, PROBE_DEADLINE).await {
        Ok(report) => Probe::Reached(report),
        Err(error) => Probe::Unreachable(format!("its agent: {error}")),
    }
}

/// Asks an HAProxy pod for its report, once for each deadline, until the pod answers.
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

/// Asks a member's agent to probe another member, or its own server. `None`: the agent does not answer, so it is no witness.
pub async fn ask_witness(by: u8, client: &AgentClient, address: IpAddr) -> Option<WitnessProbe> {
    let path = format!("{PATH_WITNESS}?address={address}");
    let answer: WitnessAnswer = client.get(&path, PROBE_DEADLINE).await.ok()?;
    Some(WitnessProbe {
        by,
        answered: answer.answered,
    })
}

/// Reads everything that a server says. `gtid_executed` comes after the channels' retrieved sets: a transaction that is applied in between then
/// does not seem to be missing.
async fn read(conn: &mut Conn, contacts: &mut Contacts, with_records: bool) -> Result<Server, SqlError> {
    let statuses = rows(conn, "SHOW REPLICA STATUS").await?;
    let times = rows(conn, LAST_CONTACT).await?;
    let seconds = contacts.seconds_since(&statuses, &times, Instant::now())?;
    let with_contact = |(row, seconds_since_contact)| {
        Ok(Channel {
            seconds_since_contact,
            ..channel(row)?
        })
    };
    let channels = statuses.iter().zip(seconds).map(with_contact);
    let mut channels = channels.collect::<Result<Vec<Channel>, SqlError>>()?;
    for row in rows(conn, STOPPED).await? {
        let name: String = required(&row, "channel")?;
        let error = ThreadError {
            number: required(&row, "number")?,
            text: without_secrets(&required::<String>(&row, "text")?),
        };
        if let Some(channel) = channels.iter_mut().find(|channel| channel.name == name) {
            stopped(channel, optional(&row, "gtid")?, error);
        }
    }
    if channels.iter().any(|channel| channel.stopped_for().is_some()) {
        for row in rows(conn, STOPPED_SINCE).await? {
            let name: String = required(&row, "channel")?;
            if let Some(channel) = channels.iter_mut().find(|channel| channel.name == name) {
                channel.seconds_since_error = optional(&row, "age")?;
            }
        }
    }
    let conflicts = match with_records {
        true => conflict_table::recent(conn).await?,
        false => Reading::too_long(conn).await?,
    };
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
        has_image_table: conflicts.has_image_table,
    })
}

/// Notes the transaction at which a worker of the channel stopped. If several workers stopped, the first in the source's log counts.
fn stopped(channel: &mut Channel, gtid: Option<String>, at: ThreadError) {
    let (Some(gtid), Some(error)) = (gtid.filter(|gtid| !gtid.is_empty()), &mut channel.applier_error) else {
        return;
    };
    let earlier = channel.blocked.is_none() || place_in(&at.text) < place_in(&error.text);
    if earlier && !channel.applier_running {
        channel.blocked = Some(gtid);
        // The channel's own error only says where to find this one. It may also come from a worker that stopped because of this one.
        *error = at;
    }
}

/// Binary log and offset from `... at source log binlog.000001, end_log_pos 422; Could not ...`.
fn place_in(text: &str) -> Option<(&str, u64)> {
    let rest = text.split_once("at source log ")?.1;
    let (file, rest) = rest.split_once(", end_log_pos ")?;
    let digits = rest.split(|c: char| !c.is_ascii_digit()).next()?;
    Some((file, digits.parse().ok()?))
}

/// The text without the number of the attempt. The number changes every second while a source is unreachable.
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
            text: without_secrets(&without_attempts(&text)),
        };
        Ok::<_, SqlError>((number != 0).then_some(error))
    };
    Ok(Channel {
        name: text("Channel_Name")?,
        source_host: text("Source_Host")?,
        source_port: required(row, "Source_Port")?,
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
        seconds_since_contact: None,
        blocked: None,
        seconds_since_error: None,
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
