//! What clients do to the same row at two members, or at three.

use crate::event::Meeting;
use crate::model::disk::NAMED_ROWS;
use crate::model::transactions::Change;
use crate::world::World;

impl World {
    pub fn meet(&mut self, first: u8, second: u8, kind: Meeting) {
        let takes = |world: &Self, at: u8| world.members[usize::from(at)].takes_writes();
        if kind == Meeting::UpdateInKnowledge {
            return self.update_in_knowledge(first);
        }
        if !takes(self, first) || !takes(self, second) {
            return;
        }
        self.judge.conflicts = true;
        let value = self.ledger.transactions.len();
        match kind {
            Meeting::Inserts | Meeting::ThreeInserts | Meeting::LateWrites | Meeting::InsertsAndDeletes => {
                self.conflicts += 1;
                let row = NAMED_ROWS + self.conflicts;
                let mut writers = vec![first, second];
                if kind == Meeting::ThreeInserts {
                    let third = (0..self.setup.members).find(|at| !writers.contains(at) && takes(self, *at));
                    writers.extend(third);
                }
                for at in &writers {
                    self.write(*at, Some(row));
                }
                let rank = |at: &u8| (*at != self.setup.prefers, *at);
                let preferred = writers
                    .into_iter()
                    .min_by_key(rank)
                    .and_then(|at| self.members[usize::from(at)].data());
                let preferred = preferred.and_then(|data| data.rows.get(&row).copied());
                let only_inserts = matches!(kind, Meeting::Inserts | Meeting::ThreeInserts);
                if let Some(value) = preferred.filter(|_| only_inserts && !self.setup.halts) {
                    self.judge.winning.insert(row, value);
                }
                match kind {
                    Meeting::LateWrites => {
                        self.write(second, Some(row));
                        self.write(first, Some(row));
                    }
                    Meeting::InsertsAndDeletes => drop(self.commit_as(second, false, row, Change::Delete)),
                    _ => {}
                }
            }
            Meeting::UpdateInKnowledge => {}
            Meeting::UpdateAndDelete | Meeting::Deletes => {
                // Only such rows as nobody else changes: two changes of a row that is there meet without an error.
                let rows = |world: &Self, at: u8| -> Vec<u32> {
                    let data = world.members[usize::from(at)].data();
                    let rows = data.into_iter().flat_map(|data| data.rows.keys().copied());
                    rows.filter(|row| *row > NAMED_ROWS).collect()
                };
                let theirs = rows(self, second);
                let Some(row) = rows(self, first).into_iter().find(|row| theirs.contains(row)) else {
                    return;
                };
                let change = match kind {
                    Meeting::Deletes => Change::Delete,
                    _ => Change::Update(value),
                };
                self.judge.winning.remove(&row);
                self.commit_as(first, false, row, change);
                self.commit_as(second, false, row, Change::Delete);
            }
        }
    }

    /// A client that sees the winner's row changes it. Whatever is still under way, this is what the row is to be in the end.
    fn update_in_knowledge(&mut self, at: u8) {
        let row = NAMED_ROWS + self.conflicts;
        let member = &self.members[usize::from(at)];
        let seen = member.data().and_then(|data| data.rows.get(&row).copied());
        if member.takes_writes() && seen.is_some() && seen == self.judge.winning.get(&row).copied() {
            let value = self.ledger.transactions.len();
            self.commit_as(at, false, row, Change::Update(value));
            self.judge.winning.insert(row, value);
        }
    }
}
