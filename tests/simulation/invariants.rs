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
//! - I10 holds by construction: a member's readiness is made of its own server only, in the agent and in this model.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};

use multimaster::api::status::{MultiMasterClusterStatus, conditions, reasons};
use multimaster::decide::Decision;
use multimaster::decide::observed::{Member, Observed, Probe, Receiver};
use multimaster::decide::step::Step;
use multimaster::mysql::gtid::GtidSet;
use multimaster::names;

use crate::model::disk::{Data, NAMED_ROWS};
use crate::model::member::SECOND;
use crate::model::transactions::{Bits, Id, Life, uuid};
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
    /// Directories are founded at epoch 0 only.
    Founding,
    /// Nobody is gone around who is there for others.
    Witnesses,
    /// At most one risky step in a pass, none from an operator that is blind, and the epoch counts changes of the ring.
    Caution,
}

#[derive(Clone, Debug)]
pub struct Failure {
    pub invariant: Invariant,
    pub text: String,
}

pub struct Judge {
    pub failure: Option<Failure>,
    pub lost_with_disks: Bits,
    pub conflicts: bool,
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
    blind_to: &'static [Invariant],
    names: HashMap<(Life, usize), Id>,
    rows: HashMap<u32, Id>,
    /// Not known to anybody who could be asked when their member opened.
    hidden: Bits,
    outside_since: [Option<u64>; 9],
}

impl Judge {
    pub fn new(blind_to: &'static [Invariant]) -> Self {
        Self {
            failure: None,
            lost_with_disks: Bits::default(),
            conflicts: false,
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
        }
    }
}

/// What a member has executed or retrieved, as it was seen.
fn known(member: &Member) -> GtidSet {
    let Probe::Reached(server) = &member.server else {
        return GtidSet::default();
    };
    let retrieved = server.channels.iter().map(|channel| &channel.retrieved);
    retrieved.fold(server.executed.clone(), |all, set| all.union(set))
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
            match self.judge.hidden.has(earlier) {
                true => self.judge.tainted = true,
                false => self.fail(Invariant::I2, || {
                    format!("{} names a second transaction", self_name(earlier))
                }),
            }
        }
        if transaction.inserts && transaction.row < NAMED_ROWS {
            let earlier = self.judge.rows.insert(transaction.row, id);
            if let Some(earlier) = earlier.filter(|earlier| survives(self, *earlier)) {
                match self.judge.hidden.has(earlier) {
                    true => self.judge.tainted = true,
                    false => self.fail(Invariant::I4, || format!("row {} is handed out twice", transaction.row)),
                }
            }
        }
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
        let here = self.members[at].disk.copies();
        if here.contains(before) {
            return;
        }
        let everywhere = self.copies();
        if let Some(id) = before.iter().find(|id| !everywhere.has(*id)) {
            let name = self.ledger.name(id);
            self.fail(Invariant::I8, || format!("{at} had the last copy of {name}, {why}"));
        }
    }

    pub fn judge_decision(&mut self, operator: usize, observed: &Observed, decision: &Decision) {
        self.judge.passes += 1;
        self.judge_coverage(decision);
        let before = observed.cluster.status.clone().unwrap_or_default();
        let still = decision.steps.iter().all(|step| *step == Step::Apply) && before == decision.status;
        if still && self.operators[operator].is_well(self.now) {
            self.judge.quiet += 1;
        } else {
            (self.judge.quiet, self.judge.quiet_since) = (0, self.now);
        }
        self.judge_caution(observed, decision);
        self.judge_bypasses(observed, decision);
        self.judge_ready(observed, decision);
        for step in &decision.steps {
            match step {
                Step::Serve { ordinal, .. } => self.judge_label(*ordinal, observed, decision),
                Step::Open { ordinal, .. } => self.judge_open(*ordinal, observed, decision),
                Step::Found { .. } if decision.status.epoch > 0 => {
                    self.fail(Invariant::Founding, || "a member is founded after epoch 0".into());
                }
                _ => {}
            }
        }
    }

    fn judge_coverage(&mut self, decision: &Decision) {
        let mut hasher = DefaultHasher::new();
        for member in &decision.status.member_statuses {
            (member.state as u8, member.bypassed, member.links.len()).hash(&mut hasher);
        }
        (decision.status.epoch % 2, &decision.status.ring).hash(&mut hasher);
        for step in &decision.steps {
            (std::mem::discriminant(step), step.ordinal()).hash(&mut hasher);
            if *step != Step::Apply {
                let kind = format!("{step:?}").split(' ').next().unwrap_or_default().to_owned();
                *self.judge.steps.entry(kind).or_default() += 1;
            }
        }
        self.judge.coverage.insert(hasher.finish());
    }

    fn judge_caution(&mut self, observed: &Observed, decision: &Decision) {
        let risky = decision.steps.iter().filter(|step| step.is_risky()).count();
        if risky > 1 {
            self.fail(Invariant::Caution, || format!("risky steps: {:?}", decision.steps));
        }
        let silent = |member: &Member| matches!(member.server, Probe::Unreachable(_) | Probe::NoAddress);
        let blind = observed
            .members
            .iter()
            .any(|member| member.pod.as_ref().is_some_and(|pod| pod.running && !pod.terminating))
            && observed
                .members
                .iter()
                .all(|member| silent(member) && member.report().is_none());
        if blind && decision.steps.iter().any(|step| *step != Step::Apply) {
            self.fail(Invariant::Caution, || {
                format!("steps of an operator that sees nobody: {:?}", decision.steps)
            });
        }
        let before = observed.cluster.status.clone().unwrap_or_default();
        let ring = |status: &MultiMasterClusterStatus| -> Vec<bool> {
            status.member_statuses.iter().map(|member| member.bypassed).collect()
        };
        let changed = before.epoch > 0 && ring(&before) != ring(&decision.status);
        let grown = decision.status.epoch - before.epoch;
        if before.epoch > 0 && grown != i64::from(changed) {
            self.fail(Invariant::Caution, || {
                format!("the epoch grows by {grown}; ring changed: {changed}")
            });
        }
    }

    /// Who is gone around must be away for everybody: a fact, or a failed probe that nobody contradicts and somebody confirms.
    fn judge_bypasses(&mut self, observed: &Observed, decision: &Decision) {
        for (status, member) in decision.status.member_statuses.iter().zip(&observed.members) {
            if !status.bypassed || observed.is_bypassed(member.ordinal) {
                continue;
            }
            let link = names::channel(member.ordinal);
            let downstreams = || {
                let servers = observed.members.iter().filter_map(Member::server);
                servers
                    .flat_map(|server| &server.channels)
                    .filter(|channel| channel.name == link)
            };
            let pod = member.pod.as_ref();
            let down = pod.is_none_or(|pod| !pod.running)
                || member
                    .report()
                    .is_some_and(|report| report.phase != multimaster::agent::report::Phase::Running);
            let healthy = member.with_data().is_some();
            let defended = downstreams().any(|channel| {
                channel.receiver == Receiver::On && channel.silent_seconds.is_some_and(|seconds| seconds < 2)
            }) || member
                .sightings
                .iter()
                .any(|sighting| sighting.answered && sighting.by != member.ordinal);
            let accused = pod.is_some_and(|pod| pod.terminating || !pod.ready)
                || downstreams().any(|channel| channel.receiver != Receiver::On || channel.silent_seconds >= Some(3))
                || member.sightings.iter().any(|sighting| !sighting.answered);
            let unreached = matches!(member.server, Probe::Unreachable(_) | Probe::NoAddress);
            if healthy || (unreached && !down && (defended || !accused)) || matches!(member.server, Probe::Alive(_)) {
                let text = format!("{} is gone around: {member:?}", member.ordinal);
                self.fail(Invariant::Witnesses, || text);
            }
        }
    }

    fn judge_label(&mut self, ordinal: u8, observed: &Observed, decision: &Decision) {
        let bypassed = decision.status.member_statuses[usize::from(ordinal)].bypassed;
        let open = observed.members[usize::from(ordinal)]
            .server()
            .is_some_and(|server| !server.super_read_only);
        if bypassed || !open {
            self.fail(Invariant::I6, || {
                format!("{ordinal} gets the label; bypassed: {bypassed}, open: {open}")
            });
        }
    }

    fn judge_open(&mut self, ordinal: u8, observed: &Observed, decision: &Decision) {
        if decision.status.member_statuses[usize::from(ordinal)].bypassed {
            self.fail(Invariant::I6, || format!("{ordinal} opens, and is bypassed"));
        }
        let Some(server) = observed.members[usize::from(ordinal)].server() else {
            self.fail(Invariant::Caution, || format!("{ordinal} opens, and was not seen"));
            return;
        };
        let elsewhere = observed
            .others(ordinal)
            .fold(GtidSet::default(), |all, member| all.union(&known(member)));
        let status = observed.cluster.status.clone().unwrap_or_default();
        let recorded = status
            .member_statuses
            .iter()
            .filter_map(|member| member.gtid_executed.parse().ok());
        let recorded = recorded.fold(GtidSet::default(), |all: GtidSet, set: GtidSet| all.union(&set));
        let own = elsewhere
            .union(&recorded)
            .only(&server.uuid)
            .difference(&server.executed);
        if !own.is_empty() {
            self.fail(Invariant::I11, || format!("{ordinal} opens without its own {own}"));
        }
        for life in 0..self.ledger.lives.len() {
            let missing = elsewhere.only(&uuid(life)).difference(&server.executed);
            if self.ledger.lives[life] == ordinal && !missing.is_empty() {
                self.fail(Invariant::I4, || {
                    format!("{ordinal} opens without {missing} of an earlier life")
                });
            }
        }
    }

    /// A write at any member arrives at every other: the channels that run, to the servers that are there now, lead from each to each.
    fn judge_ready(&mut self, observed: &Observed, decision: &Decision) {
        let ready = decision
            .status
            .conditions
            .iter()
            .find(|it| it.type_ == conditions::READY);
        if ready.is_none_or(|ready| ready.status != "True") {
            return;
        }
        let all = observed.members.len();
        let open =
            |member: &Member| member.server().is_some_and(|server| !server.super_read_only) && member.has_label();
        if !observed.members.iter().all(open) {
            self.fail(Invariant::I7, || "Ready, and not all members serve".into());
            return;
        }
        let arrives = |from: usize| {
            let mut reached = vec![from];
            while let Some(next) = (0..all).find(|to| {
                !reached.contains(to)
                    && reached
                        .iter()
                        .any(|from| replicates(&observed.members[*from], &observed.members[*to]))
            }) {
                reached.push(next);
            }
            reached.len() == all
        };
        if let Some(from) = (0..all).find(|from| !arrives(*from)) {
            self.fail(Invariant::I7, || {
                format!("Ready, and a write at {from} does not arrive everywhere")
            });
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
            let bypassed = status.is_some_and(|status| status.bypassed);
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
                    format!("{at} is bypassed and takes writes or has the label (label: {labelled})")
                });
            }
        }
    }

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
        let gone =
            (0..self.ledger.transactions.len()).find(|id| !everywhere.has(*id) && !self.judge.lost_with_disks.has(*id));
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
        self.judge_equality(&everywhere);
        if !calm {
            self.fail(Invariant::I9, || "the plan goes on although the ring is whole".into());
        }
    }

    fn judge_equality(&mut self, everywhere: &Bits) {
        for at in 0..self.members.len() {
            let (Some(first), Some(data)) = (self.members[0].data(), self.members[at].data()) else {
                continue;
            };
            let missing = (0..self.ledger.transactions.len()).find(|id| everywhere.has(*id) && !data.contents.has(*id));
            let unequal = !(first.executed.contains(&data.executed) && data.executed.contains(&first.executed));
            let rows = first.rows != data.rows;
            if let Some(id) = missing {
                let (name, places) = (self.ledger.name(id), self.places(id));
                self.fail(Invariant::I1, || {
                    format!("{at} lacks {name}, and the ring is whole; {places}")
                });
            } else if unequal {
                self.fail(Invariant::I5, || format!("0 and {at} have unequal GTID sets"));
            } else if rows && !self.judge.conflicts {
                self.fail(Invariant::I5, || format!("0 and {at} have unequal rows"));
            }
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
        if self.judge.conflicts && is(conditions::CONFLICT_FREE, reasons::APPLIER_STOPPED) {
            Some("a conflict")
        } else if is(conditions::READY, reasons::DATA_LOST) {
            Some("all data lost")
        } else if is(conditions::RING_CLOSED, reasons::POSITION_LOST) || self.is_purged_everywhere() {
            Some("purged binary logs")
        } else {
            None
        }
    }
}

impl World {
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
        (0..self.ledger.transactions.len()).any(|id| {
            let has = data().filter(|data| data.contents.has(id)).count();
            let logged = data().any(|data| data.binary_log[data.first..].contains(&id));
            has > 0 && has < self.members.len() && !logged
        })
    }
}

fn self_name(id: Id) -> String {
    format!("the GTID of transaction {id}")
}

fn replicates(source: &Member, replica: &Member) -> bool {
    let (Some(source_server), Some(channel)) = (source.server(), replica.link(source.ordinal)) else {
        return false;
    };
    channel.receiver == Receiver::On
        && channel.applier_running
        && channel.source_uuid.as_ref() == Some(&source_server.uuid)
}
