//! The invariants of `docs/ring.md`, judged from outside: from what really is on the disks, not from what `decide` believes.
//!
//! What they do not promise, and why:
//! - A disk that was set back, or lost, took copies with it. A transaction of which no copy is left is forgotten (I1, I8).
//! - A member whose disk went back in time opens if neither status nor a reachable member knows what it lost (I11 promises no more). When a
//!   member that was away then brings the lost transactions, GTIDs may name two of them, and receivers give up. From such an opening on the run
//!   is `tainted`: its end is not judged. The same holds for auto-increment values of earlier lives (I4), once one is handed out twice.
//! - What is in nobody's binary log any more (a clone has none of what it copied, and the donor's volume was lost) cannot flow: "Not yet" in the
//!   specification.
//! - Runs in which the same row is inserted on two members, or binary logs are purged, may end halted or quarantined, and must say so (I5).
//! - A volume that is lost or set back while a conflict is open takes writes along that the conflict waits for. Rows are then equal when a
//!   comparison has found them, not before (I5, Rows, ConflictFree).
//! - I10 holds by construction: a member's readiness is made of its own server only, in the agent and in this model.

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::model::disk::NAMED_ROWS;
use crate::model::member::SECOND;
use crate::model::transactions::{Bits, Change, Id, Life};
use crate::world::World;

/// What was broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Invariant {
    /// No acknowledged write is lost while the disk of the member that took it survives.
    I1,
    /// No GTID names two transactions.
    I2,
    /// No transaction is applied twice.
    I3,
    /// Auto-increment values never collide.
    I4,
    /// All members become equal, or a condition says which do not.
    I5,
    /// No label outside the ring.
    I6,
    /// Ready is the truth.
    I7,
    /// The last copy is never deleted.
    I8,
    /// The plan converges.
    I9,
    /// No member opens without its own writes.
    I11,
    /// No applier is started that would overwrite what is in its way, and no setting stays as a conflict step has left it.
    I12,
    /// No row goes that no client deleted.
    Rows,
    /// The row of the member that is preferred wins.
    Winner,
    /// ConflictFree is True only while no conflict is open.
    ConflictFree,
    /// Directories are founded at epoch 0 only.
    Founding,
    /// Nobody is gone around who is there for others.
    Witnesses,
    /// One member takes writes, where only one is to.
    OneWriter,
    /// A writer that runs, and that enough of its voters reach, is not fenced because its lease has ended.
    HealthyWriter,
    /// At most one risky step in a pass, none from an operator that is blind, and the epoch counts changes of the ring.
    Caution,
}

#[derive(Clone, Debug)]
pub struct Failure {
    pub invariant: Invariant,
    pub text: String,
}

#[derive(Clone)]
pub struct Judge {
    pub failure: Option<Failure>,
    pub lost_with_disks: Bits,
    pub conflicts: bool,
    /// Rows that members only inserted: what the preferred of them inserted.
    pub winning: BTreeMap<u32, Id>,
    /// A volume was lost or set back.
    pub lost_disks: bool,
    pub tainted: bool,
    /// It ended with a ring that is not whole, for a good reason.
    pub open: Option<&'static str>,
    /// Distinct states that decisions were made in.
    pub coverage: HashSet<u64>,
    pub passes: u64,
    /// How often each kind of step was decided.
    pub steps: BTreeMap<String, u64>,
    /// Passes without anything to do, up to now.
    pub quiet: u32,
    pub quiet_since: u64,
    pub blind_to: &'static [Invariant],
    names: HashMap<(Life, usize), Id>,
    rows: HashMap<u32, Id>,
    /// Not known to anybody who could be asked when their member opened.
    pub hidden: Bits,
    pub outside_since: [Option<u64>; 9],
    /// Ticks in a row in which two members took writes, where one is to.
    pub two_writers: u64,
    /// By ordinal: ticks in a row in which enough voters could confirm the writer.
    pub confirmable: [u64; 9],
}

impl Judge {
    pub fn new(blind_to: &'static [Invariant]) -> Self {
        Self {
            failure: None,
            lost_with_disks: Bits::default(),
            conflicts: false,
            winning: BTreeMap::new(),
            lost_disks: false,
            tainted: false,
            open: None,
            coverage: HashSet::new(),
            passes: 0,
            steps: BTreeMap::new(),
            quiet: 0,
            quiet_since: 0,
            blind_to,
            names: HashMap::new(),
            rows: HashMap::new(),
            hidden: Bits::default(),
            outside_since: [None; 9],
            two_writers: 0,
            confirmable: [0; 9],
        }
    }
}

impl World {
    pub fn fail(&mut self, invariant: Invariant, text: impl FnOnce() -> String) {
        if self.judge.failure.is_none() && !self.judge.blind_to.contains(&invariant) {
            let text = text();
            self.say(|| format!("{invariant:?} is broken: {text}"));
            self.judge.failure = Some(Failure { invariant, text });
        }
    }

    /// A client's write, before it is executed.
    pub fn judge_write(&mut self, id: Id) {
        let transaction = self.ledger.transactions[id];
        let earlier = self.judge.names.insert((transaction.life, transaction.number), id);
        let survives = |world: &Self, earlier: Id| world.copies().has(earlier);
        if let Some(earlier) = earlier.filter(|earlier| survives(self, *earlier)) {
            match self.judge.hidden.has(earlier) || self.judge.lost_with_disks.has(earlier) {
                true => self.judge.tainted = true,
                false => self.fail(Invariant::I2, || {
                    format!("{} names a second transaction", self_name(earlier))
                }),
            }
        }
        if matches!(transaction.change, Change::Insert(_)) && transaction.row < NAMED_ROWS {
            let earlier = self.judge.rows.insert(transaction.row, id);
            if let Some(earlier) = earlier.filter(|earlier| survives(self, *earlier)) {
                // A disk that comes back after all disks were lost brings back what nobody could know.
                match self.judge.hidden.has(earlier) || self.judge.lost_with_disks.has(earlier) {
                    true => self.judge.tainted = true,
                    false => self.fail(Invariant::I4, || format!("row {} is handed out twice", transaction.row)),
                }
            }
        }
    }

    /// A disk of an earlier time is there again: does it have a transaction whose GTID was given a second time, while nobody had the first?
    pub fn judge_return(&mut self, before: &Bits, after: &Bits) {
        let is_named_again = |id: Id| {
            let transaction = self.ledger.transactions[id];
            let newest = self.judge.names.get(&(transaction.life, transaction.number));
            newest.is_some_and(|newest| *newest != id && after.has(*newest))
        };
        self.judge.tainted |= after.iter().any(|id| !before.has(id) && is_named_again(id));
    }

    /// `super_read_only` goes off: what of this member's own earlier writes is somewhere and not here?
    pub fn judge_opening(&mut self, ordinal: u8) {
        let at = usize::from(ordinal);
        let Some(data) = self.members[at].data() else { return };
        let everything = self.copies();
        let missing: Vec<Id> = everything
            .iter()
            .filter(|id| self.ledger.transactions[*id].taken_by == ordinal && !data.contents.has(*id))
            .collect();
        let life = data.uuid;
        for id in missing.into_iter().filter(|_| !self.flaws.trusting) {
            self.judge.hidden.put(id);
            self.judge.tainted |= Some(self.ledger.transactions[id].life) == life;
        }
    }

    /// The last copy of a transaction must not go by anything but a fault.
    pub fn judge_copies(&mut self, at: usize, before: &Bits, why: &str) {
        let here = self.members[at].disk.copies(&self.ledger);
        if here.contains(before) {
            return;
        }
        let everywhere = self.copies();
        if let Some(id) = before.iter().find(|id| !everywhere.has(*id)) {
            let name = self.ledger.name(id);
            self.fail(Invariant::I8, || format!("{at} had the last copy of {name}, {why}"));
        }
    }

    /// What must not last: a member outside the ring that the leader reaches and that takes writes, or has the label.
    pub fn watch(&mut self) {
        let Some(leader) = self.leader else { return };
        let well = self.operators[leader].is_well(self.now);
        for at in 0..self.members.len() {
            let status = self
                .cluster
                .status
                .as_ref()
                .and_then(|status| status.member_statuses.get(at));
            let reads = self.cluster.writer().is_some_and(|writer| usize::from(writer) != at);
            let bypassed = reads || status.is_some_and(|status| status.bypassed);
            let member = &self.members[at];
            let uid = member.pod.as_ref().map_or(0, |pod| pod.uid);
            let reached = member.answers()
                && !member.slow
                && !member.refuses
                && self.is_connected(leader, u8::try_from(at).unwrap(), uid);
            let labelled = member.pod.as_ref().is_some_and(|pod| pod.serving);
            let wrong = bypassed && well && ((reached && !member.super_read_only) || labelled);
            let since = &mut self.judge.outside_since[at];
            if !wrong {
                *since = None;
                continue;
            }
            let since = *since.get_or_insert(self.now);
            if self.now - since > 6 * SECOND {
                self.fail(Invariant::I6, || {
                    format!(
                        "{at} is bypassed, or not the one writer, and takes writes or has the label (label: {labelled})"
                    )
                });
            }
        }
    }
}

fn self_name(id: Id) -> String {
    format!("the GTID of transaction {id}")
}
