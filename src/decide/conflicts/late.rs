//! Late writes: what a losing side wrote before it knew of the conflict, and what arrives, and overwrites the winning row, after that was right.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use super::record::{Record, holds, is_ours, writer_of};
use super::sides::{Sides, origin, writer};
use crate::decide::observed::Observed;
use crate::mysql::gtid::GtidSet;

/// By which a transaction is known to be late.
#[derive(Clone, Debug)]
pub struct Late<'a> {
    /// Server UUIDs under which the losing sides wrote.
    losers: BTreeSet<&'a str>,
    /// Server UUIDs of members that may have re-asserted rows of another winner, before it was known who wins.
    mistaken: BTreeSet<&'a str>,
    /// By losing side and id of a row: the record of the last time that it met the winner's row there. What it wrote to that row after it had taken
    /// the winner's transaction, it wrote in knowledge of it.
    met: BTreeMap<(&'a str, &'a str), &'a Record>,
    /// The transactions at which members stopped, with the ids of the rows that were in their way.
    contested: HashSet<(&'a str, &'a str)>,
    /// What the members knew whose records these are, and these transactions.
    known: GtidSet,
}

impl<'a> Late<'a> {
    /// `records`: all sides of a conflict.
    pub fn of(observed: &Observed, sides: &Sides, records: &'a [Record]) -> Self {
        let mut late = Self {
            contested: HashSet::new(),
            losers: BTreeSet::new(),
            mistaken: BTreeSet::new(),
            met: BTreeMap::new(),
            known: GtidSet::default(),
        };
        // What a client wrote while a row was written again is not late: its member knew who had won, or has a record of its own that says so.
        for record in records.iter().filter(|record| !is_ours(&record.gtid)) {
            late.known.add(&record.known);
            late.known.add(&record.gtid.parse().unwrap_or_default());
            // A row that is the same on both sides may have been added for another side.
            let ids = record.rows.iter().filter(|row| row.mine != row.theirs);
            let ids = ids.map(|row| row.id.as_str());
            late.contested.extend(ids.clone().map(|id| (record.gtid.as_str(), id)));
            // A member may have just stopped: no winner is written down there yet.
            let Some(winner) = sides.winner_of(record) else {
                continue;
            };
            if record.winner.is_some_and(|stored| stored != winner) {
                late.mistaken.insert(&record.observer);
            }
            let is_winners = origin(observed, record) == Some(winner);
            let loser = if is_winners {
                &record.observer
            } else {
                writer_of(&record.gtid)
            };
            if writer(observed, loser) == Some(winner) {
                continue;
            }
            late.losers.insert(loser);
            for id in ids.filter(|_| is_winners) {
                let met = late.met.entry((loser, id)).or_insert(record);
                if record.seen > met.seen {
                    *met = record;
                }
            }
        }
        late
    }

    /// Server UUIDs under which the losing sides wrote.
    pub fn losers(&self) -> &BTreeSet<&'a str> {
        &self.losers
    }

    /// Whether a transaction changed a row late. `id`: of the row in the records.
    pub fn is(&self, gtid: &str, id: &str) -> bool {
        let writer = writer_of(gtid);
        // What the operator has written there is late, if it re-asserted a row of another winner: of this conflict, or of one that was settled before
        // this side met the winner's row.
        if is_ours(gtid) && self.mistaken.contains(writer) && holds(&self.known, gtid) {
            return true;
        }
        self.losers.contains(writer)
            && match self.met.get(&(writer, id)) {
                Some(met) if met.is_executed() => self.contested.contains(&(gtid, id)) || holds(&met.known, gtid),
                // It goes on in ignorance.
                _ => holds(&self.known, gtid),
            }
    }
}
