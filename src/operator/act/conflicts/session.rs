//! A session of a conflict step at one member: what it changes there for as long as it lasts, and how that is changed back.

use mysql_async::Conn;

use crate::decide::conflicts::Record;
use crate::mysql::gtid::GtidSet;
use crate::mysql::io::connection::{SqlError, ask, column, gtid_set, required, run};
use crate::mysql::quote::literal;
use crate::mysql::transaction::Place;
use crate::names::{GTID_TAG, accounts, keys};
use crate::operator::act::sql::{STRICT, same_life};
use crate::operator::act::{ActError, Actor};
use crate::operator::conflict_table;
use crate::operator::members::Credentials;

/// Two sessions of root at one member: what it writes in the first is logged and tagged, in the second not logged at all.
///
/// Some of what it changes is not the session's but the server's. It is changed back by [`Session::restore`]; where that cannot be, because the
/// operator ends or the member is out of reach, the next pass sees it and decides [`crate::decide::step::Step::Restore`].
pub(super) struct Session {
    pub(super) ordinal: u8,
    pub(super) name: String,
    pub(super) uuid: String,
    pub(super) logged: Conn,
    pub(super) aside: Conn,
    /// The member was fenced; now only `read_only` is left on.
    pub(super) was_fenced: bool,
    /// `replica_exec_mode` may be IDEMPOTENT.
    lenient: bool,
    /// Channels whose appliers it has stopped.
    stopped: Vec<String>,
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

    /// Where its binary log is now.
    pub(super) async fn place(&mut self) -> Result<Place, SqlError> {
        let rows = ask(&mut self.logged, "SHOW BINARY LOG STATUS").await?;
        let place = rows
            .first()
            .and_then(|row| column(row, "File").zip(column(row, "Position")));
        place
            .map(|(file, offset)| Place { file, offset })
            .ok_or_else(|| SqlError::Outdated("SHOW BINARY LOG STATUS returned no row".into()))
    }

    /// The record as it stands there.
    pub(super) async fn record(&mut self, observer: &str, gtid: &str) -> Result<Option<Record>, SqlError> {
        conflict_table::find(&mut self.logged, observer, gtid).await
    }

    pub(super) async fn update(&mut self, record: &Record) -> Result<(), SqlError> {
        conflict_table::update(&mut self.logged, record).await
    }

    /// What it has executed.
    pub(super) async fn known(&mut self) -> Result<GtidSet, SqlError> {
        let rows = ask(&mut self.logged, "SELECT @@GLOBAL.gtid_executed AS executed").await?;
        let row = rows
            .first()
            .ok_or_else(|| SqlError::Unreadable("gtid_executed is not there".into()))?;
        gtid_set(row, "executed")
    }

    /// Lets root write at a fenced member. `read_only` stays on: clients may not.
    pub(super) async fn unfence(&mut self) -> Result<(), SqlError> {
        match self.was_fenced {
            true => run(&mut self.logged, "SET GLOBAL super_read_only = OFF").await,
            false => Ok(()),
        }
    }

    /// Stops the appliers of all channels but one: `replica_exec_mode` is the server's, not the channel's.
    pub(super) async fn stop_others(&mut self, channel: &str) -> Result<(), SqlError> {
        let running = format!(
            "SELECT CHANNEL_NAME AS channel FROM performance_schema.replication_applier_status \
             WHERE SERVICE_STATE = 'ON' AND CHANNEL_NAME <> {}",
            literal(channel)
        );
        for row in ask(&mut self.logged, &running).await? {
            let other: String = required(&row, "channel")?;
            let stop = format!("STOP REPLICA SQL_THREAD FOR CHANNEL {}", literal(&other));
            self.stopped.push(other);
            run(&mut self.logged, &stop).await?;
        }
        Ok(())
    }

    /// From now on the applier that is started overwrites what is in the way of its rows.
    pub(super) async fn be_lenient(&mut self) -> Result<(), SqlError> {
        self.lenient = true;
        run(&mut self.logged, "SET GLOBAL replica_exec_mode = IDEMPOTENT").await
    }

    /// Appliers stop at conflicts again, and those that were stopped go on.
    pub(super) async fn be_strict(&mut self) -> Result<(), SqlError> {
        if self.lenient {
            run(&mut self.logged, STRICT).await?;
            self.lenient = false;
        }
        while let Some(channel) = self.stopped.last() {
            let start = format!("START REPLICA SQL_THREAD FOR CHANNEL {}", literal(channel));
            run(&mut self.logged, &start).await?;
            self.stopped.pop();
        }
        Ok(())
    }

    /// The member is as it was before the session.
    pub(super) async fn restore(&mut self) -> Result<(), SqlError> {
        let strict = self.be_strict().await;
        let fenced = match self.was_fenced {
            true => run(&mut self.logged, "SET GLOBAL super_read_only = ON").await,
            false => Ok(()),
        };
        both(strict, fenced)
    }
}

impl Actor<'_> {
    /// Does something in a session, and leaves the member as it was, whatever comes of it.
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

    /// Opens a session, which changes nothing yet.
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
            lenient: false,
            stopped: Vec::new(),
        })
    }

    /// As [`Session::restore`], after a statement without an answer: it may still be carried out, and must not be after this.
    pub(super) async fn leave_in_doubt(&self, mut at: Session) -> Result<(), SqlError> {
        let doubted = [at.logged.id(), at.aside.id()];
        at.logged = self.connect(at.ordinal).await.map_err(cause)?;
        for id in doubted {
            kill(&mut at.logged, id).await?;
        }
        at.restore().await
    }

    /// As root, who may read and write what the operator's own account may not.
    pub(super) async fn connect(&self, ordinal: u8) -> Result<Conn, ActError> {
        let credentials: &Credentials = self.credentials.ok_or_else(|| ActError::Gone(self.name(ordinal)))?;
        let client = self.client(ordinal).await?;
        let conn = client.connect_as(accounts::ROOT, credentials.get(keys::ROOT)).await;
        conn.map_err(|source| self.failed(ordinal, source))
    }

    pub(super) fn failed(&self, ordinal: u8, source: SqlError) -> ActError {
        ActError::Sql {
            member: self.name(ordinal),
            source,
        }
    }
}

/// What a member's server said, of an error that is not known to be that.
pub(super) fn cause(error: ActError) -> SqlError {
    match error {
        ActError::Sql { source, .. } => source,
        other => {
            tracing::warn!(error = %other, "there is no connection for a conflict step");
            SqlError::NotConnected
        }
    }
}

/// The first of two errors. The second is logged: it came on top.
pub(super) fn both(first: Result<(), SqlError>, second: Result<(), SqlError>) -> Result<(), SqlError> {
    if let (Err(_), Err(error)) = (&first, &second) {
        tracing::warn!(%error, "a conflict step that failed could not be ended in order either");
    }
    first.and(second)
}

async fn kill(conn: &mut Conn, id: u32) -> Result<(), SqlError> {
    match run(conn, &format!("KILL {id}")).await {
        // 1094: it ended by itself.
        Err(SqlError::Mysql(mysql_async::Error::Server(error))) if error.code == 1094 => Ok(()),
        killed => killed,
    }
}

/// Makes the sessions what [`Session`] says of them. Answers whether the member is fenced.
async fn prepare(logged: &mut Conn, aside: &mut Conn, uuid: &str) -> Result<bool, SqlError> {
    same_life(logged, uuid).await?;
    // As a session that takes what it is given: zero dates, zeros in AUTO_INCREMENT columns, children before parents.
    let common = "SET SESSION sql_mode = 'NO_AUTO_VALUE_ON_ZERO', time_zone = '+00:00', foreign_key_checks = 0, \
         innodb_lock_wait_timeout = 3, lock_wait_timeout = 3, transaction_isolation = 'READ-COMMITTED'";
    run(logged, common).await?;
    run(aside, common).await?;
    run(aside, "SET SESSION sql_log_bin = 0").await?;
    run(logged, &format!("SET SESSION gtid_next = 'AUTOMATIC:{GTID_TAG}'")).await?;
    let fenced = ask(logged, "SELECT @@super_read_only AS fenced").await?;
    let fenced = fenced.first().map(|row| required::<bool>(row, "fenced")).transpose()?;
    // Of a member that does not say, nothing would be set back.
    fenced.ok_or_else(|| SqlError::Unreadable("super_read_only is not there".into()))
}
