//! What must be true once the faults are over.

use std::collections::HashSet;

use multimaster::api::reasons::Reason;
use multimaster::api::status::{MultiMasterClusterStatus, conditions};
use multimaster::decide::conflicts::Stage;

use crate::invariants::Invariant;
use crate::model::disk::Data;
use crate::model::transactions::{Bits, Change, Id};
use crate::world::World;

impl World {
    /// After the faults: equal members that serve, or a condition with a good reason.
    pub fn judge_end(&mut self, calm: bool) {
        let status = self.cluster.status.clone().unwrap_or_default();
        let ready = status.conditions.iter().find(|it| it.type_ == conditions::READY);
        let whole = ready.is_some_and(|ready| ready.status == "True");
        for at in 0..self.members.len() {
            let Some(data) = self.members[at].data() else { continue };
            let mut seen = HashSet::new();
            let twice = data.binary_log.iter().copied().find(|id| !seen.insert(*id));
            if let Some(id) = twice {
                let name = self.ledger.name(id);
                self.fail(Invariant::I3, || format!("{name} was applied twice at {at}"));
            }
        }
        let everywhere = self.copies();
        let gone = self
            .written()
            .into_iter()
            .find(|id| !everywhere.has(*id) && !self.judge.lost_with_disks.has(*id));
        if let Some(id) = gone.filter(|_| !self.judge.tainted) {
            let name = self.ledger.name(id);
            self.fail(Invariant::I1, || format!("{name} is nowhere any more"));
        }
        if self.judge.tainted {
            return;
        }
        if !whole {
            self.judge.open = self.excuse(&status);
            if self.judge.open.is_none() {
                let states: Vec<_> = status
                    .member_statuses
                    .iter()
                    .map(|it| (it.state, it.bypassed, it.message.clone()))
                    .collect();
                let ready = ready.map(|ready| ready.message.clone()).unwrap_or_default();
                self.fail(Invariant::I9, || format!("not Ready ({ready}); {states:?}"));
            }
            return;
        }
        // Only a person knows whether a row that the winner lacks is to go; the condition says so.
        let open = |number: &usize| {
            let record = &self.ledger.records[*number];
            record.stage != Stage::Settled && record.for_a_person.is_some()
        };
        let data = self.members.iter().filter_map(|member| member.data());
        if data.flat_map(|data| data.records.values()).any(open) {
            self.judge.open = Some("a row for a person");
            return;
        }
        self.judge_equality(&everywhere);
        if let Some(at) = self.members.iter().position(|it| it.idempotent || it.half_fenced) {
            self.fail(Invariant::I12, || {
                format!("{at} has settings of a conflict step that is over")
            });
        }
        if !calm {
            self.fail(Invariant::I9, || "the plan goes on although the ring is whole".into());
        }
    }

    fn judge_equality(&mut self, everywhere: &Bits) {
        for at in 0..self.members.len() {
            let (Some(first), Some(data)) = (self.members[0].data(), self.members[at].data()) else {
                continue;
            };
            let missing = self
                .written()
                .into_iter()
                .find(|id| everywhere.has(*id) && !data.contents.has(*id));
            let unequal = !(first.executed.contains(&data.executed) && data.executed.contains(&first.executed));
            let rows = first.rows != data.rows;
            if let Some(id) = missing {
                let (name, places) = (self.ledger.name(id), self.places(id));
                self.fail(Invariant::I1, || {
                    format!("{at} lacks {name}, and the ring is whole; {places}")
                });
            } else if unequal {
                self.fail(Invariant::I5, || format!("0 and {at} have unequal GTID sets"));
            } else if rows && !(self.judge.conflicts && self.judge.lost_disks) {
                let differs = |row: &&u32| first.rows.get(row) != data.rows.get(row);
                let row = first
                    .rows
                    .keys()
                    .chain(data.rows.keys())
                    .find(differs)
                    .copied()
                    .unwrap_or_default();
                let images = (first.rows.get(&row).copied(), data.rows.get(&row).copied());
                self.fail(Invariant::I5, || {
                    format!("0 and {at} have unequal rows: {row} is {images:?}")
                });
            }
        }
        self.judge_rows();
    }

    /// What was inserted is there, unless a client deleted it, or a disk took it along.
    fn judge_rows(&mut self) {
        if self.judge.lost_disks {
            return;
        }
        let by_clients = || self.ledger.transactions.iter().filter(|it| it.life % 2 == 0);
        let deleted: HashSet<u32> = by_clients()
            .filter(|it| it.change == Change::Delete)
            .map(|it| it.row)
            .collect();
        let Some(data) = self.members[0].data() else { return };
        let gone = by_clients().find(|it| {
            let inserts = matches!(it.change, Change::Insert(_));
            inserts && !deleted.contains(&it.row) && !data.rows.contains_key(&it.row)
        });
        let gone = gone.map(|it| it.row);
        let mut winning = self.judge.winning.iter();
        let other = winning.find(|(row, value)| data.rows.get(row) != Some(value));
        let other = other.map(|(row, value)| (*row, *value, data.rows.get(row).copied()));
        let open = data
            .records
            .values()
            .any(|number| self.ledger.records[*number].stage != Stage::Settled);
        if let Some(row) = gone {
            self.fail(Invariant::Rows, || {
                format!("row {row} is gone, and no client deleted it")
            });
        }
        if let Some((row, value, there)) = other {
            self.fail(Invariant::Winner, || {
                format!("row {row} is {there:?}, and {value} was to win")
            });
        }
        if open {
            self.fail(Invariant::ConflictFree, || {
                "the ring is whole, and a conflict is open".into()
            });
        }
    }

    /// Why a ring may stay open for ever: a conflict, purged binary logs, or nothing left. The conditions must say which.
    fn excuse(&self, status: &MultiMasterClusterStatus) -> Option<&'static str> {
        let is = |type_: &str, reason: &str| {
            status
                .conditions
                .iter()
                .any(|it| it.type_ == type_ && it.reason == reason)
        };
        let waits = |number: &usize| self.ledger.records[*number].for_a_person.is_some();
        let data = self.members.iter().filter_map(|member| member.data());
        let for_a_person = data.flat_map(|data| data.records.values()).any(waits);
        let stopped = is(conditions::CONFLICT_FREE, Reason::ApplierStopped.as_ref());
        if self.judge.conflicts && (self.setup.halts || for_a_person) && stopped {
            Some("a conflict")
        } else if is(conditions::READY, Reason::DataLost.as_ref()) {
            Some("all data lost")
        } else if self.is_purged_everywhere() {
            Some("purged by everybody")
        } else if is(conditions::RING_CLOSED, Reason::PositionLost.as_ref()) {
            Some("purged by an upstream")
        } else {
            None
        }
    }

    /// Every transaction that a client or the operator wrote, in whatever forms it was carried out.
    fn written(&self) -> Vec<Id> {
        let all = self.ledger.transactions.iter().enumerate();
        all.filter(|(id, it)| it.of == *id).map(|(id, _)| id).collect()
    }

    /// Where a transaction is.
    fn places(&self, id: Id) -> String {
        let data = || {
            self.members
                .iter()
                .filter_map(|member| Some((member.ordinal, member.data()?)))
        };
        let tables: Vec<u8> = data()
            .filter(|(_, data)| data.contents.has(id))
            .map(|(at, _)| at)
            .collect();
        let in_relay_logs = |(at, data): (u8, &Data)| {
            let channels = data.channels.iter().filter(|channel| channel.relay_log.contains(&id));
            channels
                .map(|channel| format!("{at} from {}, applier {}", channel.upstream, channel.applier))
                .collect::<Vec<_>>()
        };
        let relay_logs: Vec<String> = data().flat_map(in_relay_logs).collect();
        format!("in the tables of {tables:?}, in relay logs of {relay_logs:?}")
    }

    /// Some member lacks a transaction that nobody has in a binary log any more: only "drain, then clone" could help, which is not built yet.
    fn is_purged_everywhere(&self) -> bool {
        let data = || self.members.iter().filter_map(|member| member.data());
        let is_of = |id: Id, logged: &Id| self.ledger.transactions[*logged].of == id;
        self.written().into_iter().any(|id| {
            let has = data().filter(|data| data.contents.has(id)).count();
            let logged = data().any(|data| data.binary_log[data.first..].iter().any(|logged| is_of(id, logged)));
            has > 0 && has < self.members.len() && !logged
        })
    }
}
