//! Carries out the steps of a conflict: examine and record, take, re-assert, compare. `docs/ring.md`, "Conflicts".

mod account;
mod children;
mod compare;
mod examine;
mod finding;
mod history;
mod image;
mod located;
mod rows;
mod session;
mod statement;
mod take;

use jiff::Timestamp;

use crate::decide::conflicts::record::writer_of;
use crate::decide::conflicts::{self, Record, Sides, Stage};
use crate::decide::observed::Channel;
use crate::decide::ring::long_sets;
use crate::decide::step::Remedy;
use crate::mysql::errors;
use crate::mysql::gtid::GtidSet;
use crate::mysql::io::connection::{SqlError, run, shortened};
use crate::mysql::quote::literal;
use crate::mysql::transaction::BinlogPosition;
use crate::names::{self, SCHEMA};
use crate::operator::conflict_table::Circumstances;

use super::{ActError, Actor};
use finding::Finding;
use session::{Session, alike, cause, is_final};

impl Actor<'_> {
    /// Records the conflict at which an applier stopped, or what became of its record's reason for a person. If nothing is in the way of the
    /// transaction any more, it is taken instead.
    pub(super) async fn examine(&self, ordinal: u8, uuid: &str, upstream: u8, gtid: &str) -> Result<(), ActError> {
        let record = async |at: &mut Session| self.record(at, ordinal, upstream, gtid).await;
        self.in_session(ordinal, uuid, record).await
    }

    async fn record(&self, at: &mut Session, ordinal: u8, upstream: u8, gtid: &str) -> Result<(), SqlError> {
        let channel = self.stopped_channel(ordinal, upstream)?;
        let observer = at.uuid.clone();
        let earlier = at.record(&observer, gtid).await?;
        let mut finding = self.examine_transaction(at, channel, upstream, gtid).await?;
        if finding.rows.is_empty() && finding.for_a_person.is_none() && !finding.identical {
            // What was in its way has made way: the rows of a transaction that another worker of the applier had not committed yet, for example.
            match take::take(at, &finding.transaction, Some((&[], &[]))).await {
                Ok(()) => {
                    if let Some(mut record) = earlier {
                        record.for_a_person = None;
                        self.taken(at, &mut record).await?;
                    }
                    return start_applier(at, channel).await;
                }
                Err(error) if is_undecided(&error) => return Err(error),
                Err(error) => {
                    let why = format!("no row was found that is in its way, and it fails: {error}");
                    finding.for_a_person = Some(why);
                }
            }
        }
        match earlier {
            None => self.insert(at, channel, gtid, &finding, None).await,
            Some(mut record) => match record.examined(finding.rows, finding.for_a_person, finding.identical) {
                true => at.update(&record).await,
                false => Ok(()),
            },
        }
    }

    /// Inserts the record of a transaction that was examined.
    async fn insert(
        &self,
        at: &mut Session,
        channel: &Channel,
        gtid: &str,
        finding: &Finding,
        winner: Option<u8>,
    ) -> Result<(), SqlError> {
        let error = channel.conflict();
        let circumstances = Circumstances {
            member: at.name.clone(),
            origin: conflicts::writer(self.observed, writer_of(gtid)).map(|origin| self.name(origin)),
            error: error.map_or(0, |error| error.number),
            message: error.map_or_else(String::new, |error| error.text.clone()),
            committed: finding.transaction.committed,
        };
        let mut record = Record {
            observer: at.uuid.clone(),
            gtid: gtid.into(),
            seen: Timestamp::now(),
            stage: Stage::Waiting,
            rows: Vec::new(),
            for_a_person: None,
            winner,
            known: long_sets::of_writers(at.known().await?, self.observed),
            kept: None,
        };
        record.examined(finding.rows.clone(), finding.for_a_person.clone(), finding.identical);
        at.insert(&record, &circumstances).await
    }

    /// Gets the applier past the transaction.
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
        let is_ours = conflicts::is_ours(gtid);
        if record.is_none() && !is_ours {
            return Err(SqlError::Outdated(format!("the record of {gtid} is gone")));
        }
        // Clients have written since the conflict was recorded.
        let finding = self.examine_transaction(at, channel, upstream, gtid).await?;
        if let Some(why) = finding.for_a_person.clone() {
            return self.leave_to_a_person(at, channel, gtid, (record, finding), why).await;
        }
        // What was re-asserted meets no row, because a client of another member has deleted it since.
        let is_gone =
            |row: &&conflicts::ConflictingRow| row.mine.is_none() && row.theirs.is_some() && row.key.schema != SCHEMA;
        if record.is_none() && finding.rows.iter().any(|row| is_gone(&row)) {
            self.insert(at, channel, gtid, &finding, winner).await?;
            record = at.record(&uuid, gtid).await?;
        }
        let is_statement = finding.transaction.statement.is_some();
        if let (Remedy::Skip, false, Some(record)) = (remedy, finding.identical, &mut record) {
            record.examined(finding.rows, None, false);
            at.update(record).await?;
            return Err(SqlError::Interrupted(format!(
                "{gtid} is not the same on both sides any more"
            )));
        }
        let (mut taken_before, mut all) = (Vec::new(), Vec::new());
        if let Some(record) = &mut record {
            record.rows.clone_from(&finding.rows);
            if is_ours {
                // Nothing of it is copied aside: it is the winner's.
                record.rows.retain(|row| is_gone(&row));
            } else if !finding.identical {
                let sides = Sides::of(self.observed);
                let is_other = |side: &&&Record| side.observer != uuid || side.gtid != gtid;
                all.extend(sides.whole(record).iter().filter(is_other).map(|side| (*side).clone()));
                for other in conflicts::related(self.observed, &record.clone()) {
                    if other.observer == uuid && other.gtid != gtid && sides.copied_winning_rows(self.observed, other) {
                        taken_before.extend(other.rows.iter().map(|row| row.id.clone()));
                    }
                    match rows::add(at, &mut record.rows, &other.rows).await {
                        // Its table is gone.
                        Err(error) if is_final(&error) => tracing::info!(%error, "rows of another side are left out"),
                        added => added?,
                    }
                }
                if !taken_before.is_empty() {
                    // If the winner's row is right here by now, it is copied anew: its clients may have changed it since.
                    let sides = [&all[..], std::slice::from_ref(&*record)].concat();
                    match rows::overwritten(self, at, ordinal, (&all, &sides)).await {
                        Ok(late) => taken_before.retain(|id| late.contains(id)),
                        // A table or the log is gone.
                        Err(error) if is_final(&error) => tracing::info!(%error, "copies that are there stay"),
                        Err(error) => return Err(error),
                    }
                }
                record.kept = Some(at.binlog_position().await?);
            }
            record.stage = Stage::Settling;
            record.winner = winner;
            at.update(record).await?;
        }
        let taken = match (is_statement && !finding.identical, remedy) {
            _ if finding.identical => at.skip(gtid).await,
            (true, Remedy::Take) => {
                let mut source = self.connect(upstream).await.map_err(cause)?;
                alike(&mut source).await?;
                account::take(at, &mut source, gtid, &finding.rows).await
            }
            (true, _) => at.skip(gtid).await,
            (false, _) => {
                let copies = record
                    .as_ref()
                    .filter(|_| !is_ours)
                    .map(|record| (record.rows.as_slice(), taken_before.as_slice()));
                take::take(at, &finding.transaction, copies).await
            }
        };
        match taken {
            Ok(()) => {}
            Err(error) if is_undecided(&error) => return Err(error),
            Err(error) => {
                return self
                    .leave_to_a_person(at, channel, gtid, (record, finding), reason(error))
                    .await;
            }
        }
        if !at.has_executed(gtid).await? {
            return Err(SqlError::Outdated(format!("{gtid} is not executed")));
        }
        if let Some(record) = &mut record {
            if remedy == Remedy::Keep {
                all.push(record.clone());
                let own: Vec<Record> = all.iter().filter(|side| side.observer == uuid).cloned().collect();
                match rows::reassert(self, at, ordinal, (&own, &all), None).await {
                    Err(error) if is_statement && is_final(&error) => {
                        record.for_a_person = Some(format!("its password cannot be written again: {error}"));
                    }
                    done => done?,
                }
            }
            self.taken(at, record).await?;
        }
        start_applier(at, channel).await
    }

    /// Records why only a person can settle the conflict, and returns that as an error. The operator's own transactions get a record now.
    async fn leave_to_a_person(
        &self,
        at: &mut Session,
        channel: &Channel,
        gtid: &str,
        (record, mut finding): (Option<Record>, Finding),
        why: String,
    ) -> Result<(), SqlError> {
        match record {
            Some(mut record) => {
                if !finding.rows.is_empty() || finding.transaction.statement.is_some() {
                    record.rows = finding.rows;
                }
                record.stage = Stage::Waiting;
                record.for_a_person = Some(why.clone());
                at.update(&record).await?;
            }
            None => {
                finding.for_a_person = Some(why.clone());
                self.insert(at, channel, gtid, &finding, None).await?;
            }
        }
        Err(SqlError::Outdated(why))
    }

    async fn taken(&self, at: &mut Session, record: &mut Record) -> Result<(), SqlError> {
        // A record without rows has nothing to compare.
        record.stage = if record.rows.is_empty() {
            Stage::Settled
        } else {
            Stage::Taken
        };
        if conflicts::is_ours(&record.gtid) {
            // Clients go on writing the row.
            return at.update(record).await;
        }
        let known = long_sets::of_writers(at.known().await?, self.observed);
        let after = match &record.kept {
            Some(since) => match history::written_after(self, at, since, &record.gtid).await {
                // The log is gone. What was written since counts as written before.
                Err(error) if is_final(&error) => GtidSet::default(),
                after => after?,
            },
            None => GtidSet::default(),
        };
        record.known.add(&known.difference(&after));
        at.update(record).await
    }

    /// Records that the transaction is executed.
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

    fn stopped_channel(&self, ordinal: u8, upstream: u8) -> Result<&Channel, SqlError> {
        let channel = self.observed.member(ordinal).and_then(|member| member.link(upstream));
        channel.ok_or_else(|| SqlError::Outdated(format!("there is no channel {}", names::channel(upstream))))
    }

    /// Finds out what the transaction changes and what is in its way, or why only a person can settle it.
    async fn examine_transaction(
        &self,
        at: &mut Session,
        channel: &Channel,
        upstream: u8,
        gtid: &str,
    ) -> Result<Finding, SqlError> {
        let position = BinlogPosition {
            file: channel.applied_file.clone(),
            offset: channel.applied_offset,
        };
        // A connection that reads a binary log can be used for nothing else.
        let log = self.connect(upstream).await.map_err(cause)?;
        let mut source = self.connect(upstream).await.map_err(cause)?;
        alike(&mut source).await?;
        let error = channel.conflict().map_or(0, |error| error.number);
        let (source, at_position) = ((self.name(upstream), source), (&position, error));
        let mut finding = match examine::find(at, log, (&source.0, source.1), at_position, gtid).await {
            // A log that is gone, a table that does not exist: the next attempt would find the same.
            Err(error) if is_final(&error) => Finding::for_a_person(reason(error)),
            finding => finding?,
        };
        // Without rows, a person has nothing but what MySQL says.
        if let (Some(why), true, Some(error)) = (&mut finding.for_a_person, finding.rows.is_empty(), channel.conflict())
        {
            *why = format!("{why}; MySQL says: {}", shortened(errors::gist(&error.text)));
        }
        Ok(finding)
    }
}

async fn start_applier(at: &mut Session, channel: &Channel) -> Result<(), SqlError> {
    let start = format!("START REPLICA SQL_THREAD FOR CHANNEL {}", literal(&channel.name));
    run(&mut at.logged, &start).await
}

/// Why a person has to mend it.
fn reason(error: SqlError) -> String {
    match error {
        SqlError::Outdated(why) => why,
        error => error.to_string(),
    }
}

/// Whether the next pass has to look again. After a statement without an answer the transaction may be executed all the same.
fn is_undecided(error: &SqlError) -> bool {
    error.leaves_doubt() && !is_final(error) || matches!(error, SqlError::Interrupted(_))
}
