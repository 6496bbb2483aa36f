//! Conflicts carried out: examined and recorded, taken, re-asserted, compared. `docs/ring.md`, "Conflicts".

mod examine;
mod rows;

use std::time::{Duration, Instant};

use jiff::Timestamp;
use mysql_async::Conn;

use crate::conflict_table::{self, Circumstances};
use crate::decide::conflicts::{self, ConflictingRow, Record, Stage};
use crate::decide::observed::{Channel, Member};
use crate::decide::step::Remedy;
use crate::members::Credentials;
use crate::mysql::binlog::Place;
use crate::mysql::connection::{SqlError, column, rows as query, run};
use crate::mysql::gtid::{GtidSet, ParseGtidSetError};
use crate::mysql::quote::literal;
use crate::names::{self, GTID_TAG, accounts, keys};

use super::{ActError, Actor};

/// How long an applier may take for the one transaction that it is to execute.
const TAKING: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(20);
/// How every applier runs but for that one transaction.
const STRICT: &str = "SET GLOBAL replica_exec_mode = STRICT";

/// Two sessions of root at one member: what it writes in the first is logged and tagged, in the second not logged at all.
struct Session {
    name: String,
    uuid: String,
    logged: Conn,
    aside: Conn,
    was_fenced: bool,
}

impl Session {
    async fn has_executed(&mut self, gtid: &str) -> Result<bool, SqlError> {
        let sets = format!(
            "SELECT GTID_SUBSET({}, @@GLOBAL.gtid_executed) AS subset",
            literal(gtid)
        );
        let rows = query(&mut self.logged, &sets).await?;
        Ok(rows.first().and_then(|row| column::<i64>(row, "subset")) == Some(1))
    }

    /// Where its binary log is now.
    async fn place(&mut self) -> Result<Place, SqlError> {
        let rows = query(&mut self.logged, "SHOW BINARY LOG STATUS").await?;
        let place = rows
            .first()
            .and_then(|row| column(row, "File").zip(column(row, "Position")));
        place
            .map(|(file, offset)| Place { file, offset })
            .ok_or_else(|| SqlError::Outdated("SHOW BINARY LOG STATUS returned no row".into()))
    }

    /// The record as it stands there.
    async fn record(&mut self, observer: &str, gtid: &str) -> Result<Option<Record>, SqlError> {
        conflict_table::find(&mut self.logged, observer, gtid).await
    }

    async fn update(&mut self, record: &Record) -> Result<(), SqlError> {
        conflict_table::update(&mut self.logged, record).await
    }

    /// What it has executed.
    async fn known(&mut self) -> Result<GtidSet, SqlError> {
        let rows = query(&mut self.logged, "SELECT @@GLOBAL.gtid_executed AS executed").await?;
        let executed = rows.first().and_then(|row| column::<String>(row, "executed"));
        let executed = executed.ok_or_else(|| SqlError::Outdated("gtid_executed is not there".into()))?;
        executed
            .parse()
            .map_err(|error: ParseGtidSetError| SqlError::Outdated(error.to_string()))
    }

    /// A fenced member is one again, whatever happened.
    async fn close(mut self) -> Result<(), SqlError> {
        if self.was_fenced {
            run(&mut self.logged, "SET GLOBAL super_read_only = ON").await?;
        }
        Ok(())
    }
}

impl Actor<'_> {
    /// Record the conflict at which an applier stopped.
    pub(super) async fn examine(&self, ordinal: u8, uuid: &str, upstream: u8, gtid: &str) -> Result<(), ActError> {
        let mut at = self.session(ordinal, uuid).await?;
        let done = self.record(&mut at, ordinal, upstream, gtid).await;
        let closed = at.close().await;
        done.and(closed).map_err(|source| self.failed(ordinal, source))
    }

    async fn record(&self, at: &mut Session, ordinal: u8, upstream: u8, gtid: &str) -> Result<(), SqlError> {
        let channel = self.stopped_channel(ordinal, upstream)?;
        let finding = match self.find(at, channel, upstream, gtid).await {
            // A log that is gone, a table that is not there: the next look would find the same.
            Err(error) if is_final(&error) => examine::Finding::for_a_person(error.to_string()),
            finding => finding?,
        };
        let error = channel.conflict();
        let circumstances = Circumstances {
            member: at.name.clone(),
            origin: gtid
                .split(':')
                .next()
                .and_then(|uuid| conflicts::writer(self.observed, uuid))
                .map(|origin| self.name(origin)),
            error: error.map_or(0, |error| error.number),
            message: error.map_or_else(String::new, |error| error.text.clone()),
            committed: finding.committed,
        };
        let record = Record {
            observer: at.uuid.clone(),
            gtid: gtid.into(),
            seen: Timestamp::now(),
            stage: if finding.identical {
                Stage::Identical
            } else {
                Stage::Waiting
            },
            rows: finding.rows,
            for_a_person: finding.for_a_person,
            winner: None,
            known: at.known().await?,
            kept: None,
        };
        conflict_table::insert(&mut at.logged, &record, &circumstances).await?;
        at.update(&record).await
    }

    /// Get the applier past the transaction.
    pub(super) async fn settle(
        &self,
        (ordinal, uuid): (u8, &str),
        upstream: u8,
        gtid: &str,
        remedy: Remedy,
        winner: Option<u8>,
    ) -> Result<(), ActError> {
        let mut at = self.session(ordinal, uuid).await?;
        let done = self.get_past(&mut at, ordinal, upstream, gtid, remedy, winner).await;
        let strict = run(&mut at.logged, STRICT).await;
        let closed = at.close().await;
        done.and(strict)
            .and(closed)
            .map_err(|source| self.failed(ordinal, source))
    }

    async fn get_past(
        &self,
        at: &mut Session,
        ordinal: u8,
        upstream: u8,
        gtid: &str,
        remedy: Remedy,
        winner: Option<u8>,
    ) -> Result<(), SqlError> {
        let channel = self.stopped_channel(ordinal, upstream)?;
        let uuid = at.uuid.clone();
        let mut record = at.record(&uuid, gtid).await?;
        if let Some(record) = &mut record {
            if remedy != Remedy::Skip {
                // Clients have gone on writing since it was recorded.
                record.rows = self.find(at, channel, upstream, gtid).await?.rows;
                for other in conflicts::group(self.observed, &record.clone()) {
                    rows::add(at, &mut record.rows, &other.rows).await?;
                }
                record.kept = Some(at.place().await?);
                rows::copy_aside(at, &record.rows).await?;
            }
            record.stage = Stage::Settling;
            record.winner = winner;
            at.update(record).await?;
        }
        match remedy {
            Remedy::Skip => rows::skip(at, gtid).await?,
            Remedy::Take | Remedy::Keep => {
                if let Err(error) = take(at, &channel.name, gtid).await {
                    if let Some(record) = &mut record {
                        record.stage = Stage::Waiting;
                        record.for_a_person = Some(error.to_string());
                        at.update(record).await?;
                    }
                    return Err(error);
                }
            }
        }
        if let Some(record) = &mut record {
            if remedy == Remedy::Keep {
                rows::reassert(self, at, ordinal, std::slice::from_ref(record)).await?;
            }
            self.taken(at, record).await?;
        }
        run(
            &mut at.logged,
            &format!("START REPLICA SQL_THREAD FOR CHANNEL {}", literal(&channel.name)),
        )
        .await
    }

    async fn taken(&self, at: &mut Session, record: &mut Record) -> Result<(), SqlError> {
        // Without rows there is nothing to compare.
        record.stage = if record.rows.is_empty() {
            Stage::Settled
        } else {
            Stage::Taken
        };
        record.known = record.known.union(&at.known().await?);
        at.update(record).await
    }

    /// Record that the transaction is executed.
    pub(super) async fn note_taken(
        &self,
        ordinal: u8,
        uuid: &str,
        gtid: &str,
        winner: Option<u8>,
    ) -> Result<(), ActError> {
        let mut at = self.session(ordinal, uuid).await?;
        let done = async {
            run(&mut at.logged, STRICT).await?;
            let record = at.record(uuid, gtid).await?;
            let mut record = record.ok_or_else(|| SqlError::Outdated(format!("the record of {gtid} is gone")))?;
            record.winner = winner;
            record.for_a_person = None;
            self.taken(&mut at, &mut record).await
        }
        .await;
        let closed = at.close().await;
        done.and(closed).map_err(|source| self.failed(ordinal, source))
    }

    /// Compare rows on all members of the ring; settle them, or re-assert what is at this one.
    pub(super) async fn compare_rows(
        &self,
        ordinal: u8,
        uuid: &str,
        conflicts: &[(String, String)],
        reassert: bool,
    ) -> Result<(), ActError> {
        let mut sessions = Vec::new();
        for member in self.observed.ring().ordinals() {
            let server = self.observed.member(member).and_then(Member::server);
            let server = server.ok_or_else(|| ActError::Gone(self.name(member)))?;
            sessions.push(self.session(member, &server.uuid).await?);
        }
        let done = self
            .compare_or_reassert(&mut sessions, (ordinal, uuid), conflicts, reassert)
            .await;
        let mut closed = Ok(());
        for session in sessions {
            closed = closed.and(session.close().await);
        }
        done.and(closed).map_err(|source| self.failed(ordinal, source))
    }

    async fn compare_or_reassert(
        &self,
        sessions: &mut [Session],
        (ordinal, uuid): (u8, &str),
        conflicts: &[(String, String)],
        reassert: bool,
    ) -> Result<(), SqlError> {
        let mut records = Vec::new();
        for (observer, gtid) in conflicts {
            // As its observer has it, or else anybody.
            let there = sessions.iter().position(|session| session.uuid == *observer);
            for place in there.map_or(0..sessions.len(), |there| there..there + 1) {
                if let Some(record) = sessions[place].record(observer, gtid).await? {
                    records.push(record);
                    break;
                }
            }
        }
        let rows: Vec<ConflictingRow> = records.iter().flat_map(|record| record.rows.clone()).collect();
        let mut images = Vec::new();
        for session in sessions.iter_mut() {
            images.push(rows::images(session, &rows).await?);
        }
        let at = sessions.iter().position(|session| session.uuid == uuid);
        let at = at.ok_or_else(|| SqlError::Outdated(format!("{uuid} is not in the ring")))?;
        let late = match reassert {
            true => rows::overwritten(self, &mut sessions[at], ordinal, &records).await?,
            false => Vec::new(),
        };
        if late.is_empty() && images.windows(2).all(|two| two[0] == two[1]) {
            for session in sessions.iter_mut() {
                rows::forget(session, &rows).await?;
            }
            for record in &mut records {
                record.stage = Stage::Settled;
                record.for_a_person = None;
                let there = sessions
                    .iter_mut()
                    .position(|session| session.uuid == record.observer)
                    .unwrap_or(0);
                sessions[there].update(record).await?;
                conflict_table::prune(&mut sessions[there].logged).await?;
            }
            return Ok(());
        }
        let at = &mut sessions[at];
        if reassert {
            return rows::reassert(self, at, ordinal, &records).await;
        }
        for record in &mut records {
            record.for_a_person = Some("it was mended by hand, and the rows are not equal on all members".into());
            at.update(record).await?;
        }
        Ok(())
    }

    fn stopped_channel(&self, ordinal: u8, upstream: u8) -> Result<&Channel, SqlError> {
        let channel = self.observed.member(ordinal).and_then(|member| member.link(upstream));
        channel.ok_or_else(|| SqlError::Outdated(format!("there is no channel {}", names::channel(upstream))))
    }

    async fn find(
        &self,
        at: &mut Session,
        channel: &Channel,
        upstream: u8,
        gtid: &str,
    ) -> Result<examine::Finding, SqlError> {
        let failed = |error| match error {
            ActError::Sql { source, .. } => source,
            _ => SqlError::NotConnected,
        };
        let place = Place {
            file: channel.applied_file.clone(),
            offset: channel.applied_offset,
        };
        // Whoever reads a binary log has no other use of the connection.
        let log = self.connect(upstream).await.map_err(failed)?;
        let source = self.connect(upstream).await.map_err(failed)?;
        examine::find(at, log, source, &place, gtid).await
    }

    async fn session(&self, ordinal: u8, uuid: &str) -> Result<Session, ActError> {
        let mut logged = self.connect(ordinal).await?;
        let mut aside = self.connect(ordinal).await?;
        let was_fenced = prepare(&mut logged, &mut aside, uuid).await;
        Ok(Session {
            name: self.name(ordinal),
            uuid: uuid.into(),
            logged,
            aside,
            was_fenced: was_fenced.map_err(|source| self.failed(ordinal, source))?,
        })
    }

    /// As root, who may read and write what the operator's own account may not.
    async fn connect(&self, ordinal: u8) -> Result<Conn, ActError> {
        let credentials: &Credentials = self.credentials.ok_or_else(|| ActError::Gone(self.name(ordinal)))?;
        let client = self.client(ordinal).await?;
        let conn = client.connect_as(accounts::ROOT, credentials.get(keys::ROOT)).await;
        conn.map_err(|source| self.failed(ordinal, source))
    }

    fn failed(&self, ordinal: u8, source: SqlError) -> ActError {
        ActError::Sql {
            member: self.name(ordinal),
            source,
        }
    }
}

/// Makes the sessions what [`Session`] says of them. Answers whether the member was fenced; then only `read_only` is left on.
async fn prepare(logged: &mut Conn, aside: &mut Conn, uuid: &str) -> Result<bool, SqlError> {
    super::sql::same_life(logged, uuid).await?;
    // As a session that takes what it is given: zero dates, zeros in AUTO_INCREMENT columns, children before parents.
    let common = "SET SESSION sql_mode = 'NO_AUTO_VALUE_ON_ZERO', time_zone = '+00:00', foreign_key_checks = 0, \
         innodb_lock_wait_timeout = 3, lock_wait_timeout = 3, transaction_isolation = 'READ-COMMITTED'";
    run(logged, common).await?;
    run(aside, common).await?;
    run(aside, "SET SESSION sql_log_bin = 0").await?;
    run(logged, &format!("SET SESSION gtid_next = 'AUTOMATIC:{GTID_TAG}'")).await?;
    let fenced = query(logged, "SELECT @@super_read_only AS fenced").await?;
    let was_fenced = fenced.first().and_then(|row| column::<i64>(row, "fenced")) == Some(1);
    if was_fenced {
        // read_only stays on: no client may write, and root may.
        run(logged, "SET GLOBAL super_read_only = OFF").await?;
    }
    Ok(was_fenced)
}

/// No later look would find anything else. 1049, 1146: no such schema, no such table; 1236: the binary log is gone.
fn is_final(error: &SqlError) -> bool {
    match error {
        SqlError::Outdated(_) => true,
        SqlError::Mysql(mysql_async::Error::Server(error)) => matches!(error.code, 1049 | 1146 | 1236),
        _ => false,
    }
}

/// The applier executes exactly this transaction, and what is in the way of its rows is overwritten.
async fn take(at: &mut Session, channel: &str, gtid: &str) -> Result<(), SqlError> {
    run(&mut at.logged, "SET GLOBAL replica_exec_mode = IDEMPOTENT").await?;
    let taken = take_one(at, channel, gtid).await;
    // Before the applier goes on: whatever comes next is to stop it again.
    taken.and(run(&mut at.logged, STRICT).await)
}

async fn take_one(at: &mut Session, channel: &str, gtid: &str) -> Result<(), SqlError> {
    let start = format!(
        "START REPLICA SQL_THREAD UNTIL SQL_AFTER_GTIDS = {} FOR CHANNEL {}",
        literal(gtid),
        literal(channel)
    );
    run(&mut at.logged, &start).await?;
    let state = format!(
        "SELECT SERVICE_STATE AS state, (SELECT MAX(LAST_ERROR_MESSAGE) FROM performance_schema.replication_applier_status_by_worker \
         WHERE CHANNEL_NAME = {channel} AND LAST_ERROR_NUMBER <> 0) AS error \
         FROM performance_schema.replication_applier_status WHERE CHANNEL_NAME = {channel}",
        channel = literal(channel)
    );
    let end = Instant::now() + TAKING;
    while Instant::now() < end {
        let rows = query(&mut at.logged, &state).await?;
        let row = rows.first();
        if row.and_then(|row| column::<String>(row, "state")).as_deref() == Some("OFF") {
            return match at.has_executed(gtid).await? {
                true => Ok(()),
                false => Err(SqlError::Outdated(
                    row.and_then(|row| column(row, "error"))
                        .unwrap_or_else(|| format!("the applier did not execute {gtid}")),
                )),
            };
        }
        tokio::time::sleep(POLL).await;
    }
    Err(SqlError::Deadline(TAKING))
}
