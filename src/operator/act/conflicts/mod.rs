//! Conflicts carried out: examined and recorded, taken, re-asserted, compared. `docs/ring.md`, "Conflicts".

mod by_hand;
mod examine;
mod references;
mod rows;
mod session;
mod take;

use jiff::Timestamp;

use crate::decide::conflicts::{self, ConflictingRow, Record, Stage};
use crate::decide::observed::{Channel, Member};
use crate::decide::step::Remedy;
use crate::mysql::io::connection::{SqlError, run};
use crate::mysql::quote::literal;
use crate::mysql::transaction::Place;
use crate::names;
use crate::operator::conflict_table::{self, Circumstances};

use super::{ActError, Actor};
use session::{Session, both, cause};

impl Actor<'_> {
    /// Record the conflict at which an applier stopped.
    pub(super) async fn examine(&self, ordinal: u8, uuid: &str, upstream: u8, gtid: &str) -> Result<(), ActError> {
        let record = async |at: &mut Session| self.record(at, ordinal, upstream, gtid).await;
        self.in_session(ordinal, uuid, record).await
    }

    async fn record(&self, at: &mut Session, ordinal: u8, upstream: u8, gtid: &str) -> Result<(), SqlError> {
        let channel = self.stopped_channel(ordinal, upstream)?;
        let mut finding = self.look(at, channel, upstream, gtid).await?;
        if finding.rows.is_empty() && !finding.identical {
            let why = "no row was found that is in its way";
            finding.for_a_person.get_or_insert_with(|| why.into());
        }
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
        conflict_table::insert(&mut at.logged, &record, &circumstances).await
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
        let get_past = async |at: &mut Session| self.get_past(at, ordinal, upstream, gtid, remedy, winner).await;
        self.in_session(ordinal, uuid, get_past).await
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
        // Of its own it makes no record; nothing else is taken without one.
        if record.is_none() && !conflicts::is_ours(gtid) {
            return Err(SqlError::Outdated(format!("the record of {gtid} is gone")));
        }
        let mut tables = Vec::new();
        if let Some(record) = &mut record {
            if remedy != Remedy::Skip {
                // Clients have gone on writing since it was recorded, perhaps by an operator that took what this one does not take.
                let finding = self.look(at, channel, upstream, gtid).await?;
                if let Some(why) = finding.for_a_person {
                    if !finding.rows.is_empty() {
                        record.rows = finding.rows;
                    }
                    return leave_to_a_person(at, record, why).await;
                }
                record.rows = finding.rows;
                tables = finding.tables;
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
        if remedy == Remedy::Skip {
            rows::skip(at, gtid).await?;
        } else {
            at.stop_others(&channel.name).await?;
            let taken = take::take(at, &channel.name, gtid, &tables).await;
            // Before the applier goes on: whatever comes next is to stop it again.
            let strict = at.be_strict().await;
            match (taken, &mut record) {
                (Ok(()), _) => strict?,
                // Without an answer nothing is known: it may be executed all the same.
                (Err(error), Some(record)) if !error.leaves_doubt() => {
                    let why = match error {
                        SqlError::Outdated(why) => why,
                        error => error.to_string(),
                    };
                    return both(leave_to_a_person(at, record, why).await, strict);
                }
                (Err(error), _) => return both(Err(error), strict),
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
        let note = async |at: &mut Session| {
            let record = at.record(uuid, gtid).await?;
            let mut record = record.ok_or_else(|| SqlError::Outdated(format!("the record of {gtid} is gone")))?;
            record.winner = winner;
            record.for_a_person = None;
            self.taken(at, &mut record).await
        };
        self.in_session(ordinal, uuid, note).await
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
        let mut done = async {
            for session in &mut sessions {
                session.unfence().await?;
            }
            self.compare_or_reassert(&mut sessions, (ordinal, uuid), conflicts, reassert)
                .await
        }
        .await;
        // Which of them has no answer to give is not known.
        let doubt = done.as_ref().is_err_and(SqlError::leaves_doubt);
        for mut session in sessions {
            let left = match doubt {
                true => self.leave_in_doubt(session).await,
                false => session.restore().await,
            };
            done = both(done, left);
        }
        done.map_err(|source| self.failed(ordinal, source))
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
        // A row that is not there is asserted by nothing: its DELETE would be logged nowhere.
        let asserts = !late.is_empty()
            || (0..images[at].len())
                .any(|row| images[at][row].is_some() && images.iter().any(|it| it[row] != images[at][row]));
        let at = &mut sessions[at];
        if reassert && asserts {
            return rows::reassert(self, at, ordinal, &records).await;
        }
        let why = match reassert {
            true => format!(
                "it was mended by hand, and a row is not there at {}, which wins, while other members have it: insert or delete it where that is \
                 wrong, with sql_log_bin = 0 and foreign_key_checks = 0",
                at.name
            ),
            false => "it was mended by hand, and the rows are not equal on all members".into(),
        };
        for record in &mut records {
            if record.for_a_person.as_ref() != Some(&why) {
                record.for_a_person = Some(why.clone());
                at.update(record).await?;
            }
        }
        Ok(())
    }

    fn stopped_channel(&self, ordinal: u8, upstream: u8) -> Result<&Channel, SqlError> {
        let channel = self.observed.member(ordinal).and_then(|member| member.link(upstream));
        channel.ok_or_else(|| SqlError::Outdated(format!("there is no channel {}", names::channel(upstream))))
    }

    /// What the transaction wants and what is in its way; or why nobody but a person can tell.
    async fn look(
        &self,
        at: &mut Session,
        channel: &Channel,
        upstream: u8,
        gtid: &str,
    ) -> Result<examine::Finding, SqlError> {
        let place = Place {
            file: channel.applied_file.clone(),
            offset: channel.applied_offset,
        };
        // Whoever reads a binary log has no other use of the connection.
        let log = self.connect(upstream).await.map_err(cause)?;
        let source = self.connect(upstream).await.map_err(cause)?;
        match examine::find(at, log, source, (&channel.name, &place), gtid).await {
            // A log that is gone, a table that is not there: the next look would find the same.
            Err(error) if is_final(&error) => Ok(examine::Finding::for_a_person(error.to_string())),
            finding => finding,
        }
    }
}

/// The record says why nothing is done about the transaction, and nothing is.
async fn leave_to_a_person(at: &mut Session, record: &mut Record, why: String) -> Result<(), SqlError> {
    record.stage = Stage::Waiting;
    record.for_a_person = Some(why.clone());
    at.update(record).await?;
    Err(SqlError::Outdated(why))
}

/// No later look would find anything else. 1049, 1146: no such schema, no such table; 1236: the binary log is gone.
fn is_final(error: &SqlError) -> bool {
    match error {
        SqlError::Outdated(_) => true,
        SqlError::Mysql(mysql_async::Error::Server(error)) => matches!(error.code, 1049 | 1146 | 1236),
        _ => false,
    }
}
