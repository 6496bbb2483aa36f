//! Late writes: what a losing side wrote before it knew of the conflict, and what arrives, and overwrites the winning row, after that was right.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use super::record::{Record, Stage, holds, is_ours, writer_of};
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
    /// By losing side and id of a row: the record of the first time that it met the winner's row there. What it wrote to that row later, it wrote in
    /// knowledge of the winner's.
    met: BTreeMap<(&'a str, &'a str), &'a Record>,
    /// The transactions at which members stopped.
    gtids: HashSet<&'a str>,
    /// What the members knew whose records these are, and these transactions.
    known: GtidSet,
}

impl<'a> Late<'a> {
    /// `records`: all sides of a conflict.
    pub fn of(observed: &Observed, sides: &Sides, records: &'a [Record]) -> Self {
        let mut late = Self {
            gtids: records.iter().map(|record| record.gtid.as_str()).collect(),
            losers: BTreeSet::new(),
            mistaken: BTreeSet::new(),
            met: BTreeMap::new(),
            known: GtidSet::default(),
        };
        for record in records {
            let gtid = record.gtid.parse().unwrap_or_default();
            late.known = late.known.union(&record.known).union(&gtid);
            // A member may have just stopped: no winner is written down there yet.
            let Some(winner) = sides.winner(record).or(record.winner) else {
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
            // Until it is taken, its observer goes on in ignorance. A row that is the same on both sides may have been added for another side.
            let met = is_winners && matches!(record.stage, Stage::Taken | Stage::Settled);
            let rows = record.rows.iter().filter(|row| met && row.mine != row.theirs);
            for row in rows {
                let met = late.met.entry((loser, &row.id)).or_insert(record);
                if record.seen < met.seen {
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
        // What the operator has written there is late, if it re-asserted a row of another winner.
        if is_ours(gtid) {
            return self.mistaken.contains(writer) && holds(&self.known, gtid);
        }
        self.losers.contains(writer)
            && match self.met.get(&(writer, id)) {
                Some(met) => self.gtids.contains(gtid) || holds(&met.known, gtid),
                None => holds(&self.known, gtid),
            }
    }
}
