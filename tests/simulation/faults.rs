//! Faults as they begin and end.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kube::ResourceExt;
use multimaster::decide::conflicts::Stage;
use multimaster::names::ANNOTATION_SETTLE;

use crate::event::{Event, Fault};
use crate::model::member::{Frozen, Member, Mysqld};
use crate::model::transactions::uuid;
use crate::world::{World, chances};

impl World {
    fn later(&mut self, lasts: u64, fault: Fault) {
        self.ending.push(Event {
            at: self.now + lasts,
            fault,
        });
    }

    pub fn begin(&mut self, fault: Fault) {
        self.say(|| format!("fault: {fault:?}"));
        match fault {
            Fault::CrashMysqld { member } => self.crash_mysqld(member),
            Fault::CrashContainer { member, lasts } => self.crash_container(member, lasts),
            Fault::DeletePod { member } => self.delete_pod(member),
            Fault::LoseNode { member, lasts } => {
                let it = &mut self.members[usize::from(member)];
                if it.mysqld != Mysqld::Down {
                    it.stop_mysqld(&self.ledger);
                }
                it.node_down = true;
                it.frozen = Frozen::No;
                self.later(lasts, fault);
            }
            Fault::Freeze { member, node, lasts } => {
                self.members[usize::from(member)].frozen = if node { Frozen::Node } else { Frozen::Mysqld };
                self.later(lasts, fault);
            }
            Fault::Slow { member, lasts } => {
                self.members[usize::from(member)].slow = true;
                self.later(lasts, fault);
            }
            Fault::Refuse { member, lasts } => {
                self.members[usize::from(member)].refuses = true;
                self.later(lasts, fault);
            }
            Fault::HoldLocks { member, lasts } => {
                self.members[usize::from(member)].locked = true;
                self.later(lasts, fault);
            }
            Fault::LoseVolume { member, record_too } => self.replace_volume(member, |member| {
                member.disk.data = None;
                if record_too {
                    member.disk.record = None;
                }
            }),
            Fault::Snapshot { member } => {
                // Only of a member that runs: between the record of a new life and the first start with it the volume has a server_id
                // without a UUID, and a copy of that would give two lives one server_id.
                let it = &mut self.members[usize::from(member)];
                if it.mysqld == Mysqld::Running {
                    it.snapshot = Some(it.disk.clone());
                }
            }
            Fault::SetBack { member } => {
                if self.members[usize::from(member)].snapshot.is_some() {
                    self.replace_volume(member, |member| {
                        member.disk = member.snapshot.clone().unwrap_or_default()
                    });
                }
            }
            Fault::Cut { from, to, lasts } => {
                self.cut[usize::from(from)][usize::from(to)] += 1;
                self.later(lasts, fault);
            }
            Fault::Isolate { lasts, .. } | Fault::CutOperator { lasts, .. } => {
                self.isolate(fault, 1);
                self.later(lasts, fault);
            }
            Fault::OperatorDies { effects } => self.leading(|operator, _| operator.dies_after = Some(effects)),
            Fault::OperatorStalls { effects, lasts } => {
                self.leading(|operator, _| operator.stalls_after = Some((effects, lasts)));
            }
            Fault::StaleCaches { lasts } => self.leave_behind(lasts),
            Fault::StopThreads {
                member,
                receivers,
                appliers,
            } => self.stop_threads(member, receivers, appliers),
            // It ended before this operator began to look.
            Fault::CutSession { .. } if self.operators.iter().any(|it| it.pass.is_some()) => {}
            Fault::CutSession { member } => {
                self.stop_threads(member, false, true);
                let it = &mut self.members[usize::from(member)];
                // There is no conflict before there are channels.
                if it.answers() && it.cloning.is_none() && it.data().is_some_and(|data| !data.channels.is_empty()) {
                    (it.idempotent, it.half_fenced) = (true, it.super_read_only);
                }
            }
            Fault::NewTemplate => self.template += 1,
            Fault::Conflict { first, second, kind } => self.meet(first, second, kind),
            Fault::NameWinner { member } => {
                let data = self.members.iter().filter_map(|it| it.data());
                let numbers: BTreeSet<usize> = data.flat_map(|data| data.records.values().copied()).collect();
                let records = numbers.iter().map(|number| &self.ledger.records[*number]);
                let open = records.filter(|record| record.stage != Stage::Settled);
                // The member, if it wrote a side; otherwise one that did.
                let writer = |name: &str| {
                    let mut all = self.ledger.transactions.iter();
                    all.find(|it| uuid(it.life) == name).map(|it| it.taken_by)
                };
                let mut winners: BTreeMap<String, u8> = BTreeMap::new();
                for record in open {
                    let origin = record.gtid.split(':').next().and_then(writer);
                    let sides = [origin, writer(&record.observer)];
                    let side = if sides.contains(&Some(member)) {
                        Some(member)
                    } else {
                        origin
                    };
                    for row in &record.rows {
                        if let Some(side) = side {
                            let named = winners.entry(row.id.clone()).or_insert(side);
                            *named = if side == member { side } else { *named };
                        }
                    }
                }
                let orders: Vec<String> = winners
                    .iter()
                    .map(|(id, winner)| format!("{id}=demo-{winner}"))
                    .collect();
                let cluster = Arc::make_mut(&mut self.cluster);
                cluster
                    .annotations_mut()
                    .insert(ANNOTATION_SETTLE.into(), orders.join(","));
                let version: u64 = cluster.metadata.resource_version.as_ref().unwrap().parse().unwrap();
                cluster.metadata.resource_version = Some((version + 1).to_string());
            }
            Fault::Purge { member } => {
                let it = &mut self.members[usize::from(member)];
                if let (true, Some(data)) = (it.answers(), &mut it.disk.data) {
                    data.purged = data.executed.clone();
                    data.first = data.binary_log.len();
                }
            }
        }
    }

    pub fn end(&mut self, fault: Fault) {
        self.say(|| format!("over: {fault:?}"));
        match fault {
            Fault::LoseNode { member, .. } => {
                let now = self.now;
                let it = &mut self.members[usize::from(member)];
                it.node_down = false;
                if let Some(pod) = &mut it.pod {
                    pod.runs_at = now + 20;
                }
            }
            Fault::Freeze { member, .. } => self.thaw(member),
            Fault::Slow { member, .. } => self.members[usize::from(member)].slow = false,
            Fault::Refuse { member, .. } => self.members[usize::from(member)].refuses = false,
            Fault::HoldLocks { member, .. } => self.members[usize::from(member)].locked = false,
            Fault::Cut { from, to, .. } => self.cut[usize::from(from)][usize::from(to)] -= 1,
            Fault::Isolate { member, operators, .. } => {
                // As late as it can: what it took before is stranded, and the operator finds it fenced.
                let it = &mut self.members[usize::from(member)];
                it.super_read_only |= self.setup.fences && operators && it.answers();
                self.isolate(fault, -1);
            }
            Fault::CutOperator { .. } => self.isolate(fault, -1),
            _ => {}
        }
    }

    fn isolate(&mut self, fault: Fault, change: i8) {
        let all = 0..self.members.len();
        match fault {
            Fault::Isolate { member, operators, .. } => {
                let member = usize::from(member);
                for other in all.filter(|other| *other != member) {
                    for (from, to) in [(member, other), (other, member)] {
                        self.cut[from][to] = self.cut[from][to].wrapping_add_signed(change);
                    }
                }
                for cut in self.operator_cut.iter_mut().filter(|_| operators) {
                    cut[member] = cut[member].wrapping_add_signed(change);
                }
            }
            Fault::CutOperator { operator, member, .. } => {
                for to in all.filter(|to| member.is_none_or(|member| usize::from(member) == *to)) {
                    let cut = &mut self.operator_cut[operator][to];
                    *cut = cut.wrapping_add_signed(change);
                }
            }
            _ => {}
        }
    }

    pub fn crash_mysqld(&mut self, member: u8) {
        let soon = 5 + self.random(chances::START, member) % 15;
        let (at, flawed) = (self.now + soon, self.flaws.keeps_server_id);
        let it = &mut self.members[usize::from(member)];
        if it.mysqld != Mysqld::Down && it.frozen == Frozen::No {
            it.stop_mysqld(&self.ledger);
            it.start_mysqld(at, true, flawed, &mut self.ledger);
        }
    }

    fn crash_container(&mut self, member: u8, lasts: u64) {
        let now = self.now;
        let it = &mut self.members[usize::from(member)];
        if it.mysqld != Mysqld::Down && it.frozen != Frozen::Node {
            it.stop_container(&self.ledger);
            it.frozen = Frozen::No;
            if let Some(pod) = &mut it.pod {
                pod.runs_at = now + lasts;
            }
        }
    }

    pub fn delete_pod(&mut self, member: u8) {
        let ends_at = self.now + 3 + self.random(chances::POD, member) % 20;
        if let Some(pod) = &mut self.members[usize::from(member)].pod {
            pod.ends_at.get_or_insert(ends_at);
        }
    }

    /// The pod is gone for good, and so is what was on its volume.
    fn replace_volume(&mut self, member: u8, replace: impl FnOnce(&mut Member)) {
        self.judge.lost_disks = true;
        let before = self.copies();
        let now = self.now;
        let it = &mut self.members[usize::from(member)];
        it.stop_mysqld(&self.ledger);
        it.pod = None;
        it.next_pod_at = now + 10;
        (it.frozen, it.node_down) = (Frozen::No, false);
        replace(it);
        let after = self.copies();
        for id in before.iter().filter(|id| !after.has(*id)) {
            self.judge.lost_with_disks.put(id);
        }
        self.judge_return(&before, &after);
    }

    fn stop_threads(&mut self, member: u8, receivers: bool, appliers: bool) {
        let it = &mut self.members[usize::from(member)];
        if !it.answers() {
            return;
        }
        for channel in it.disk.data.iter_mut().flat_map(|data| &mut data.channels) {
            if receivers && channel.receiver {
                channel.stop_receiver();
            }
            if appliers {
                channel.applier = false;
            }
        }
    }

    /// What was sent to a server that stood still is executed now.
    fn thaw(&mut self, member: u8) {
        let at = usize::from(member);
        self.members[at].frozen = Frozen::No;
        for late in std::mem::take(&mut self.members[at].late) {
            if self.members[at].sessions[late.operator] == Some(self.members[at].boot) {
                let result = self.execute(member, &late.statement);
                self.say(|| format!("late at {member}: {:?}: {result:?}", late.statement));
            }
        }
    }
}
