//! What the steps of a conflict come to, one external effect after the other, as `src/operator/act/conflicts` does it. Every transaction changes one
//! row, so a record has one row. What only a person can settle is here what no binary log has any more.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use multimaster::decide::conflicts::{
    ConflictingRow, Late, Outcome, Past, Record, Sides, Stage, is_ours, outcome, related,
};
use multimaster::decide::observed::{Member, Observed};
use multimaster::decide::roles::Roles;
use multimaster::decide::step::{Action, Remedy};
use multimaster::mysql::gtid::GtidSet;
use multimaster::mysql::rows::RowKey;
use multimaster::mysql::transaction::{BinlogPosition, Cell};
use serde_json::Value;

use crate::model::disk::Data;
use crate::model::transactions::{Change, Id, Set, uuid};
use crate::operator::Effect;
use crate::world::World;

/// The row of a transaction that writes a record: no row that a client writes.
const RECORDS: u32 = u32::MAX;
/// Why an image is not taken from the binary log.
const UNKNOWN: &str = "the binary log does not tell how the row is";
/// The key of a record: observer and GTID.
type Name = (String, String);

/// One external effect of a conflict step.
#[derive(Clone, Debug, Hash)]
pub enum Part {
    Unfence,
    Examine {
        upstream: u8,
        gtid: String,
    },
    Begin {
        upstream: u8,
        gtid: String,
        winner: Option<u8>,
    },
    Take {
        upstream: u8,
        gtid: String,
    },
    Reassert {
        names: Vec<Name>,
    },
    Taken {
        gtid: String,
    },
    StartApplier {
        upstream: u8,
    },
    Note {
        gtid: String,
        winner: Option<u8>,
    },
    Compare {
        names: Vec<Name>,
        reassert: bool,
    },
    Settle {
        name: Name,
    },
    Restore,
}

/// What a step knows of its conflict from one effect to the next.
#[derive(Clone, Default)]
pub struct Work {
    record: Option<Record>,
    /// The other sides of the same conflict.
    others: Vec<Record>,
    /// A side was taken for the row here before.
    taken_before: bool,
}

impl World {
    /// The effects of a conflict step at a member.
    pub fn conflict_effects(&self, ordinal: u8, uuid: &str, action: &Action, observed: &Observed) -> Vec<Effect> {
        let all = Roles::of(observed).ring.ordinals().collect::<Vec<u8>>();
        let (at, parts) = match action {
            Action::Examine { upstream, gtid } => (
                vec![ordinal],
                vec![Part::Examine {
                    upstream: *upstream,
                    gtid: gtid.clone(),
                }],
            ),
            Action::Settle {
                upstream,
                gtid,
                remedy,
                winner,
            } => {
                let (upstream, gtid, winner) = (*upstream, gtid.clone(), *winner);
                let begin = Part::Begin {
                    upstream,
                    gtid: gtid.clone(),
                    winner,
                };
                let take = Part::Take {
                    upstream,
                    gtid: gtid.clone(),
                };
                let mut parts = vec![begin, take];
                if *remedy == Remedy::Keep {
                    let names = vec![(uuid.to_owned(), gtid.clone())];
                    parts.push(Part::Reassert { names });
                }
                parts.extend([Part::Taken { gtid }, Part::StartApplier { upstream }]);
                (vec![ordinal], parts)
            }
            Action::NoteTaken { gtid, winner } => (
                vec![ordinal],
                vec![Part::Note {
                    gtid: gtid.clone(),
                    winner: *winner,
                }],
            ),
            Action::NoteSettled { observer, gtid } => {
                let name = (observer.clone(), gtid.clone());
                (vec![ordinal], vec![Part::Settle { name }])
            }
            Action::CompareRows { conflicts, reassert } => (
                all,
                vec![Part::Compare {
                    names: conflicts.clone(),
                    reassert: *reassert,
                }],
            ),
            _ => return Vec::new(),
        };
        let of = |ordinal: u8, part: Part| Effect::Conflict { ordinal, part };
        let mut effects = vec![Effect::Fresh];
        effects.extend(at.iter().map(|at| of(*at, Part::Unfence)));
        effects.extend(parts.into_iter().map(|part| of(ordinal, part)));
        effects.extend(at.iter().map(|at| of(*at, Part::Restore)));
        effects
    }

    /// Carries one effect out. Whatever fails, the session sets the member back.
    pub fn conflict_effect(&mut self, operator: usize, ordinal: u8, part: Part) -> Result<(), String> {
        let text = format!("{part:?}");
        let done = self.carry_out(operator, ordinal, part);
        self.say(|| format!("  operator {operator} at {ordinal}: {text}: {done:?}"));
        if done.is_err() {
            for at in 0..self.setup.members {
                if self.session(operator, at).is_ok() {
                    self.members[usize::from(at)].half_fenced = false;
                }
            }
        }
        done
    }

    /// A new connection to a member, in the life that was observed.
    fn session(&self, operator: usize, ordinal: u8) -> Result<(), String> {
        let observed = self.observed(operator)?;
        let seen = observed
            .member(ordinal)
            .and_then(Member::server)
            .ok_or("it was not seen")?;
        let member = &self.members[usize::from(ordinal)];
        let pod = member.pod.as_ref().map_or(0, |pod| pod.uid);
        if !self.is_connected(operator, ordinal, pod) || !member.answers() || member.refuses {
            return Err(format!("{ordinal} does not answer"));
        }
        // Whoever begins to lead ends the sessions of an earlier leader.
        if member.sessions[operator] != Some(member.boot) {
            return Err(format!("the session with {ordinal} is gone"));
        }
        match self.data(ordinal)?.uuid {
            Some(life) if uuid(life) == seen.uuid => Ok(()),
            _ => Err("server_uuid is another one".into()),
        }
    }

    fn observed(&self, operator: usize) -> Result<Arc<Observed>, String> {
        let pass = self.operators[operator].pass.as_ref();
        Ok(pass.ok_or("no pass")?.observed.clone())
    }

    fn data(&self, ordinal: u8) -> Result<&Data, String> {
        self.members[usize::from(ordinal)]
            .data()
            .ok_or("no data directory".into())
    }

    fn data_mut(&mut self, ordinal: u8) -> Result<&mut Data, String> {
        let data = self.members[usize::from(ordinal)].disk.data.as_mut();
        data.ok_or("no data directory".into())
    }

    fn work(&mut self, operator: usize) -> &mut Work {
        let pass = self.operators[operator].pass.as_mut();
        &mut pass.expect("an effect belongs to a pass").work
    }

    fn carry_out(&mut self, operator: usize, ordinal: u8, part: Part) -> Result<(), String> {
        self.session(operator, ordinal)?;
        match part {
            Part::Unfence => {
                let member = &mut self.members[usize::from(ordinal)];
                member.half_fenced = member.super_read_only;
            }
            Part::Restore => self.members[usize::from(ordinal)].half_fenced = false,
            Part::Examine { upstream, gtid } => self.examine(operator, ordinal, upstream, &gtid)?,
            Part::Begin { upstream, gtid, winner } => {
                self.begin_settling(operator, ordinal, upstream, &gtid, winner)?
            }
            Part::Take { upstream, gtid } => self.take(operator, ordinal, upstream, &gtid)?,
            Part::Reassert { names } => {
                let work = self.work(operator).clone();
                let records = match work.record {
                    Some(record) => [work.others, vec![record]].concat(),
                    None => self.records(ordinal, &names)?,
                };
                self.reassert(operator, ordinal, &records, None)?;
            }
            Part::Taken { .. } => {
                if let Some(record) = self.work(operator).record.clone() {
                    self.note(ordinal, record)?;
                }
            }
            Part::StartApplier { upstream } => self.start_applier(ordinal, upstream)?,
            Part::Note { gtid, winner } => {
                let mut record = self.record(ordinal, &gtid)?.ok_or("the record is gone")?;
                (record.winner, record.for_a_person) = (winner, None);
                self.note(ordinal, record)?;
            }
            Part::Compare { names, reassert } => self.compare(operator, ordinal, &names, reassert)?,
            Part::Settle { name } => {
                let mut record = self.records(ordinal, &[name])?.pop().ok_or("the record is gone")?;
                (record.stage, record.for_a_person) = (Stage::Settled, None);
                self.write_record(ordinal, record)?;
            }
        }
        Ok(())
    }

    fn start_applier(&mut self, ordinal: u8, upstream: u8) -> Result<(), String> {
        let channel = self
            .data_mut(ordinal)?
            .channel(upstream)
            .ok_or("there is no such channel")?;
        channel.start_applier();
        Ok(())
    }

    fn own_uuid(&self, ordinal: u8) -> Result<String, String> {
        Ok(uuid(self.data(ordinal)?.uuid.ok_or("no server UUID")?))
    }

    /// The member's own record of a transaction.
    fn record(&self, ordinal: u8, gtid: &str) -> Result<Option<Record>, String> {
        let name = (self.own_uuid(ordinal)?, gtid.to_owned());
        Ok(self.records(ordinal, &[name])?.pop())
    }

    fn records(&self, ordinal: u8, names: &[Name]) -> Result<Vec<Record>, String> {
        let records = &self.data(ordinal)?.records;
        let numbers = names.iter().filter_map(|name| records.get(name));
        Ok(numbers.map(|number| self.ledger.records[*number].clone()).collect())
    }

    fn write_record(&mut self, ordinal: u8, record: Record) -> Result<(), String> {
        self.ledger.records.push(record);
        let change = Change::Record(self.ledger.records.len() - 1);
        let written = self.commit_as(ordinal, true, RECORDS, change);
        written.map(drop).ok_or("it could not be written".into())
    }

    /// The transaction in its upstream's binary log, in the form in which the upstream has it.
    fn find(&self, operator: usize, upstream: u8, gtid: &str) -> Result<Option<Id>, String> {
        self.session(operator, upstream)?;
        let data = self.data(upstream)?;
        let log = &data.binary_log[data.first..];
        Ok(log.iter().copied().find(|id| self.ledger.gtid(*id) == gtid))
    }

    /// The row that is in the way of a transaction.
    fn in_the_way(&self, ordinal: u8, id: Id) -> Result<Option<ConflictingRow>, String> {
        let transaction = self.ledger.transactions[id];
        let row = self.data(ordinal)?.rows.get(&transaction.row);
        let expects = transaction.change.expects();
        let json = |value: Id| Value::from(value);
        Ok(expects
            .is_some_and(|there| there != row.is_some())
            .then(|| ConflictingRow {
                id: key(transaction.row).id(),
                key: key(transaction.row),
                mine: row.copied().map(json),
                theirs: transaction.change.value().map(json),
            }))
    }

    fn examine(&mut self, operator: usize, ordinal: u8, upstream: u8, gtid: &str) -> Result<(), String> {
        let earlier = self.record(ordinal, gtid)?;
        let found = self.find(operator, upstream, gtid)?;
        let (row, why) = match found {
            Some(id) => (self.in_the_way(ordinal, id)?, None),
            None => (None, Some("the upstream's binary log does not have it".to_owned())),
        };
        if let (Some(id), None) = (found, &row) {
            self.execute_as(ordinal, id)?;
            if let Some(mut record) = earlier {
                record.for_a_person = None;
                self.note(ordinal, record)?;
            }
            return self.start_applier(ordinal, upstream);
        }
        let is_new = earlier.is_none();
        let mut record = match earlier {
            Some(record) => record,
            None => self.new_record(ordinal, gtid)?,
        };
        match record.examined(row.into_iter().collect(), why, false) || is_new {
            true => self.write_record(ordinal, record),
            false => Ok(()),
        }
    }

    fn new_record(&self, ordinal: u8, gtid: &str) -> Result<Record, String> {
        Ok(Record {
            observer: self.own_uuid(ordinal)?,
            gtid: gtid.into(),
            seen: self.time(),
            stage: Stage::Waiting,
            rows: Vec::new(),
            for_a_person: None,
            winner: None,
            known: self.data(ordinal)?.executed.gtid_set(),
            kept: None,
        })
    }

    fn begin_settling(
        &mut self,
        operator: usize,
        ordinal: u8,
        upstream: u8,
        gtid: &str,
        winner: Option<u8>,
    ) -> Result<(), String> {
        let observed = self.observed(operator)?;
        let record = self.record(ordinal, gtid)?;
        if record.is_none() && !is_ours(gtid) {
            return Err("the record is gone".into());
        }
        let found = self.find(operator, upstream, gtid)?;
        let why = "the upstream's binary log does not have it";
        let mut record = match (record, found) {
            (None, Some(id)) => {
                if self.gone(ordinal, id)?.is_empty() {
                    *self.work(operator) = Work::default();
                    return Ok(());
                }
                self.new_record(ordinal, gtid)?
            }
            (Some(record), _) => record,
            (None, None) => self.new_record(ordinal, gtid)?,
        };
        let Some(id) = found else {
            (record.stage, record.for_a_person) = (Stage::Waiting, Some(why.into()));
            self.write_record(ordinal, record)?;
            return Err(why.into());
        };
        if is_ours(gtid) {
            record.rows = self.gone(ordinal, id)?;
            (record.stage, record.winner) = (Stage::Settling, winner);
            self.write_record(ordinal, record.clone())?;
            *self.work(operator) = Work {
                record: Some(record),
                ..Work::default()
            };
            return Ok(());
        }
        record.rows = self.in_the_way(ordinal, id)?.into_iter().collect();
        let sides = Sides::of(&observed);
        let is_other = |side: &&&Record| side.name() != record.name();
        let whole = sides.whole(&record);
        let others: Vec<Record> = whole.iter().filter(is_other).map(|side| (*side).clone()).collect();
        let mut taken_before = false;
        for other in related(&observed, &record.clone()) {
            let shares = other
                .rows
                .iter()
                .any(|row| record.rows.iter().any(|own| own.id == row.id));
            if shares && other.name() != record.name() && other.is_open() {
                let is_own = other.observer == record.observer;
                taken_before |= is_own && sides.copied_winning_rows(&observed, other);
            }
        }
        if taken_before {
            // If the winner's row is right here by now, it is copied anew; without the log, copies that are there stay.
            let sides = [&others[..], std::slice::from_ref(&record)].concat();
            if let Ok(history) = self.history(operator, ordinal, &sides) {
                let late = self.late(operator, ordinal, &sides, &history)?;
                taken_before = record.rows.iter().any(|row| late.contains(&number(&row.key)));
            }
        }
        record.kept = Some(BinlogPosition {
            file: "binlog.000001".into(),
            offset: self.data(ordinal)?.binary_log.len().try_into().unwrap(),
        });
        (record.stage, record.winner) = (Stage::Settling, winner);
        self.write_record(ordinal, record.clone())?;
        *self.work(operator) = Work {
            record: Some(record),
            others,
            taken_before,
        };
        Ok(())
    }

    /// The row of a re-assertion that a client has deleted.
    fn gone(&self, ordinal: u8, id: Id) -> Result<Vec<ConflictingRow>, String> {
        let row = self.in_the_way(ordinal, id)?;
        Ok(row.into_iter().filter(|row| row.mine.is_none()).collect())
    }

    fn take(&mut self, operator: usize, ordinal: u8, upstream: u8, gtid: &str) -> Result<(), String> {
        let id = self.find(operator, upstream, gtid)?;
        let id = id.ok_or("the upstream's binary log does not have it")?;
        let work = self.work(operator).clone();
        if let Some(record) = work.record.as_ref().filter(|_| !is_ours(gtid)) {
            let row = self.in_the_way(ordinal, id)?;
            if row.is_some_and(|row| record.rows.iter().all(|own| own.key != row.key)) {
                return Err("a client has just written it".into());
            }
            for row in &record.rows {
                self.copy(ordinal, number(&row.key), work.taken_before)?;
            }
        }
        self.execute_as(ordinal, id)
    }

    /// Carries a transaction out in the form that fits the member, under its own GTID.
    fn execute_as(&mut self, ordinal: u8, id: Id) -> Result<(), String> {
        let transaction = self.ledger.transactions[id];
        let data = self.data(ordinal)?;
        if data.executed.has(transaction.life, transaction.number) {
            return Ok(());
        }
        let form = transaction.change.taken(data.rows.contains_key(&transaction.row));
        let id = self.ledger.in_form(id, form);
        let Some(data) = &mut self.members[usize::from(ordinal)].disk.data else {
            return Err("no data directory".into());
        };
        data.execute(id, &self.ledger).map_err(|(_, why)| why)
    }

    /// Copies a row aside. `keep`: a copy that is there stays.
    fn copy(&mut self, ordinal: u8, row: u32, keep: bool) -> Result<(), String> {
        let data = self.data_mut(ordinal)?;
        let present = data.rows.get(&row).copied();
        let copy = data.kept.entry(row).or_default();
        if !keep || copy.is_none() {
            *copy = present;
        }
        Ok(())
    }

    /// The transaction is executed.
    fn note(&mut self, ordinal: u8, mut record: Record) -> Result<(), String> {
        record.stage = if record.rows.is_empty() {
            Stage::Settled
        } else {
            Stage::Taken
        };
        if is_ours(&record.gtid) {
            return self.write_record(ordinal, record);
        }
        let known = self.data(ordinal)?.executed.gtid_set();
        record.known = record
            .known
            .union(&known.difference(&self.written_after(ordinal, &record)?));
        self.write_record(ordinal, record)
    }

    /// What clients of the member have written since it executed the transaction of its record.
    fn written_after(&self, ordinal: u8, record: &Record) -> Result<GtidSet, String> {
        let data = self.data(ordinal)?;
        let own = data.uuid.ok_or("no server UUID")?;
        let mut logged = data.binary_log[data.first..].iter();
        let is_it = |id: &Id| self.ledger.gtid(*id) == record.gtid;
        let Some(_) = logged.find(|id| is_it(id)) else {
            return Ok(GtidSet::default());
        };
        let after = logged.filter(|id| self.ledger.transactions[**id].life == own);
        Ok(after.fold(GtidSet::default(), |after, id| {
            after.union(&self.ledger.gtid(*id).parse().unwrap())
        }))
    }

    /// `differing`: rows that are not equal everywhere; `None`: that is not known.
    fn reassert(
        &mut self,
        operator: usize,
        ordinal: u8,
        records: &[Record],
        differing: Option<&[u32]>,
    ) -> Result<(), String> {
        let history = self.history(operator, ordinal, records)?;
        let late = self.late(operator, ordinal, records, &history)?;
        for row in rows_of(records) {
            let is_late = late.contains(&row);
            let copy = if has_triggers(row) {
                let past = history.get(&row);
                if differing.map_or(past.is_none(), |differing| !differing.contains(&row) && !is_late) {
                    continue;
                }
                let past = past.ok_or(UNKNOWN)?;
                if past.present() != self.data(ordinal)?.rows.get(&row) {
                    return Err(format!("{UNKNOWN}: it has another one"));
                }
                let right = if is_late { past.right() } else { past.present() };
                right.copied()
            } else if is_late {
                history.get(&row).and_then(Past::right).copied()
            } else {
                self.copy(ordinal, row, false)?;
                self.data(ordinal)?.kept.get(&row).copied().flatten()
            };
            let change = match (self.data(ordinal)?.rows.contains_key(&row), copy) {
                (true, Some(value)) => Change::Replace(value),
                (true, None) => Change::Delete,
                (false, Some(value)) => Change::Insert(value),
                (false, None) => continue,
            };
            self.commit_as(ordinal, true, row, change)
                .ok_or("it could not be written")?;
        }
        Ok(())
    }

    /// What this member's binary log has of the rows of its records since they were copied aside. A change is late if it came from a losing side
    /// before that side knew.
    fn history(&self, operator: usize, ordinal: u8, records: &[Record]) -> Result<BTreeMap<u32, Past<Id>>, String> {
        let (observed, own) = (self.observed(operator)?, self.own_uuid(ordinal)?);
        let mine = records.iter().filter(|record| record.observer == own);
        let copied = mine.filter_map(|record| Some((record.seen, record.kept.as_ref()?.offset)));
        let Some((_, since)) = copied.min() else {
            return Ok(BTreeMap::new());
        };
        let data = self.data(ordinal)?;
        let since = usize::try_from(since).unwrap();
        if since < data.first {
            return Err("the binary log is purged".into());
        }
        let late = Late::of(&observed, &Sides::of(&observed), records);
        let rows = rows_of(records);
        let mut history: BTreeMap<u32, Past<Id>> = BTreeMap::new();
        for number in since..data.binary_log.len() {
            let id = data.binary_log[number];
            let it = &self.ledger.transactions[id];
            if !rows.contains(&it.row) || it.change == Change::Nothing {
                continue;
            }
            let is_believed = self.flaws.believes_losers && it.life % 2 == 1;
            let is_late = !is_believed && late.is(&self.ledger.gtid(id), &key(it.row).id());
            let past = Past::new(number, data.before[number], it.change.value(), is_late);
            match history.get_mut(&it.row) {
                Some(known) => known.join(past),
                None => drop(history.insert(it.row, past)),
            }
        }
        Ok(history)
    }

    /// Contested rows whose last change here was late.
    fn late(
        &self,
        operator: usize,
        ordinal: u8,
        sides: &[Record],
        history: &BTreeMap<u32, Past<Id>>,
    ) -> Result<Vec<u32>, String> {
        let (observed, own) = (self.observed(operator)?, self.own_uuid(ordinal)?);
        let all = Sides::of(&observed);
        let contested = all.contested(&observed, &own, sides);
        let rows = &self.data(ordinal)?.rows;
        let late = history.iter().filter(|(row, past)| {
            (past.right().is_some() || rows.contains_key(*row))
                && past.is_late()
                && contested.contains(key(**row).id().as_str())
        });
        Ok(late.map(|(row, _)| *row).collect())
    }

    fn compare(&mut self, operator: usize, ordinal: u8, names: &[Name], reassert: bool) -> Result<(), String> {
        let observed = self.observed(operator)?;
        let ring: Vec<u8> = Roles::of(&observed).ring.ordinals().collect();
        let mut lives = Vec::new();
        for member in &ring {
            self.session(operator, *member)?;
            lives.push(self.own_uuid(*member)?);
        }
        let mut records = Vec::new();
        for name in names {
            let there = lives.iter().position(|life| *life == name.0);
            let asked = there.map_or(&ring[..], |there| &ring[there..=there]);
            for member in asked {
                if let Some(record) = self.records(*member, std::slice::from_ref(name))?.pop() {
                    records.push(record);
                    break;
                }
            }
        }
        let mut all = Set::default();
        for member in &ring {
            all = all.union(&self.data(*member)?.executed);
        }
        for member in &ring {
            if !self.data(*member)?.executed.contains(&all) && !self.flaws.settles_early {
                return Err(format!("{member} has not executed yet what other members have"));
            }
        }
        let rows = rows_of(&records);
        let mut images: Vec<Vec<Option<Value>>> = Vec::new();
        for member in &ring {
            let data = self.data(*member)?;
            images.push(
                rows.iter()
                    .map(|row| data.rows.get(row).map(|value| Value::from(*value)))
                    .collect(),
            );
        }
        let at = ring
            .iter()
            .position(|member| *member == ordinal)
            .ok_or("it is not in the ring")?;
        let late = match reassert {
            true => self
                .history(operator, ordinal, &records)
                .and_then(|history| self.late(operator, ordinal, &records, &history)),
            false => Ok(Vec::new()),
        };
        let differs = |place: &usize| images.windows(2).any(|two| two[0][*place] != two[1][*place]);
        let differing: Vec<u32> = (0..rows.len()).filter(differs).map(|place| rows[place]).collect();
        let outcome = match late {
            _ if self.flaws.settles_unequal => Outcome::Settled,
            Ok(late) => outcome(&images, (at, "the winner"), reassert, !late.is_empty()),
            // The binary log is gone.
            Err(why) => Outcome::ForAPerson(why),
        };
        match outcome {
            Outcome::Reassert if self.flaws.deletes_all => {
                for row in rows {
                    if self.data(ordinal)?.rows.contains_key(&row) {
                        self.commit_as(ordinal, true, row, Change::Delete);
                    }
                }
                Ok(())
            }
            Outcome::Settled => {
                for member in &ring {
                    let data = self.data_mut(*member)?;
                    rows.iter().for_each(|row| {
                        data.kept.remove(row);
                    });
                }
                let effects = records.iter().map(|record| {
                    let observer = lives.iter().position(|life| *life == record.observer);
                    let name = (record.observer.clone(), record.gtid.clone());
                    Effect::Conflict {
                        ordinal: ring[observer.unwrap_or(0)],
                        part: Part::Settle { name },
                    }
                });
                let mut effects: VecDeque<Effect> = effects.collect();
                if let Some(pass) = &mut self.operators[operator].pass {
                    effects.append(&mut pass.effects);
                    pass.effects = effects;
                }
                Ok(())
            }
            Outcome::Reassert => match self.reassert(operator, ordinal, &records, Some(&differing)) {
                Err(why) if why.starts_with(UNKNOWN) => self.leave_to_a_person(ordinal, records, &why),
                done => done,
            },
            Outcome::ForAPerson(why) => self.leave_to_a_person(ordinal, records, &why),
        }
    }

    fn leave_to_a_person(&mut self, ordinal: u8, records: Vec<Record>, why: &str) -> Result<(), String> {
        for mut record in records {
            if record.for_a_person.as_deref() != Some(why) {
                record.for_a_person = Some(why.into());
                self.write_record(ordinal, record)?;
            }
        }
        Ok(())
    }
}

/// The key of a row.
pub fn key(row: u32) -> RowKey {
    RowKey {
        schema: "d".into(),
        table: "t".into(),
        columns: vec![("id".into(), Cell::Number(row.to_string()))],
    }
}

/// Whether the row is in a table with triggers: it is re-asserted by the images that the binary log has of it.
fn has_triggers(row: u32) -> bool {
    row % 2 == 1
}

/// The rows of records, each once.
fn rows_of(records: &[Record]) -> Vec<u32> {
    let rows = records.iter().flat_map(|record| &record.rows);
    let rows: BTreeSet<u32> = rows.map(|row| number(&row.key)).collect();
    rows.into_iter().collect()
}

fn number(key: &RowKey) -> u32 {
    match key.columns.as_slice() {
        [(_, Cell::Number(number))] => number.parse().unwrap(),
        other => panic!("{other:?}"),
    }
}
