//! Every decision is judged against the observation it was made from, before it is carried out.

use std::hash::{DefaultHasher, Hash, Hasher};

use multimaster::api::status::{MultiMasterClusterStatus, conditions};
use multimaster::decide::Decision;
use multimaster::decide::conflicts::Stage;
use multimaster::decide::observed::{Member, Observed, Probe, Receiver};
use multimaster::decide::roles::Roles;
use multimaster::decide::step::{Action, ClusterAction, PodAction, Step};
use multimaster::mysql::gtid::GtidSet;
use multimaster::names;
use multimaster::wire::agent::{Origin, Phase};

use crate::invariants::Invariant;
use crate::model::transactions::uuid;
use crate::world::World;

impl World {
    pub fn judge_decision(&mut self, operator: usize, observed: &Observed, decision: &Decision) {
        self.judge.passes += 1;
        self.judge_coverage(decision);
        let before = observed.cluster.status.clone().unwrap_or_default();
        let still = decision
            .steps
            .iter()
            .all(|step| *step == Step::Cluster(ClusterAction::Apply))
            && before == decision.status;
        if still && self.operators[operator].is_well(self.now) {
            self.judge.quiet += 1;
        } else {
            (self.judge.quiet, self.judge.quiet_since) = (0, self.now);
        }
        self.judge_caution(observed, decision);
        self.judge_bypasses(observed, decision);
        self.judge_ready(observed, decision);
        self.judge_conflict_free(observed, decision);
        for step in &decision.steps {
            match step {
                Step::Pod {
                    ordinal,
                    action: PodAction::Serve,
                    ..
                } => self.judge_label(*ordinal, observed, decision),
                Step::Member {
                    ordinal,
                    action: Action::Open,
                    ..
                } => self.judge_open(*ordinal, observed, decision),
                Step::Member {
                    action: Action::Found, ..
                } if decision.status.epoch > 0 => {
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
            (step.kind(), step.ordinal()).hash(&mut hasher);
            if *step != Step::Cluster(ClusterAction::Apply) {
                *self.judge.steps.entry(step.kind().to_owned()).or_default() += 1;
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
        if blind
            && decision
                .steps
                .iter()
                .any(|step| *step != Step::Cluster(ClusterAction::Apply))
        {
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
            if !status.bypassed || Roles::of(observed).is_bypassed(member.ordinal) {
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
            // Or has nothing that could be asked for.
            let down = pod.is_none_or(|pod| !pod.running)
                || member
                    .report()
                    .is_some_and(|report| report.phase != Phase::Running || report.origin == Origin::Empty);
            let healthy = member.with_data().is_some();
            let defended = downstreams().any(|channel| {
                channel.receiver == Receiver::On && channel.seconds_since_contact.is_some_and(|seconds| seconds < 2)
            }) || member
                .witness_probes
                .iter()
                .any(|sighting| sighting.answered && sighting.by != member.ordinal);
            let accused = pod.is_some_and(|pod| pod.terminating || !pod.ready)
                || downstreams()
                    .any(|channel| channel.receiver != Receiver::On || channel.seconds_since_contact >= Some(3))
                || member.witness_probes.iter().any(|sighting| !sighting.answered);
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
        for (number, of) in self.ledger.lives.clone().into_iter().enumerate() {
            let missing = elsewhere.only(&uuid(2 * number)).difference(&server.executed);
            if of == ordinal && !missing.is_empty() {
                self.fail(Invariant::I4, || {
                    format!("{ordinal} opens without {missing} of an earlier life")
                });
            }
        }
    }

    fn judge_conflict_free(&mut self, observed: &Observed, decision: &Decision) {
        let mut conditions = decision.status.conditions.iter();
        let free = conditions.any(|it| it.type_ == conditions::CONFLICT_FREE && it.status == "True");
        let servers = || observed.members.iter().filter_map(Member::server);
        let stopped = servers()
            .flat_map(|server| &server.channels)
            .any(|it| it.conflict().is_some());
        let recorded = servers().any(|server| {
            let mut own = server.conflicts.iter().filter(|record| record.observer == server.uuid);
            own.any(|record| record.stage != Stage::Settled)
        });
        if free && (stopped || recorded) {
            self.fail(Invariant::ConflictFree, || {
                format!("a conflict is open; an applier stopped: {stopped}, recorded: {recorded}")
            });
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
        let serves = |member: &Member| {
            let open = member.server().is_some_and(|server| !server.super_read_only);
            match &decision.status.writer {
                Some(writer) if writer.name != member.name("demo") => member.server().is_some() && !open,
                _ => open && member.has_label(),
            }
        };
        if !observed.members.iter().all(serves) {
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
}

/// What a member has executed or retrieved, as it was seen.
fn known(member: &Member) -> GtidSet {
    let Probe::Reached(server) = &member.server else {
        return GtidSet::default();
    };
    let retrieved = server.channels.iter().map(|channel| &channel.retrieved);
    retrieved.fold(server.executed.clone(), |all, set| all.union(set))
}

fn replicates(source: &Member, replica: &Member) -> bool {
    let (Some(source_server), Some(channel)) = (source.server(), replica.link(source.ordinal)) else {
        return false;
    };
    channel.receiver == Receiver::On
        && channel.applier_running
        && channel.source_uuid.as_ref() == Some(&source_server.uuid)
}
