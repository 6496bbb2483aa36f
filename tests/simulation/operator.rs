//! The operators: two of them, of which one leads. The order of a pass is that of `src/operator/reconcile.rs`; every external effect can be the last.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use jiff::Timestamp;
use multimaster::api::MultiMasterCluster;
use multimaster::decide::Decision;
use multimaster::decide::observed::Observed;
use multimaster::decide::serve::voters::LastConfirmations;
use multimaster::decide::step::{ClusterAction, Step};
use multimaster::names::LABEL_READS;

use crate::conflicts::{Part, Work};
use crate::model::member::{Order, Pod, SECOND, Statement};
use crate::world::World;

/// `multimaster::decide::decide`, or what a test makes of it.
pub type Decider = fn(&Observed, Timestamp) -> Decision;

/// The lease.
const LEASE: u64 = 5 * SECOND;
/// `STALE` of `src/operator/reconcile.rs`: an older observation justifies no risky step.
const STALE: u64 = 25;
/// An operator that ended is started again.
const STARTS_AGAIN: u64 = 2 * SECOND;

#[derive(Clone, Default)]
pub struct Operator {
    /// It does not run before.
    pub runs_at: u64,
    /// It stands still until then.
    pub stalled_until: u64,
    pub dies_after: Option<u32>,
    pub stalls_after: Option<(u32, u64)>,
    pub stale: Option<StaleCaches>,
    /// `Memory::replaced`.
    pub replaced: Option<String>,
    /// `Memory::silent`.
    pub silent: Vec<u8>,
    /// Pods at which it has killed the sessions of its predecessor.
    pub introduced: HashSet<u64>,
    /// Ticks of its first look.
    pub first_look: Option<u64>,
    /// By ordinal: pod, the agent's clock, and when it was heard.
    pub heard: HashMap<u8, (u64, u64, u64)>,
    /// `Memory::fenced`.
    pub fenced: HashSet<u8>,
    /// `Memory::last_confirmations`.
    pub last_confirmations: LastConfirmations,
    /// When it looks again.
    pub wakes: u64,
    pub pass: Option<Pass>,
}

/// What caches had when they stopped to be told of changes.
#[derive(Clone)]
pub struct StaleCaches {
    pub until: u64,
    pub cluster: Arc<MultiMasterCluster>,
    pub pods: Vec<Option<Pod>>,
}

#[derive(Clone)]
pub struct Pass {
    pub looked: u64,
    /// resourceVersion of the resource that was observed.
    pub version: Option<String>,
    pub observed: Arc<Observed>,
    pub decision: Arc<Decision>,
    pub effects: VecDeque<Effect>,
    /// What a conflict step knows of its conflict.
    pub work: Work,
}

#[derive(Clone, Debug, Hash)]
pub enum Effect {
    WriteStatus,
    /// Not external: the observation must be fresh.
    Fresh,
    Label {
        ordinal: u8,
        pod: String,
        label: &'static str,
        set: bool,
    },
    Sql {
        ordinal: u8,
        pod: String,
        statement: Statement,
    },
    Order {
        ordinal: u8,
        pod: String,
        uuid: String,
        order: Order,
    },
    DeletePod {
        ordinal: u8,
        pod: String,
    },
    Conflict {
        ordinal: u8,
        part: Part,
    },
}

impl Operator {
    /// It runs and its caches are told of changes.
    pub fn is_well(&self, now: u64) -> bool {
        now >= self.runs_at && now >= self.stalled_until && self.stale.as_ref().is_none_or(|stale| now >= stale.until)
    }
}

impl World {
    pub fn leading(&mut self, act: impl FnOnce(&mut Operator, u64)) {
        if let Some(leader) = self.leader {
            act(&mut self.operators[leader], self.now);
        }
    }

    pub fn leave_behind(&mut self, lasts: u64) {
        let stale = StaleCaches {
            until: self.now + lasts,
            cluster: self.cluster.clone(),
            pods: self.pods(),
        };
        self.leading(|operator, _| operator.stale = Some(stale));
    }

    /// One tick of both operators.
    pub fn lead(&mut self) {
        for at in 0..self.operators.len() {
            if self.now < self.operators[at].runs_at || self.now < self.operators[at].stalled_until {
                continue;
            }
            if self.leader == Some(at) {
                self.lease_until = self.now + LEASE;
                self.go_on(at);
            } else if self.operators[at].pass.is_some() {
                // It stood still with a statement on its lips, and somebody else leads now.
                self.say(|| format!("operator {at} wakes up and does not lead any more"));
                self.goes_on_too_late(at);
            } else if self.leader.is_none() || self.now > self.lease_until {
                self.say(|| format!("operator {at} leads"));
                self.leader = Some(at);
                self.lease_until = self.now + LEASE;
                self.go_on(at);
            }
        }
    }

    /// What it was about to do when somebody else began to lead may still land; then it ends.
    pub fn goes_on_too_late(&mut self, at: usize) {
        let _ = self.next_effect(at);
        self.operator_ends(at);
    }

    pub fn operator_ends(&mut self, at: usize) {
        self.operators[at] = Operator {
            runs_at: self.now + STARTS_AGAIN,
            ..Operator::default()
        };
        for member in &mut self.members {
            member.sessions[at] = None;
        }
    }

    fn go_on(&mut self, at: usize) {
        let idle = self.operators[at].pass.is_none();
        if idle && (self.now < self.operators[at].wakes || !self.begin_pass(at)) {
            return;
        }
        loop {
            let Some(pass) = &self.operators[at].pass else { return };
            let Some(effect) = pass.effects.front() else { break };
            if !matches!(effect, Effect::Fresh) && self.is_disturbed(at) {
                return;
            }
            self.go_one_further(at);
        }
        self.go_one_further(at);
    }

    /// The next effect of a pass, or its end.
    pub fn go_one_further(&mut self, at: usize) {
        if let Err((why, retry)) = self.next_effect(at) {
            self.say(|| format!("operator {at}: {why}"));
            self.operators[at].wakes = self.now + retry;
            self.operators[at].pass = None;
        }
        if let Some(pass) = self.operators[at].pass.take_if(|pass| pass.effects.is_empty()) {
            let wait = u64::try_from(pass.decision.requeue.as_millis() / 100).unwrap_or(SECOND);
            self.operators[at].wakes = self.now + wait.max(1);
        }
    }

    /// It dies, or stands still, in front of an external effect.
    fn is_disturbed(&mut self, at: usize) -> bool {
        let operator = &mut self.operators[at];
        match &mut operator.dies_after {
            Some(0) => {
                self.say(|| format!("operator {at} dies"));
                self.operator_ends(at);
                return true;
            }
            Some(more) => *more -= 1,
            None => {}
        }
        match &mut operator.stalls_after {
            Some((0, lasts)) => {
                operator.stalled_until = self.now + *lasts;
                operator.stalls_after = None;
                self.say(|| format!("operator {at} stands still"));
                return true;
            }
            Some((more, _)) => *more -= 1,
            None => {}
        }
        false
    }

    /// Observes and decides. False: its cache has not seen its own last write yet.
    pub fn begin_pass(&mut self, at: usize) -> bool {
        let replaced = &self.operators[at].replaced;
        if replaced.is_some() && *replaced == self.cached_version(at) {
            self.operators[at].wakes = self.now + 1;
            return false;
        }
        let observed = self.observe(at);
        let decision = (self.decider)(&observed, self.time());
        let before = observed.cluster.status.clone().unwrap_or_default();
        self.judge_decision(at, &observed, &decision);
        self.say_decision(at, &before, &decision);
        let mut effects = VecDeque::new();
        if decision.status != before {
            effects.push_back(Effect::WriteStatus);
        }
        for step in &decision.steps {
            effects.extend(self.effects(step, &observed));
        }
        self.operators[at].pass = Some(Pass {
            looked: self.now,
            version: observed.cluster.metadata.resource_version.clone(),
            observed: Arc::new(observed),
            decision: Arc::new(decision),
            effects,
            work: Work::default(),
        });
        true
    }

    fn say_decision(
        &mut self,
        at: usize,
        before: &multimaster::api::status::MultiMasterClusterStatus,
        decision: &Decision,
    ) {
        let steps: Vec<&Step> = decision
            .steps
            .iter()
            .filter(|step| **step != Step::Cluster(ClusterAction::Apply))
            .collect();
        let states = |status: &multimaster::api::status::MultiMasterClusterStatus| -> Vec<String> {
            let text = |member: &multimaster::api::status::MemberStatus| {
                let message = member.message.as_ref().map(|message| format!(" ({message})"));
                format!("{:?}{}", member.state, message.unwrap_or_default())
            };
            status.member_statuses.iter().map(text).collect()
        };
        if self.trace.is_some() && (!steps.is_empty() || states(before) != states(&decision.status)) {
            let (ring, epoch, states) = (&decision.status.ring, decision.status.epoch, states(&decision.status));
            self.say(|| format!("operator {at} decides: epoch {epoch}, ring {ring}, {states:?}, steps {steps:?}"));
        }
    }

    /// Carries out the next effect of a pass; or why the pass is over, and how long to wait.
    fn next_effect(&mut self, at: usize) -> Result<(), (String, u64)> {
        let Some(pass) = &mut self.operators[at].pass else {
            return Ok(());
        };
        let Some(effect) = pass.effects.pop_front() else {
            return Ok(());
        };
        let later = |why: String| (why, SECOND);
        match effect {
            Effect::Fresh if self.now > pass.looked + STALE => Err(("the observation is too old".into(), 1)),
            Effect::Fresh => Ok(()),
            Effect::WriteStatus => {
                if self.cluster.metadata.resource_version != pass.version {
                    return Err(("the resource changed meanwhile".into(), 1));
                }
                let status = pass.decision.status.clone();
                self.operators[at].replaced = self.cluster.metadata.resource_version.clone();
                let version: u64 = self
                    .cluster
                    .metadata
                    .resource_version
                    .as_ref()
                    .unwrap()
                    .parse()
                    .unwrap();
                let cluster = Arc::make_mut(&mut self.cluster);
                cluster.metadata.resource_version = Some((version + 1).to_string());
                cluster.status = Some(status);
                Ok(())
            }
            Effect::Label {
                ordinal,
                pod,
                label,
                set,
            } => self.label(ordinal, &pod, label, set).map_err(later),
            Effect::Sql {
                ordinal,
                pod,
                statement,
            } => {
                if statement == Statement::Open {
                    self.operators[at].fenced.remove(&ordinal);
                }
                self.send(at, ordinal, &pod, &statement).map_err(later)
            }
            Effect::Order {
                ordinal,
                pod,
                uuid,
                order,
            } => self.order(at, ordinal, &pod, &uuid, order).map_err(later),
            Effect::Conflict { ordinal, part } => self.conflict_effect(at, ordinal, part).map_err(later),
            Effect::DeletePod { ordinal, pod } => {
                if is_pod(self.members[usize::from(ordinal)].pod.as_ref(), &pod) {
                    self.delete_pod(ordinal);
                    return Ok(());
                }
                Err(later("the pod is another one".into()))
            }
        }
    }

    fn label(&mut self, ordinal: u8, pod: &str, label: &str, set: bool) -> Result<(), String> {
        let present = &mut self.members[usize::from(ordinal)].pod;
        match present {
            Some(present) if is_pod(Some(present), pod) => {
                match label {
                    LABEL_READS => present.reads = set,
                    _ => present.serving = set,
                }
                Ok(())
            }
            _ if set => Err("the pod is another one".into()),
            _ => Ok(()),
        }
    }
}

pub fn is_pod(present: Option<&Pod>, uid: &str) -> bool {
    present.is_some_and(|present| format!("pod-{}", present.uid) == uid)
}
