//! The agent's connections to its own mysqld, over the socket.

#![allow(
    clippy::disallowed_methods,
    reason = "they ask its own mysqld, and get a deadline here"
)]

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use mysql_async::prelude::Queryable;
use mysql_async::{Conn, OptsBuilder};
use tokio::time::timeout;

use crate::mysql::gtid::{GtidSet, ParseGtidSetError};
use crate::mysql::io::statements;
use crate::names::accounts::AGENT;

/// Why mysqld did not answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// mysqld refused, or the connection failed.
    #[error("{0}")]
    Mysql(#[from] mysql_async::Error),
    /// mysqld answered with a text that is not a GTID set.
    #[error(transparent)]
    GtidSet(#[from] ParseGtidSetError),
    /// mysqld answered without a row where the query always has one.
    #[error("{0} returned no row")]
    NoRow(String),
    /// mysqld did not answer in time.
    #[error("no answer within {} ms", .0.as_millis())]
    Deadline(Duration),
}

impl Error {
    /// mysqld runs and does not know this account or its password: the init file was not carried out to its end.
    pub fn is_access_denied(&self) -> bool {
        matches!(self, Self::Mysql(mysql_async::Error::Server(error)) if error.code == 1045)
    }

    /// The server refused the statement. The connection can still be used.
    pub fn is_refusal(&self) -> bool {
        matches!(self, Self::Mysql(mysql_async::Error::Server(_)))
    }
}

/// The result of a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Writable {
    /// `super_read_only` is on.
    pub super_read_only: bool,
    /// `read_only` is on. It is on without `super_read_only` during a clone, and while the operator settles a conflict.
    pub read_only: bool,
    /// `offline_mode` is on.
    pub offline: bool,
}

impl Writable {
    /// Whether no client can write. `read_only` alone is enough for that.
    pub fn is_fenced(self) -> bool {
        self.super_read_only || self.read_only
    }
}

/// Makes connections. It keeps one for probes, so that a server without free connections still answers its own agent.
#[derive(Debug)]
pub struct Sql {
    socket: PathBuf,
    password: Mutex<String>,
    kept: tokio::sync::Mutex<Option<Conn>>,
    /// The last answer at the open port, and when it was asked for.
    recent: tokio::sync::Mutex<Option<(Instant, Writable)>>,
}

impl Sql {
    /// Without a password and without a connection.
    pub fn new(socket: PathBuf) -> Self {
        Self {
            socket,
            password: Mutex::default(),
            kept: tokio::sync::Mutex::default(),
            recent: tokio::sync::Mutex::default(),
        }
    }

    /// Sets the password of this run's init file. The Secret may have changed since.
    pub fn set_password(&self, password: &str) {
        password.clone_into(&mut self.password.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// This password. At the donor of a clone it is valid too, because all members have one Secret.
    pub fn password(&self) -> String {
        self.password.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A new connection.
    ///
    /// # Errors
    /// [`Error::Mysql`] when mysqld cannot be reached or refuses the login, [`Error::Deadline`] when it does not answer in time.
    pub async fn connect(&self, deadline: Duration) -> Result<Conn, Error> {
        let options = OptsBuilder::default()
            .prefer_socket(false)
            .socket(Some(self.socket.to_string_lossy()))
            .user(Some(AGENT))
            .pass(Some(self.password()))
            // Set here, because the driver would otherwise query both for each connection.
            .max_allowed_packet(Some(16 << 20))
            .wait_timeout(Some(28_800))
            .setup(vec![
                "SET SESSION sql_mode='', sql_log_bin=0, wait_timeout=31536000, lock_wait_timeout=10",
            ]);
        within(deadline, Conn::new(options)).await
    }

    /// Reads by a query whether the member could take a write.
    ///
    /// # Errors
    /// [`Error`] when mysqld cannot be reached, refuses the query, or does not answer in time.
    pub async fn probe(&self, deadline: Duration) -> Result<Writable, Error> {
        let probe = async {
            let mut kept = self.kept.lock().await;
            // Taken out: if the deadline drops this future, the connection with its pending answer is dropped too.
            let mut conn = match kept.take() {
                Some(conn) => conn,
                None => self.connect(deadline).await?,
            };
            let query = "SELECT @@GLOBAL.super_read_only, @@GLOBAL.read_only, @@GLOBAL.offline_mode";
            let row: Option<(bool, bool, bool)> = conn.query_first(query).await?;
            *kept = Some(conn);
            let (super_read_only, read_only, offline) = row.ok_or_else(|| Error::NoRow(query.into()))?;
            Ok(Writable {
                super_read_only,
                read_only,
                offline,
            })
        };
        timeout(deadline, probe).await.unwrap_or(Err(Error::Deadline(deadline)))
    }

    /// The same for whoever asks at the open port: all who wait while a query runs get the answer of the next one, so that many who ask are few queries.
    /// No answer is older than its question.
    ///
    /// # Errors
    /// As [`Sql::probe`].
    pub async fn recent_probe(&self, deadline: Duration) -> Result<Writable, Error> {
        let came = Instant::now();
        let probe = async {
            let mut recent = self.recent.lock().await;
            if let Some((asked, answer)) = *recent
                && asked >= came
            {
                return Ok(answer);
            }
            let asked = Instant::now();
            let answer = self.probe(deadline).await?;
            *recent = Some((asked, answer));
            Ok(answer)
        };
        timeout(deadline, probe).await.unwrap_or(Err(Error::Deadline(deadline)))
    }

    /// Forgets the kept connection, because its mysqld is gone.
    pub async fn forget(&self) {
        *self.kept.lock().await = None;
        *self.recent.lock().await = None;
    }
}

/// Whether the member is fenced, and every transaction that it has executed or retrieved.
///
/// # Errors
/// [`Error`] when mysqld cannot be reached, does not answer within 5 s, or answers with a text that is not a GTID set.
pub async fn held(sql: &Sql) -> Result<(bool, GtidSet), Error> {
    const DEADLINE: Duration = Duration::from_secs(5);
    let mut conn = sql.connect(DEADLINE).await?;
    // The retrieved sets first: a transaction that is applied in between is then in both sets, not in none.
    let received = "SELECT RECEIVED_TRANSACTION_SET FROM performance_schema.replication_connection_status";
    let mut sets: Vec<String> = all(&mut conn, DEADLINE, received).await?;
    let state = "SELECT @@GLOBAL.super_read_only, @@GLOBAL.gtid_executed";
    let (fenced, executed) = only::<(bool, String)>(&mut conn, DEADLINE, state).await?;
    sets.push(executed);
    let sets = sets.iter().map(|set| set.parse::<GtidSet>());
    let held = sets.collect::<Result<Vec<_>, _>>()?;
    Ok((fenced, GtidSet::union_all(&held)))
}

/// Fences the server, see [`statements::fence`]. `deadline` is for the connection.
///
/// # Errors
/// When no connection is made within `deadline`, or when a statement fails or gets no answer within its own deadline. After a statement without an
/// answer the server may still become fenced.
pub async fn fence(sql: &Sql, deadline: Duration) -> anyhow::Result<()> {
    let mut conn = sql.connect(deadline).await?;
    Ok(statements::fence(&mut conn).await?)
}

/// The first row of a query.
///
/// # Errors
/// [`Error::Mysql`] when mysqld refuses the query, [`Error::Deadline`] when it does not answer in time.
pub async fn first<T>(conn: &mut Conn, deadline: Duration, query: &str) -> Result<Option<T>, Error>
where
    T: mysql_async::prelude::FromRow + Send + 'static,
{
    within(deadline, conn.query_first(query)).await
}

/// The row of a query that always has one.
///
/// # Errors
/// As [`first`], and [`Error::NoRow`] when the answer has no row.
pub async fn only<T>(conn: &mut Conn, deadline: Duration, query: &str) -> Result<T, Error>
where
    T: mysql_async::prelude::FromRow + Send + 'static,
{
    let row = first(conn, deadline, query).await?;
    row.ok_or_else(|| Error::NoRow(query.into()))
}

/// All rows of a query.
///
/// # Errors
/// As [`first`].
pub async fn all<T>(conn: &mut Conn, deadline: Duration, query: &str) -> Result<Vec<T>, Error>
where
    T: mysql_async::prelude::FromRow + Send + 'static,
{
    within(deadline, conn.query(query)).await
}

/// Runs a statement without rows.
///
/// # Errors
/// As [`first`].
pub async fn execute(conn: &mut Conn, deadline: Duration, statement: &str) -> Result<(), Error> {
    within(deadline, conn.query_drop(statement)).await
}

async fn within<T>(deadline: Duration, work: impl Future<Output = mysql_async::Result<T>>) -> Result<T, Error> {
    match timeout(deadline, work).await {
        Ok(result) => result.map_err(Error::Mysql),
        Err(_) => Err(Error::Deadline(deadline)),
    }
}
