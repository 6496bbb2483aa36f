//! Steps on a member's server as SQL. Each step checks first that the server has the UUID that was observed. No step reconnects or retries.

use mysql_async::Conn;

use crate::api::Database;
use crate::decide::step::{Setting, StartAt};
use crate::mysql::io::connection::{SqlError, ask, gtid_set, required, run, untold};
use crate::mysql::io::statements;
use crate::mysql::quote::{identifier, literal};
use crate::names::{self, accounts, keys, paths};
use crate::operator::members::{Credentials, MemberClient};

/// The upstream end of a link.
pub struct Source {
    /// Channel name.
    pub channel: String,
    /// DNS name of the upstream member.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Account.
    pub user: &'static str,
    /// Its password.
    pub password: String,
}

/// Checks that the server has the UUID that was observed. Otherwise the step does nothing.
pub(super) async fn same_life(conn: &mut Conn, server_uuid: &str) -> Result<(), SqlError> {
    let rows = ask(conn, "SELECT @@server_uuid AS uuid").await?;
    let found: Option<String> = rows.first().map(|row| required(row, "uuid")).transpose()?;
    match found {
        Some(found) if found == server_uuid => Ok(()),
        found => Err(SqlError::Outdated(format!(
            "server_uuid is {found:?}, not {server_uuid}"
        ))),
    }
}

/// Creates the channel of a link and starts it.
///
/// # Errors
/// [`SqlError::Outdated`] when the server has another UUID or the channel exists by now, else as [`run`].
pub async fn attach(
    client: &mut MemberClient,
    server_uuid: &str,
    source: &Source,
    start: &StartAt,
) -> Result<(), SqlError> {
    let conn = client.observed_connection()?;
    same_life(conn, server_uuid).await?;
    // CHANGE REPLICATION SOURCE on an existing channel can delete its relay logs, which may hold the last copy of a write.
    let query = format!("SHOW REPLICA STATUS FOR CHANNEL {}", literal(&source.channel));
    match ask(conn, &query).await {
        Ok(rows) if !rows.is_empty() => {
            return Err(SqlError::Outdated(format!("channel {} exists", source.channel)));
        }
        // For a channel that does not exist MySQL answers error 3074.
        Ok(_) | Err(SqlError::Mysql(mysql_async::Error::Server(_))) => {}
        Err(error) => return Err(error),
    }
    let changed = run(conn, &change_source(source, start)).await;
    changed.map_err(|error| untold(error, &source.password))?;
    run(conn, &format!("START REPLICA FOR CHANNEL {}", literal(&source.channel))).await
}

fn change_source(source: &Source, start: &StartAt) -> String {
    let position = match start {
        StartAt::AutoPosition => "SOURCE_AUTO_POSITION = 1".to_owned(),
        StartAt::Position { file, offset } => {
            format!(
                "SOURCE_AUTO_POSITION = 0, SOURCE_LOG_FILE = {}, SOURCE_LOG_POS = {offset}",
                literal(file)
            )
        }
    };
    // SOURCE_RETRY_COUNT 0 retries for ever; the default gives up after 10 times. GET_SOURCE_PUBLIC_KEY matters only without TLS.
    format!(
        "CHANGE REPLICATION SOURCE TO SOURCE_HOST = {host}, SOURCE_PORT = {port}, SOURCE_USER = {user}, SOURCE_PASSWORD = {password}, {position}, \
         SOURCE_SSL = 1, SOURCE_SSL_CA = {ca}, SOURCE_SSL_VERIFY_SERVER_CERT = 1, SOURCE_HEARTBEAT_PERIOD = 1, SOURCE_CONNECT_RETRY = 1, \
         SOURCE_RETRY_COUNT = 0 FOR CHANNEL {channel}",
        host = literal(&source.host),
        port = source.port,
        user = literal(source.user),
        password = literal(&source.password),
        ca = literal(&format!("{}/ca.crt", paths::TLS)),
        channel = literal(&source.channel),
    )
}

/// Starts the stored channel of a link.
///
/// # Errors
/// [`SqlError::Outdated`] when the server has another UUID, else as [`run`].
pub async fn start(client: &mut MemberClient, server_uuid: &str, channel: &str) -> Result<(), SqlError> {
    threads(client, server_uuid, "START REPLICA", channel).await
}

/// Starts the applier of a channel, and not its receiver.
///
/// # Errors
/// [`SqlError::Outdated`] when the server has another UUID, else as [`run`].
pub async fn start_applier(client: &mut MemberClient, server_uuid: &str, channel: &str) -> Result<(), SqlError> {
    threads(client, server_uuid, "START REPLICA SQL_THREAD", channel).await
}

/// Stops a channel's receiver. Its applier continues, so that it applies what the relay logs hold.
///
/// # Errors
/// [`SqlError::Outdated`] when the server has another UUID, else as [`run`].
pub async fn stop_receiver(client: &mut MemberClient, server_uuid: &str, channel: &str) -> Result<(), SqlError> {
    threads(client, server_uuid, "STOP REPLICA IO_THREAD", channel).await
}

/// Starts or stops threads of a channel.
async fn threads(client: &mut MemberClient, server_uuid: &str, verb: &str, channel: &str) -> Result<(), SqlError> {
    let conn = client.observed_connection()?;
    same_life(conn, server_uuid).await?;
    run(conn, &format!("{verb} FOR CHANNEL {}", literal(channel))).await
}

/// Removes a channel, if every transaction that it has retrieved is executed.
///
/// # Errors
/// [`SqlError::Outdated`] when the server has another UUID, the channel is gone, or its relay logs hold a transaction that is not executed; else as
/// [`run`].
pub async fn detach(client: &mut MemberClient, server_uuid: &str, channel: &str) -> Result<(), SqlError> {
    let conn = client.observed_connection()?;
    same_life(conn, server_uuid).await?;
    run(conn, &format!("STOP REPLICA FOR CHANNEL {}", literal(channel))).await?;
    // With both threads stopped, neither set changes any more.
    let status = ask(conn, &format!("SHOW REPLICA STATUS FOR CHANNEL {}", literal(channel))).await?;
    let row = status
        .first()
        .ok_or_else(|| SqlError::Outdated(format!("channel {channel} is gone")))?;
    let (retrieved, executed) = (
        gtid_set(row, "Retrieved_Gtid_Set")?,
        gtid_set(row, "Executed_Gtid_Set")?,
    );
    if !executed.contains(&retrieved) {
        return Err(SqlError::Outdated(format!(
            "channel {channel} holds {}, which is not executed",
            retrieved.difference(&executed).brief()
        )));
    }
    run(conn, &format!("RESET REPLICA ALL FOR CHANNEL {}", literal(channel))).await
}

/// Opens the member: it takes writes.
///
/// # Errors
/// [`SqlError::Outdated`] when the server has another UUID, else as [`run`].
pub async fn open(client: &mut MemberClient, server_uuid: &str) -> Result<(), SqlError> {
    let conn = client.observed_connection()?;
    same_life(conn, server_uuid).await?;
    // One statement, which clears super_read_only too (manual, "super_read_only"): of two statements only the first might be carried out.
    run(conn, "SET GLOBAL read_only = OFF").await
}

/// Fences the member, see [`statements::fence`].
///
/// # Errors
/// [`SqlError::Outdated`] when the server has another UUID, else as [`statements::fence`].
pub async fn fence(client: &mut MemberClient, server_uuid: &str) -> Result<(), SqlError> {
    let conn = client.observed_connection()?;
    same_life(conn, server_uuid).await?;
    statements::fence(conn).await
}

/// Sets a setting back that a session of a conflict step has left changed: `super_read_only`, or `replica_exec_mode` by an operator of version 0.1.
///
/// # Errors
/// [`SqlError::Outdated`] when the server has another UUID, or takes writes by now, which this must not end; else as [`run`].
pub async fn restore(client: &mut MemberClient, server_uuid: &str, setting: Setting) -> Result<(), SqlError> {
    let conn = client.observed_connection()?;
    same_life(conn, server_uuid).await?;
    match setting {
        Setting::ReplicaExecMode => run(conn, "SET GLOBAL replica_exec_mode = STRICT").await,
        Setting::SuperReadOnly => {
            let rows = ask(conn, "SELECT @@read_only AS fenced").await?;
            let fenced = rows.first().map(|row| required::<bool>(row, "fenced")).transpose()?;
            match fenced {
                Some(true) => run(conn, "SET GLOBAL super_read_only = ON").await,
                _ => Err(SqlError::Outdated("read_only is off".into())),
            }
        }
    }
}

/// Creates the first database and its user, logged, so that they reach every member. It does this as root, so that the operator's own account needs
/// none of these rights.
///
/// # Errors
/// [`SqlError::Outdated`] when the server has another UUID, else as [`MemberClient::connect_as`] and [`run`].
pub async fn create_database(
    client: &mut MemberClient,
    server_uuid: &str,
    database: &Database,
    credentials: &Credentials,
) -> Result<(), SqlError> {
    let mut conn = client.connect_as(accounts::ROOT, credentials.get(keys::ROOT)).await?;
    same_life(&mut conn, server_uuid).await?;
    let (name, user) = (identifier(&database.name), format!("{}@'%'", literal(&database.user)));
    run(&mut conn, &format!("CREATE DATABASE IF NOT EXISTS {name}")).await?;
    let password = credentials.get(keys::APP);
    let create = format!("CREATE USER IF NOT EXISTS {user} IDENTIFIED BY {}", literal(password));
    let created = run(&mut conn, &create).await;
    created.map_err(|error| untold(error, password))?;
    // An underscore in a database name is a wildcard in GRANT.
    let pattern = identifier(&database.name.replace('_', r"\_"));
    run(&mut conn, &format!("GRANT ALL PRIVILEGES ON {pattern}.* TO {user}")).await?;
    // On the schema, not on the procedure: agents make the procedure anew at every start, and grants on it would be lost.
    run(&mut conn, &format!("GRANT EXECUTE ON {}.* TO {user}", names::SCHEMA)).await
}
