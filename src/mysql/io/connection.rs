//! Connections of the operator to members: over TLS, to `admin_address`, by pod IP, every wait with a deadline.

use std::time::Duration;

use mysql_async::prelude::{FromValue, Queryable};
use mysql_async::{Conn, OptsBuilder, Row, SslOpts};
use tokio::time::timeout;

use crate::mysql::gtid::GtidSet;
use crate::names;

/// Deadline of a probe, connecting included. A probe is due every second.
pub const PROBE_DEADLINE: Duration = Duration::from_secs(1);
/// Deadline of a statement that is a step. `STOP REPLICA` takes 2 s while a receiver is connecting to a host that does not answer.
pub const STEP_DEADLINE: Duration = Duration::from_secs(6);

/// Characters of an answer that are repeated in an error.
const MOST_QUOTED: usize = 200;

/// Why a statement or a connection did not work out.
#[derive(Debug, thiserror::Error)]
pub enum SqlError {
    /// No answer in time. What was sent may still be carried out.
    #[error("no answer within {0:?}")]
    Deadline(Duration),
    /// MySQL or the network said no.
    #[error(transparent)]
    Mysql(#[from] mysql_async::Error),
    /// It answered, and what it said makes no sense: a column that is missing or of another type, a GTID set that is none.
    #[error("its answer cannot be read: {0}")]
    Unreadable(String),
    /// The server is not the one, or not in the state, that the decision was made for.
    #[error("it changed since it was looked at: {0}")]
    Outdated(String),
    /// There is no connection from this pass's observation.
    #[error("there is no connection")]
    NotConnected,
}

impl SqlError {
    /// The server is alive: it refused (wrong password, no right, too many connections), or said what cannot be read. It is not while it shuts
    /// down (1053, 3032).
    pub fn is_of_the_living(&self) -> bool {
        match self {
            Self::Mysql(mysql_async::Error::Server(error)) => !matches!(error.code, 1053 | 3032),
            Self::Unreadable(_) => true,
            _ => false,
        }
    }

    /// What was sent has no answer, and may still be carried out.
    pub fn leaves_doubt(&self) -> bool {
        match self {
            Self::Deadline(_) => true,
            Self::Mysql(error) => !matches!(error, mysql_async::Error::Server(_)),
            Self::Unreadable(_) | Self::Outdated(_) | Self::NotConnected => false,
        }
    }
}

/// Where and as whom to connect.
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
}

/// Opens a connection to the administrative port.
///
/// # Errors
/// [`SqlError::Deadline`] or what MySQL or the network said.
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
        .ssl_opts(tls);
    within(deadline, async { Ok(Conn::new(options).await?) }).await
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
/// As [`within`], or what MySQL said.
pub async fn run(conn: &mut Conn, statement: &str) -> Result<(), SqlError> {
    within(STEP_DEADLINE, async { Ok(conn.query_drop(statement).await?) }).await
}

/// All rows of a query.
///
/// # Errors
/// As [`within`], or what MySQL said.
pub async fn ask(conn: &mut Conn, query: &str) -> Result<Vec<Row>, SqlError> {
    within(STEP_DEADLINE, rows(conn, query)).await
}

/// All rows of a query, without a deadline: for a caller that has one for several queries, as an observation has. Others use [`ask`].
///
/// # Errors
/// What MySQL or the network said.
pub async fn rows(conn: &mut Conn, query: &str) -> Result<Vec<Row>, SqlError> {
    Ok(conn.query(query).await?)
}

/// A column by name; `None` where it is NULL, missing or of another type. For what nothing is decided by: see [`required`].
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
    // The error repeats the value.
    value.map_err(|error| SqlError::Unreadable(format!("column {name}: {}", shortened(&error.to_string()))))
}

/// A column by name that is never NULL.
///
/// # Errors
/// [`SqlError::Unreadable`] where it is NULL, missing or of another type. A default in its place could be a dangerous one: 0 sessions, no
/// transaction, not fenced.
pub fn required<T: FromValue>(row: &Row, name: &str) -> Result<T, SqlError> {
    optional(row, name)?.ok_or_else(|| SqlError::Unreadable(format!("column {name} is NULL")))
}

/// The beginning of a text that may be of any length, for an error that status has to hold.
pub fn shortened(text: &str) -> String {
    text.chars().take(MOST_QUOTED).collect()
}

/// A column that holds a GTID set.
///
/// # Errors
/// [`SqlError::Unreadable`] as [`required`], and where it is not a GTID set: that is never taken for an empty one.
pub fn gtid_set(row: &Row, name: &str) -> Result<GtidSet, SqlError> {
    let text: String = required(row, name)?;
    text.parse()
        .map_err(|error| SqlError::Unreadable(format!("column {name}: {error}")))
}
