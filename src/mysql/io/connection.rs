//! Connections of the operator to members: over TLS, to `admin_address`, by pod IP. Every wait has a deadline.

#![allow(clippy::disallowed_methods, reason = "here they get a deadline and a limit")]

use std::time::Duration;

use mysql_async::prelude::{FromValue, Queryable};
use mysql_async::{Conn, IoError, OptsBuilder, Row, SslOpts, Value};
use mysql_common::proto::codec::error::PacketCodecError;
use tokio::time::timeout;

use crate::mysql::gtid::GtidSet;
use crate::names;

/// Deadline of a probe, connecting included. A probe is due every second.
pub const PROBE_DEADLINE: Duration = Duration::from_secs(1);
/// Deadline of a statement in a step. `STOP REPLICA` takes 2 s while a receiver connects to a host that does not answer.
pub const STEP_DEADLINE: Duration = Duration::from_secs(6);

/// The most bytes of an answer, and so of a packet. A server says and a user stores what they like, and the operator serves other clusters, too.
/// Open records of conflicts are among it.
pub const ANSWER: usize = 48 << 20;
/// The same where definitions and checksums are compared.
pub const ANSWER_OF_DEFINITIONS: usize = 16 << 20;

/// So many characters of a password are a part of it.
const SHORTEST_PART: usize = 4;
/// Characters of an answer that an error repeats.
const MOST_QUOTED: usize = 200;

/// Why a statement or a connection failed.
#[derive(Debug, thiserror::Error)]
pub enum SqlError {
    /// No answer in time. The statement may still be carried out.
    #[error("no answer within {0:?}")]
    Deadline(Duration),
    /// MySQL refused, or the network failed.
    #[error(transparent)]
    Mysql(mysql_async::Error),
    /// The answer was not read to its end, so the connection cannot be used any more.
    #[error("its answer is too long to be read")]
    TooLong,
    /// The server answered, and the answer makes no sense: a column is missing or has another type, or a text is not a GTID set.
    #[error("its answer cannot be read: {0}")]
    Unreadable(String),
    /// The server is another one than the decision was made for, or in another state.
    #[error("it changed since it was looked at: {0}")]
    Outdated(String),
    /// An applier stopped for a reason that passes: [`crate::mysql::errors`].
    #[error("{0}")]
    Interrupted(String),
    /// This pass's observation has left no connection.
    #[error("there is no connection")]
    NotConnected,
}

impl From<mysql_async::Error> for SqlError {
    fn from(error: mysql_async::Error) -> Self {
        let cause = match &error {
            mysql_async::Error::Io(IoError::Io(error)) => error.get_ref().and_then(|cause| cause.downcast_ref()),
            _ => None,
        };
        match cause {
            Some(PacketCodecError::PacketTooLarge) => Self::TooLong,
            _ => Self::Mysql(error),
        }
    }
}

impl SqlError {
    /// Whether the error shows that the server is alive: it refused (wrong password, no right, too many connections), or its answer cannot be read.
    /// A server that shuts down (1053, 3032) does not count as alive.
    pub fn is_of_the_living(&self) -> bool {
        match self {
            Self::Mysql(mysql_async::Error::Server(error)) => !matches!(error.code, 1053 | 3032),
            Self::Unreadable(_) | Self::TooLong => true,
            _ => false,
        }
    }

    /// Whether a statement has no answer and may still be carried out.
    pub fn leaves_doubt(&self) -> bool {
        match self {
            Self::Deadline(_) | Self::TooLong => true,
            Self::Mysql(error) => !matches!(error, mysql_async::Error::Server(_)),
            Self::Unreadable(_) | Self::Outdated(_) | Self::Interrupted(_) | Self::NotConnected => false,
        }
    }
}

/// The error of a statement that holds a secret. MySQL repeats parts of a statement in some errors; such a text is left out.
pub fn untold(error: SqlError, secret: &str) -> SqlError {
    let part = secret.chars().count().min(SHORTEST_PART);
    let characters: Vec<char> = secret.chars().collect();
    match error {
        SqlError::Mysql(mysql_async::Error::Server(mut server)) => {
            let tells = |part: &[char]| server.message.contains(&part.iter().collect::<String>());
            if part > 0 && characters.windows(part).any(tells) {
                server.message = "(the text is left out, because it has a part of a password)".into();
            }
            SqlError::Mysql(mysql_async::Error::Server(server))
        }
        error => error,
    }
}

/// Server and account of a connection.
#[derive(Clone, Debug)]
pub struct Address {
    /// IP address of the pod.
    pub ip: String,
    /// The name in the member's certificate.
    pub host: String,
    /// Account.
    pub user: &'static str,
    /// Its password.
    pub password: String,
    /// Certificate authority of the cluster, PEM.
    pub authority: Vec<u8>,
    /// The most bytes of an answer: [`ANSWER`] or [`ANSWER_OF_DEFINITIONS`].
    pub longest_answer: usize,
}

/// Opens a connection to the administrative port.
///
/// # Errors
/// [`SqlError::Deadline`] when there is no connection in time, [`SqlError::Mysql`] when the network fails or MySQL refuses the login.
pub async fn connect(address: &Address, deadline: Duration) -> Result<Conn, SqlError> {
    let tls = SslOpts::default()
        .with_root_certs(vec![address.authority.clone().into()])
        .with_disable_built_in_roots(true)
        .with_danger_tls_hostname_override(Some(address.host.clone()));
    let options = OptsBuilder::default()
        .ip_or_hostname(address.ip.clone())
        .tcp_port(names::MYSQL_ADMIN_PORT)
        .user(Some(address.user))
        .pass(Some(address.password.clone()))
        .prefer_socket(false)
        .stmt_cache_size(0)
        .max_allowed_packet(Some(address.longest_answer))
        // Whatever the user's my.cnf says: `quote::literal` is right in it.
        .setup(vec!["SET SESSION sql_mode = ''"])
        .ssl_opts(tls);
    within(deadline, async { Ok(Conn::new(options).await?) }).await
}

/// Ends a connection whose answer was not read to its end. The driver would read the rest of it first, in the background, and there may be no end.
pub fn close(conn: Conn) {
    // Outside of the runtime the driver has nowhere to do that, and closes the socket.
    // Without a thread for it, it is dropped here.
    let _ = std::thread::Builder::new().spawn(move || drop(conn));
}

/// Runs a future with a deadline.
///
/// # Errors
/// [`SqlError::Deadline`] when it is not done in time.
pub async fn within<T>(deadline: Duration, work: impl Future<Output = Result<T, SqlError>>) -> Result<T, SqlError> {
    timeout(deadline, work)
        .await
        .unwrap_or(Err(SqlError::Deadline(deadline)))
}

/// Runs a statement without a result.
///
/// # Errors
/// [`SqlError::Deadline`] after [`STEP_DEADLINE`], [`SqlError::Mysql`] when the network fails or MySQL refuses the statement.
pub async fn run(conn: &mut Conn, statement: &str) -> Result<(), SqlError> {
    within(STEP_DEADLINE, async { Ok(conn.query_drop(statement).await?) }).await
}

/// All rows of a query.
///
/// # Errors
/// As [`run`].
pub async fn ask(conn: &mut Conn, query: &str) -> Result<Vec<Row>, SqlError> {
    within(STEP_DEADLINE, rows(conn, query)).await
}

/// All rows of a query, without a deadline. It is for a caller with one deadline for several queries, such as an observation. Others use [`ask`].
///
/// # Errors
/// [`SqlError::Mysql`] when the network fails or MySQL refuses the query, [`SqlError::TooLong`] when there is no end of its answer.
pub async fn rows(conn: &mut Conn, query: &str) -> Result<Vec<Row>, SqlError> {
    let longest = conn.opts().max_allowed_packet().unwrap_or(ANSWER);
    let mut answer = conn.query_iter(query).await?;
    let (mut rows, mut length) = (Vec::new(), 0);
    while let Some(row) = answer.next().await? {
        length += bytes(&row);
        if length > longest {
            return Err(SqlError::TooLong);
        }
        rows.push(row);
    }
    Ok(rows)
}

/// About as many as the row takes in memory: rows of nothing add up, too.
fn bytes(row: &Row) -> usize {
    let cells = (0..row.len()).filter_map(|cell| row.as_ref(cell));
    let length = |cell: &Value| size_of::<Value>() + if let Value::Bytes(bytes) = cell { bytes.len() } else { 0 };
    size_of::<Row>() + cells.map(length).sum::<usize>()
}

/// A column by name; `None` where it is NULL, missing or of another type. Not for a value that a decision rests on: see [`required`].
pub fn column<T: FromValue>(row: &Row, name: &str) -> Option<T> {
    optional(row, name).ok().flatten()
}

/// A column by name; `None` where it is NULL.
///
/// # Errors
/// [`SqlError::Unreadable`] where it is missing or of another type.
pub fn optional<T: FromValue>(row: &Row, name: &str) -> Result<Option<T>, SqlError> {
    let value = row
        .get_opt::<Option<T>, _>(name)
        .ok_or_else(|| SqlError::Unreadable(format!("there is no column {name}")))?;
    // The driver's error repeats the value, which may be long.
    value.map_err(|error| SqlError::Unreadable(format!("column {name}: {}", shortened(&error.to_string()))))
}

/// A column by name that is never NULL.
///
/// # Errors
/// [`SqlError::Unreadable`] where it is NULL, missing or of another type. A default in its place could be dangerous: 0 sessions, no transaction,
/// not fenced.
pub fn required<T: FromValue>(row: &Row, name: &str) -> Result<T, SqlError> {
    optional(row, name)?.ok_or_else(|| SqlError::Unreadable(format!("column {name} is NULL")))
}

/// The beginning of a text that may have any length, for an error that is written to status.
pub fn shortened(text: &str) -> String {
    text.chars().take(MOST_QUOTED).collect()
}

/// A column that holds a GTID set.
///
/// # Errors
/// [`SqlError::Unreadable`] as [`required`], and where the text is not a GTID set. Such a text never counts as the empty set.
pub fn gtid_set(row: &Row, name: &str) -> Result<GtidSet, SqlError> {
    let text: String = required(row, name)?;
    text.parse()
        .map_err(|error| SqlError::Unreadable(format!("column {name}: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_does_not_repeat_a_part_of_a_password() {
        let told = |message: &str, secret: &str| {
            let error = mysql_async::ServerError {
                code: 1064,
                message: message.into(),
                state: "42000".into(),
            };
            untold(SqlError::Mysql(mysql_async::Error::Server(error)), secret).to_string()
        };
        let text = "You have an error in your SQL syntax near 's-SECRET', SOURCE_AUTO_POSITION";
        for (secret, is_told) in [
            ("it's-SECRET", false),
            ("xxCRETxx", false),
            ("ötzi", true),
            ("ab", true),
            ("ne", false),
            ("", true),
        ] {
            let told = told(text, secret);
            assert!(told.contains("1064"), "{told}");
            assert_eq!(told.contains(text), is_told, "{secret}: {told}");
        }
    }
}
