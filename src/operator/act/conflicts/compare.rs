//! Compares the rows of a conflict on all members of the ring.

use std::collections::HashSet;

use crate::decide::conflicts::{self, ConflictingRow, Outcome, Record, Sides, Stage};
use crate::decide::observed::Member;
use crate::decide::roles::Roles;
use crate::mysql::io::connection::SqlError;
use crate::operator::act::{ActError, Actor};

use super::children;
use super::located::forget;
use super::reason;
use super::rows;
use super::session::{Session, both, in_step, is_final};

impl Actor<'_> {
    /// Compares rows on all members of the ring. Settles the conflicts if the rows are equal, else re-asserts this member's rows.
    pub(in crate::operator::act) async fn compare_rows(
        &self,
        ordinal: u8,
        uuid: &str,
        conflicts: &[(String, String)],
        reassert: bool,
    ) -> Result<(), ActError> {
        let mut sessions = Vec::new();
        for member in Roles::of(self.observed).ring.ordinals() {
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
        // One session got no answer; which one is not known, so all are treated alike.
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
            // The observer's record, or that of any member if the observer is not in the ring.
            let there = sessions.iter().position(|session| session.uuid == *observer);
            for session in there.map_or(0..sessions.len(), |there| there..there + 1) {
                if let Some(record) = sessions[session].record(observer, gtid).await? {
                    records.push(record);
                    break;
                }
            }
        }
        let at = sessions.iter().position(|session| session.uuid == uuid);
        let at = at.ok_or_else(|| SqlError::Outdated(format!("{uuid} is not in the ring")))?;
        in_step(sessions).await?;
        let sides = self.whole(&records);
        let rows: Vec<ConflictingRow> = records.iter().flat_map(|record| record.rows.clone()).collect();
        let why = match self
            .outcome(sessions, (at, ordinal), (&records, &sides), &rows, reassert)
            .await
        {
            Ok((Outcome::Settled, _)) => match children::differing(sessions, at, &rows).await {
                Ok(None) => return self.settle_records(sessions, &mut records, &rows).await,
                Ok(Some(why)) => why,
                Err(error) if is_final(&error) => {
                    format!("rows that reference its rows cannot be compared: {}", reason(error))
                }
                Err(error) => return Err(error),
            },
            Ok((Outcome::Reassert, differing)) => {
                match rows::reassert(self, &mut sessions[at], ordinal, (&records, &sides), Some(&differing)).await {
                    Err(error) if is_final(&error) => format!("its rows cannot be written again: {}", reason(error)),
                    done => return done,
                }
            }
            Ok((Outcome::ForAPerson(why), _)) => why,
            // A table or a binary log is gone.
            Err(error) if is_final(&error) => format!("its rows cannot be compared: {}", reason(error)),
            Err(error) => return Err(error),
        };
        for record in &mut records {
            if record.for_a_person.as_ref() != Some(&why) {
                record.for_a_person = Some(why.clone());
                sessions[at].update(record).await?;
            }
        }
        Ok(())
    }

    /// These records and all others that are one conflict with them: who wrote late is known by all of them.
    fn whole(&self, records: &[Record]) -> Vec<Record> {
        let all = Sides::of(self.observed);
        let mut whole = records.to_vec();
        for other in records.first().map_or_else(Vec::new, |record| all.whole(record)) {
            if whole.iter().all(|record| record.name() != other.name()) {
                whole.push(other.clone());
            }
        }
        whole
    }

    /// Reads the rows on all members: what follows, and the ids of the rows that differ.
    async fn outcome(
        &self,
        sessions: &mut [Session],
        (at, ordinal): (usize, u8),
        (records, sides): (&[Record], &[Record]),
        rows: &[ConflictingRow],
        reassert: bool,
    ) -> Result<(Outcome, HashSet<String>), SqlError> {
        let (mut images, mut ids) = (Vec::new(), Vec::new());
        for session in sessions.iter_mut() {
            let (its_ids, its_images): (Vec<_>, Vec<_>) = rows::images(session, rows).await?.into_iter().unzip();
            images.push(its_images);
            ids = its_ids;
        }
        let differs = |(row, _): &(usize, String)| images.windows(2).any(|two| two[0].get(*row) != two[1].get(*row));
        let differing = ids.into_iter().enumerate().filter(differs).map(|(_, id)| id).collect();
        let late = match reassert {
            true => rows::overwritten(self, &mut sessions[at], ordinal, (records, sides)).await?,
            false => Vec::new(),
        };
        let name = &sessions[at].name;
        Ok((
            conflicts::outcome(&images, (at, name), reassert, !late.is_empty()),
            differing,
        ))
    }
}

impl Actor<'_> {
    /// Settles a record without a comparison, because a person says so.
    pub(in crate::operator::act) async fn note_settled(
        &self,
        (ordinal, uuid): (u8, &str),
        (observer, gtid): (&str, &str),
    ) -> Result<(), ActError> {
        let settle = async |at: &mut Session| {
            let record = at.record(observer, gtid).await?;
            let record = record.filter(|record| record.stage == Stage::Taken);
            let record = record.ok_or_else(|| SqlError::Outdated(format!("no record of {gtid} is taken")))?;
            let rows = record.rows.clone();
            self.settle_records(std::slice::from_mut(at), &mut [record], &rows)
                .await
        };
        self.in_session(ordinal, uuid, settle).await
    }

    /// The rows are equal on all members: the copies go, and each record is settled at its own observer, if that is in the ring. A copy that another
    /// open conflict needs stays.
    async fn settle_records(
        &self,
        sessions: &mut [Session],
        records: &mut [Record],
        rows: &[ConflictingRow],
    ) -> Result<(), SqlError> {
        let sides = Sides::of(self.observed);
        let is_other = |other: &&Record| records.iter().all(|record| record.name() != other.name());
        let others: Vec<&Record> = sides.open().filter(is_other).collect();
        for session in sessions.iter_mut() {
            // A copy serves the records of its own member.
            let own = others.iter().filter(|record| record.observer == session.uuid);
            let needed: HashSet<&str> = own.flat_map(|record| &record.rows).map(|row| row.id.as_str()).collect();
            let rows = rows.iter().filter(|row| !needed.contains(row.id.as_str()));
            let rows: Vec<ConflictingRow> = rows.cloned().collect();
            forget(session, &rows).await?;
        }
        for record in records {
            record.stage = Stage::Settled;
            record.for_a_person = None;
            let observer = sessions.iter().position(|session| session.uuid == record.observer);
            let Some(session) = sessions.get_mut(observer.unwrap_or(0)) else {
                continue;
            };
            session.update(record).await?;
            session.prune().await?;
        }
        Ok(())
    }
}
