//! A session of a conflict step at one member: the settings that it changes while it lasts, and how it sets them back.

use mysql_async::Conn;

use crate::decide::conflicts::Record;
use crate::mysql::errors;
use crate::mysql::gtid::GtidSet;
use crate::mysql::io::connection::{SqlError, ask, column, gtid_set, required, run};
use crate::mysql::quote::literal;
use crate::mysql::transaction::BinlogPosition;
use crate::names::{GTID_TAG, accounts, keys};
use crate::operator::act::sql::same_life;
use crate::operator::act::{ActError, Actor};
use crate::operator::conflict_table::{self, Circumstances};
use crate::operator::members::Credentials;

/// Seconds to wait for transactions that are in flight.
const WAIT: u8 = 2;

/// Two sessions at one member. Writes in the first are logged and tagged, writes in the second are not logged.
///
/// One setting that it changes belongs to the server, not to a session: `super_read_only`. [`Session::restore`] sets it back. If that fails,
/// because the operator ends or the member is unreachable, the next pass sees it and decides [`crate::decide::step::Action::Restore`].
pub(super) struct Session {
    pub(super) ordinal: u8,
    pub(super) name: String,
    pub(super) uuid: String,
    pub(super) logged: Conn,
    pub(super) aside: Conn,
    /// Whether the member was fenced. During the session only `read_only` is on then.
    pub(super) was_fenced: bool,
    /// See [`Observed::has_image_tables`](crate::decide::observed::Observed::has_image_tables).
    images_go_apart: bool,
}

impl Session {
    pub(super) async fn has_executed(&mut self, gtid: &str) -> Result<bool, SqlError> {
        let sets = format!(
            "SELECT GTID_SUBSET({}, @@GLOBAL.gtid_executed) AS subset",
            literal(gtid)
        );
        let rows = ask(&mut self.logged, &sets).await?;
        Ok(rows.first().and_then(|row| column::<i64>(row, "subset")) == Some(1))
    }

    /// The present end of its binary log.
    pub(super) async fn binlog_position(&mut self) -> Result<BinlogPosition, SqlError> {
        let rows = ask(&mut self.logged, "SHOW BINARY LOG STATUS").await?;
        let position = rows
            .first()
            .and_then(|row| column(row, "File").zip(column(row, "Position")));
        position
            .map(|(file, offset)| BinlogPosition { file, offset })
            .ok_or_else(|| SqlError::Outdated("SHOW BINARY LOG STATUS returned no row".into()))
    }

    /// The record at this member.
    pub(super) async fn record(&mut self, observer: &str, gtid: &str) -> Result<Option<Record>, SqlError> {
        conflict_table::find(&mut self.logged, observer, gtid).await
    }

    pub(super) async fn update(&mut self, record: &Record) -> Result<(), SqlError> {
        conflict_table::update(&mut self.logged, record, self.images_go_apart).await
    }

    pub(super) async fn prune(&mut self) -> Result<(), SqlError> {
        conflict_table::prune(&mut self.logged, self.images_go_apart).await
    }

    pub(super) async fn insert(&mut self, record: &Record, circumstances: &Circumstances) -> Result<(), SqlError> {
        conflict_table::insert(&mut self.logged, record, circumstances, self.images_go_apart).await
    }

    /// `gtid_executed` of the member.
    pub(super) async fn known(&mut self) -> Result<GtidSet, SqlError> {
        let rows = ask(&mut self.logged, "SELECT @@GLOBAL.gtid_executed AS executed").await?;
        let row = rows
            .first()
            .ok_or_else(|| SqlError::Unreadable("gtid_executed is not there".into()))?;
        gtid_set(row, "executed")
    }

    /// Skips a transaction: commits an empty transaction with its GTID.
    pub(super) async fn skip(&mut self, gtid: &str) -> Result<(), SqlError> {
        self.under_gtid(gtid, &["BEGIN", "COMMIT"]).await
    }

    /// Carries out statements that are one transaction, under this GTID.
    pub(super) async fn under_gtid(&mut self, gtid: &str, statements: &[&str]) -> Result<(), SqlError> {
        run(&mut self.logged, &format!("SET SESSION gtid_next = {}", literal(gtid))).await?;
        let mut done = Ok(());
        for statement in statements {
            done = run(&mut self.logged, statement).await;
            if done.is_err() {
                break;
            }
        }
        if done.as_ref().is_err_and(SqlError::leaves_doubt) {
            return done;
        }
        // A statement that failed leaves the GTID with the session.
        let ended = match done.is_ok() {
            true => Ok(()),
            false => run(&mut self.logged, "ROLLBACK").await,
        };
        let ended = both(ended, self.tag().await);
        both(done, ended)
    }

    /// From now on transactions get GTIDs with the product's tag.
    pub(super) async fn tag(&mut self) -> Result<(), SqlError> {
        run(
            &mut self.logged,
            &format!("SET SESSION gtid_next = 'AUTOMATIC:{GTID_TAG}'"),
        )
        .await
    }

    /// Waits until the member has executed all of a set, for a few seconds.
    pub(super) async fn wait_for(&mut self, set: &GtidSet) -> Result<(), SqlError> {
        let wait = format!(
            "SELECT WAIT_FOR_EXECUTED_GTID_SET({}, {WAIT}) AS late",
            literal(&set.to_string())
        );
        let rows = ask(&mut self.aside, &wait).await?;
        let late: i64 = rows.first().map_or(Ok(1), |row| required(row, "late"))?;
        match late {
            0 => Ok(()),
            _ => Err(SqlError::Interrupted(format!(
                "{} has not executed yet what other members have",
                self.name
            ))),
        }
    }

    /// Lets the session write at a fenced member. `read_only` stays on and keeps clients out.
    pub(super) async fn unfence(&mut self) -> Result<(), SqlError> {
        match self.was_fenced {
            true => run(&mut self.logged, "SET GLOBAL super_read_only = OFF").await,
            false => Ok(()),
        }
    }

    /// Sets the member back to what it was before the session.
    pub(super) async fn restore(&mut self) -> Result<(), SqlError> {
        match self.was_fenced {
            true => run(&mut self.logged, "SET GLOBAL super_read_only = ON").await,
            false => Ok(()),
        }
    }
}

impl Actor<'_> {
    /// Does something in a session. Sets the member back afterwards, whether the work succeeded or failed.
    pub(super) async fn in_session(
        &self,
        ordinal: u8,
        uuid: &str,
        work: impl AsyncFnOnce(&mut Session) -> Result<(), SqlError>,
    ) -> Result<(), ActError> {
        let mut at = self.session(ordinal, uuid).await?;
        let done = match at.unfence().await {
            Ok(()) => work(&mut at).await,
            Err(error) => Err(error),
        };
        let left = match done.as_ref().is_err_and(SqlError::leaves_doubt) {
            true => self.leave_in_doubt(at).await,
            false => at.restore().await,
        };
        both(done, left).map_err(|source| self.failed(ordinal, source))
    }

    /// Opens a session. It changes nothing at the member yet.
    pub(super) async fn session(&self, ordinal: u8, uuid: &str) -> Result<Session, ActError> {
        let mut logged = self.connect(ordinal).await?;
        let mut aside = self.connect(ordinal).await?;
        let was_fenced = prepare(&mut logged, &mut aside, uuid).await;
        Ok(Session {
            ordinal,
            name: self.name(ordinal),
            uuid: uuid.into(),
            logged,
            aside,
            was_fenced: was_fenced.map_err(|source| self.failed(ordinal, source))?,
            images_go_apart: self.observed.has_image_tables(),
        })
    }

    /// As [`Session::restore`], after a statement without an answer. Its session is killed first, so that the statement is not carried out later.
    pub(super) async fn leave_in_doubt(&self, mut at: Session) -> Result<(), SqlError> {
        let doubted = [at.logged.id(), at.aside.id()];
        at.logged = self.connect(at.ordinal).await.map_err(cause)?;
        for id in doubted {
            kill(&mut at.logged, id).await?;
        }
        at.restore().await
    }

    /// A connection that may settle a conflict. An agent of an earlier version makes no account for that; root does it there.
    pub(super) async fn connect(&self, ordinal: u8) -> Result<Conn, ActError> {
        let credentials: &Credentials = self.credentials.ok_or_else(|| ActError::Gone(self.name(ordinal)))?;
        let client = self.client(ordinal).await?;
        let conn = match client
            .connect_as(accounts::SETTLER, credentials.get(keys::OPERATOR))
            .await
        {
            Err(SqlError::Mysql(error)) if is_refused(&error) => {
                tracing::info!(
                    member = self.name(ordinal),
                    account = accounts::SETTLER,
                    "no such account, so root settles the conflict"
                );
                client.connect_as(accounts::ROOT, credentials.get(keys::ROOT)).await
            }
            conn => conn,
        };
        conn.map_err(|source| self.failed(ordinal, source))
    }

    pub(super) fn failed(&self, ordinal: u8, source: SqlError) -> ActError {
        ActError::Sql {
            member: self.name(ordinal),
            source,
        }
    }
}

/// Waits until every member has executed what any of them has now. By now every member knows of the conflict. So this has all that was written
/// before its member knew, and nothing of that is still in flight when the rows are read.
pub(super) async fn in_step(sessions: &mut [Session]) -> Result<(), SqlError> {
    let mut all = GtidSet::default();
    for session in sessions.iter_mut() {
        all.add(&session.known().await?);
    }
    for session in sessions {
        session.wait_for(&all).await?;
    }
    Ok(())
}

/// The error of a member's server inside an [`ActError`]; any other error is logged and becomes [`SqlError::NotConnected`].
pub(super) fn cause(error: ActError) -> SqlError {
    match error {
        ActError::Sql { source, .. } => source,
        other => {
            tracing::warn!(error = %other, "there is no connection for a conflict step");
            SqlError::NotConnected
        }
    }
}

/// The first error of two results. If both failed, the second error is logged.
pub(super) fn both(first: Result<(), SqlError>, second: Result<(), SqlError>) -> Result<(), SqlError> {
    if let (Err(_), Err(error)) = (&first, &second) {
        tracing::warn!(%error, "the member could not be set back after a conflict step that failed");
    }
    first.and(second)
}

/// Whether a login was refused. For an account that is not there the server asks for a plugin that it picks by the name (manual, "Pluggable
/// Authentication"), so as not to say that it is not there; the driver may not know that plugin.
fn is_refused(error: &mysql_async::Error) -> bool {
    match error {
        // ER_ACCESS_DENIED_ERROR
        mysql_async::Error::Server(error) => error.code == 1045,
        mysql_async::Error::Driver(error) => matches!(error, mysql_async::DriverError::UnknownAuthPlugin { .. }),
        _ => false,
    }
}

async fn kill(conn: &mut Conn, id: u32) -> Result<(), SqlError> {
    match run(conn, &format!("KILL {id}")).await {
        // 1094: the session ended by itself.
        Err(SqlError::Mysql(mysql_async::Error::Server(error))) if error.code == 1094 => Ok(()),
        killed => killed,
    }
}

/// The settings with which two members show the same definition in the same way.
pub(super) async fn alike(conn: &mut Conn) -> Result<(), SqlError> {
    let settings = "SET SESSION sql_mode = 'NO_AUTO_VALUE_ON_ZERO', time_zone = '+00:00', lock_wait_timeout = 3, sql_quote_show_create = 1, \
         print_identified_with_as_hex = 1";
    run(conn, settings).await
}

/// Sets up both sessions, and returns whether the member is fenced.
async fn prepare(logged: &mut Conn, aside: &mut Conn, uuid: &str) -> Result<bool, SqlError> {
    same_life(logged, uuid).await?;
    // The sessions accept zero dates, zeros in AUTO_INCREMENT columns, and child rows before their parents. A row is found by an invisible unique
    // index, too.
    for conn in [&mut *logged, &mut *aside] {
        alike(conn).await?;
        let writes = "SET SESSION foreign_key_checks = 0, innodb_lock_wait_timeout = 3, transaction_isolation = 'READ-COMMITTED', \
             optimizer_switch = 'use_invisible_indexes=on'";
        run(conn, writes).await?;
    }
    run(aside, "SET SESSION sql_log_bin = 0").await?;
    run(logged, &format!("SET SESSION gtid_next = 'AUTOMATIC:{GTID_TAG}'")).await?;
    let fenced = ask(logged, "SELECT @@super_read_only AS fenced").await?;
    let fenced = fenced.first().map(|row| required::<bool>(row, "fenced")).transpose()?;
    // Without this value nothing would be set back, so it must be there.
    fenced.ok_or_else(|| SqlError::Unreadable("super_read_only is not there".into()))
}

/// Whether a later attempt would find the same: the binary log or a table is gone, or a value cannot be read, or is too long.
pub(super) fn is_final(error: &SqlError) -> bool {
    match error {
        SqlError::Outdated(_) | SqlError::Unreadable(_) | SqlError::TooLong => true,
        SqlError::Mysql(mysql_async::Error::Server(error)) => errors::is_final(error.code.into(), &error.message),
        _ => false,
    }
}
