//! A world in which each thing that can happen next is an action.

use std::hash::{Hash, Hasher};

use crate::event::{Event, Fault};
use crate::exhaustive::canonical::digest;
use crate::invariants::Invariant;
use crate::model::member::{Frozen, Mysqld, Order, SECOND, Statement};
use crate::model::replication::{Pace, replicate};
use crate::operator::Effect;
use crate::world::World;
use multimaster::names::LABEL_READS;

/// The end of a fault, if it does not end by itself, is an action too.
pub const UNTIL_IT_IS_OVER: u64 = u64::MAX / 4;
/// More than there ever is to move.
const ALL: usize = 1000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Two seconds pass; the leader looks at everything, and decides.
    Look,
    /// The leader carries out the next effect of its decision.
    Effect,
    /// The leader ends; the other one leads.
    LeaderDies,
    /// The leader stands still in front of an effect; the other one leads.
    LeaderStalls,
    /// Who stood still goes on.
    GoesOnTooLate,
    /// The kubelet, the agent, or the start of mysqld of a member gets one further.
    Wake(u8),
    /// The receivers of a member connect, and get all there is.
    Receive(u8),
    /// The appliers of a member apply all there is.
    Apply(u8),
    Write(u8),
    Begin(Fault),
    /// The fault that began so many before the last is over.
    End(usize),
}

/// How much may happen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Bounds {
    pub faults: u8,
    pub writes: u8,
}

#[derive(Clone)]
pub struct State {
    pub world: World,
    pub left: Bounds,
}

impl Hash for State {
    fn hash<H: Hasher>(&self, to: &mut H) {
        (self.left, &self.world).hash(to);
    }
}

/// As the checker takes states for the same.
impl PartialEq for State {
    fn eq(&self, other: &Self) -> bool {
        self.left == other.left && digest(&self.world) == digest(&other.world)
    }
}

impl State {
    pub fn breaks(&self, invariant: Invariant) -> bool {
        let failure = self.world.judge.failure.as_ref();
        failure.is_some_and(|failure| failure.invariant == invariant)
    }

    pub fn actions(&self, faults: &[Fault], actions: &mut Vec<Action>) {
        let world = &self.world;
        if world.judge.failure.is_some() {
            return;
        }
        let passing = is_passing(world);
        actions.push(if passing { Action::Effect } else { Action::Look });
        actions.extend(movements(world));
        actions.extend((0..world.ending.len()).map(Action::End));
        if late(world).is_some() {
            actions.push(Action::GoesOnTooLate);
        }
        if self.left.writes > 0 {
            let writable = world.members.iter().filter(|member| member.takes_writes());
            actions.extend(writable.map(|member| Action::Write(member.ordinal)));
        }
        if self.left.faults > 0 {
            let possible = faults.iter().filter(|fault| is_possible(world, **fault));
            actions.extend(possible.map(|fault| Action::Begin(*fault)));
            if passing {
                actions.push(Action::LeaderDies);
                actions.extend(late(world).is_none().then_some(Action::LeaderStalls));
            }
        }
    }

    pub fn act(&mut self, action: Action) {
        match action {
            Action::LeaderDies | Action::LeaderStalls | Action::Begin(_) => self.left.faults -= 1,
            Action::Write(_) => self.left.writes -= 1,
            _ => {}
        }
        act(&mut self.world, action);
    }
}

pub fn is_passing(world: &World) -> bool {
    world
        .leader
        .is_some_and(|leader| world.operators[leader].pass.is_some())
}

/// The operator that does not lead any more, and stands still in the middle of a pass.
pub fn late(world: &World) -> Option<usize> {
    let leader = world.leader?;
    world.operators[1 - leader].pass.as_ref().map(|_| 1 - leader)
}

/// What happens without operators, clients and faults.
pub fn movements(world: &World) -> Vec<Action> {
    let of = |member: u8| {
        let at = usize::from(member);
        let movements = [
            (wakes(world, at), Action::Wake(member)),
            (receives(world, at), Action::Receive(member)),
            (applies(world, at), Action::Apply(member)),
        ];
        movements.into_iter().filter_map(|(can, action)| can.then_some(action))
    };
    (0..world.setup.members).flat_map(of).collect()
}

fn wakes(world: &World, at: usize) -> bool {
    let member = &world.members[at];
    let Some(pod) = &member.pod else { return true };
    let stands = member.node_down || member.frozen == Frozen::Node;
    let starts = member.mysqld != Mysqld::Running || member.cloning.is_some();
    !stands && (pod.ends_at.is_some() || (starts && member.frozen == Frozen::No))
}

fn receives(world: &World, at: usize) -> bool {
    let member = &world.members[at];
    let channels = member.data().into_iter().flat_map(|data| &data.channels);
    member.answers()
        && channels.filter(|channel| channel.receiver).any(|channel| {
            let source = &world.members[usize::from(channel.upstream)];
            let reached = world.cut[at][usize::from(channel.upstream)] == 0 && source.answers();
            let more = |cursor: usize| source.data().is_some_and(|data| cursor < data.binary_log.len());
            let connection = channel.connection.as_ref();
            reached && connection.is_none_or(|it| it.boot != source.boot || more(it.cursor))
        })
}

fn applies(world: &World, at: usize) -> bool {
    let member = &world.members[at];
    let mut channels = member.data().into_iter().flat_map(|data| &data.channels);
    member.answers() && channels.any(|channel| channel.applier && !channel.relay_log.is_empty())
}

pub fn act(world: &mut World, action: Action) {
    match action {
        Action::Look => look(world),
        Action::Effect => {
            if let Some(leader) = world.leader {
                world.go_one_further(leader);
                go_past_checks(world, leader);
            }
        }
        Action::LeaderDies => {
            if let Some(leader) = world.leader {
                world.operator_ends(leader);
                world.leader = Some(1 - leader);
            }
        }
        Action::LeaderStalls => world.leader = world.leader.map(|leader| 1 - leader),
        Action::GoesOnTooLate => {
            if let Some(at) = late(world) {
                world.goes_on_too_late(at);
            }
        }
        Action::Wake(member) => world.kubelet(usize::from(member)),
        Action::Receive(member) => move_transactions(world, member, ALL, 0),
        Action::Apply(member) => move_transactions(world, member, 0, ALL),
        Action::Write(member) => insert(world, member),
        Action::Begin(fault) => world.begin(fault),
        Action::End(at) => {
            let Event { fault, .. } = world.ending.remove(at);
            world.end(fault);
        }
    }
    hasten(world);
}

/// Time passes between looks: heartbeats are heard, probes of the kubelet are made.
fn look(world: &mut World) {
    let leader = *world.leader.get_or_insert(0);
    world.now += 2 * SECOND;
    for member in 0..world.setup.members {
        move_transactions(world, member, 0, 0);
        if !world.members[usize::from(member)].node_down {
            world.readiness(usize::from(member));
        }
    }
    world.begin_pass(leader);
    (world.judge.coverage, world.judge.steps) = Default::default();
    world.watch();
    go_past_checks(world, leader);
}

/// What changes nothing, and what can only turn out differently later if the session is gone by then, is no action of its own.
fn go_past_checks(world: &mut World, leader: usize) {
    while let Some(pass) = &world.operators[leader].pass {
        match pass.effects.front() {
            None
            | Some(
                Effect::Fresh
                // Here nothing rests on the label for reads but itself and Ready: no member is restarted.
                | Effect::Label { label: LABEL_READS, .. }
                | Effect::Sql {
                    statement: Statement::SameLife(_) | Statement::KillClients,
                    ..
                },
            ) => world.go_one_further(leader),
            Some(_) => return,
        }
    }
}

pub fn insert(world: &mut World, member: u8) {
    let data = world.members[usize::from(member)].data();
    if let Some(row) = data.map(|data| data.next_row(member)) {
        world.commit(member, row, true);
    }
}

fn move_transactions(world: &mut World, member: u8, received: usize, applied: usize) {
    let pace = Pace {
        received,
        applied,
        locked: false,
        applies_twice: world.flaws.applies_twice,
        loses_effects: world.flaws.loses_effects,
    };
    let cut = world.cut[usize::from(member)];
    let reaches = move |upstream: u8| cut[usize::from(upstream)] == 0;
    let (at, now) = (usize::from(member), world.now);
    replicate(&mut world.members, at, &reaches, pace, now, &world.ledger);
}

/// Whatever is due later may come at any time.
fn hasten(world: &mut World) {
    for member in &mut world.members {
        member.next_pod_at = 0;
        if let Some(pod) = &mut member.pod {
            pod.runs_at = 0;
            pod.ends_at = pod.ends_at.map(|_| 0);
        }
        if let Mysqld::Starting { at, .. } = &mut member.mysqld {
            *at = 0;
        }
        if let Some(cloning) = &mut member.cloning {
            cloning.until = 0;
        }
        if let Some(record) = &mut member.disk.record {
            record.clone_ordered_at = None;
        }
    }
    for operator in &mut world.operators {
        operator.runs_at = 0;
        for effect in operator.pass.iter_mut().flat_map(|pass| &mut pass.effects) {
            if let Effect::Order {
                order: Order::Clone { takes, .. },
                ..
            } = effect
            {
                *takes = 0;
            }
        }
    }
}

fn is_possible(world: &World, fault: Fault) -> bool {
    let member = |member: u8| &world.members[usize::from(member)];
    match fault {
        Fault::CrashMysqld { member: at } | Fault::Freeze { member: at, .. } => {
            member(at).mysqld != Mysqld::Down && member(at).frozen == Frozen::No
        }
        Fault::LoseNode { member: at, .. } => !member(at).node_down,
        Fault::DeletePod { member: at } => member(at).pod.as_ref().is_some_and(|pod| pod.ends_at.is_none()),
        Fault::LoseVolume { member: at, .. } => member(at).disk.data.is_some(),
        Fault::SetBack { member: at } => member(at).snapshot.is_some(),
        Fault::StopThreads { member: at, .. } | Fault::CutSession { member: at } => member(at).answers(),
        Fault::Isolate { .. } | Fault::Cut { .. } | Fault::CutOperator { .. } => {
            world.ending.iter().all(|event| event.fault != fault)
        }
        _ => true,
    }
}

/// Every fault of these kinds that can befall one of three members.
pub fn faults(kinds: &[fn(u8) -> Fault]) -> Vec<Fault> {
    let of = |member: u8| kinds.iter().map(move |kind| kind(member));
    (0..3).flat_map(of).collect()
}

/// Beside the leader's death and its standing still, which are always possible. Those that lead to fewer worlds come first.
pub const KINDS: [fn(u8) -> Fault; 9] = [
    |member| Fault::StopThreads {
        member,
        receivers: true,
        appliers: true,
    },
    |member| Fault::CrashMysqld { member },
    |member| Fault::CutSession { member },
    |member| Fault::DeletePod { member },
    |member| Fault::LoseVolume {
        member,
        record_too: true,
    },
    |member| Fault::LoseNode {
        member,
        lasts: UNTIL_IT_IS_OVER,
    },
    |member| Fault::SetBack { member },
    |member| Fault::Freeze {
        member,
        node: false,
        lasts: UNTIL_IT_IS_OVER,
    },
    |member| Fault::Isolate {
        member,
        operators: true,
        lasts: UNTIL_IT_IS_OVER,
    },
];
