//! The invariants bite: with one rule broken on purpose the simulation finds it, and finds the right one.

use jiff::Timestamp;
use multimaster::api::status::conditions;
use multimaster::decide::observed::{Observed, Probe, Receiver, Server};
use multimaster::decide::roles::Roles;
use multimaster::decide::step::{Action, PodAction, StartAt, Step};
use multimaster::decide::{Decision, decide};
use multimaster::wire::agent::Origin;

use crate::event::{Event, Fault, Meeting, Scenario};
use crate::invariants::Invariant;
use crate::operator::Decider;
use crate::run::run;
use crate::world::Flaws;

/// Every flaw is found within so many seeds.
const SEEDS: u64 = 500;

fn finds(invariant: Invariant, decider: Decider, flaws: Flaws) {
    finds_in(Scenario::from_seed, invariant, decider, flaws);
}

pub fn finds_in(scenario: fn(u64) -> Scenario, invariant: Invariant, decider: Decider, flaws: Flaws) {
    let mut others = Vec::new();
    for seed in 0..SEEDS {
        match run(&scenario(seed), decider, flaws, false).failure {
            Some(failure) if failure.invariant == invariant => {
                println!("{invariant:?} within {} seeds: {}", seed + 1, failure.text);
                return;
            }
            Some(failure) => others.push(failure.invariant),
            None => {}
        }
    }
    panic!("{invariant:?} was not found to be broken in {SEEDS} seeds, but {others:?}");
}

fn servers(observed: &mut Observed) -> impl Iterator<Item = (u8, &mut Server)> {
    observed
        .members
        .iter_mut()
        .filter_map(|member| match &mut member.server {
            Probe::Reached(server) => Some((member.ordinal, server)),
            _ => None,
        })
}

/// Puts a step in the place of the risky one, where there is none.
fn instead(mut decision: Decision, step: Option<Step>) -> Decision {
    if !decision.steps.iter().any(Step::is_risky) {
        decision.steps.extend(step);
    }
    decision
}

/// A member that is back takes writes at once.
pub fn opens_at_once(observed: &Observed, now: Timestamp) -> Decision {
    let mut decision = decide(observed, now);
    let back = observed.members.iter().find_map(|member| {
        let (server, _) = member.with_data()?;
        let in_ring = !decision.status.member_statuses[usize::from(member.ordinal)].bypassed;
        (server.super_read_only && in_ring).then(|| Step::member(member.ordinal, &server.uuid, Action::Open))
    });
    if decision.status.epoch > 0 && back.is_some() {
        decision.steps.retain(|step| !step.is_risky());
        decision.steps.extend(back);
    }
    decision
}

#[test]
fn i11_a_member_opens_without_its_own_writes() {
    finds(Invariant::I11, opens_at_once, Flaws::default());
}

/// What a disk that was set back would be held against is hidden.
#[test]
fn i2_a_gtid_is_used_again() {
    let flaws = Flaws {
        blind_to: &[Invariant::I11, Invariant::I4],
        trusting: true,
        ..Flaws::default()
    };
    finds(Invariant::I2, opens_at_once, flaws);
}

#[test]
fn i3_a_transaction_is_applied_twice() {
    let flaws = Flaws {
        applies_twice: true,
        ..Flaws::default()
    };
    finds(Invariant::I3, decide, flaws);
}

/// Earlier lives are forgotten.
fn forgets_former_lives(observed: &Observed, now: Timestamp) -> Decision {
    let mut observed = observed.clone();
    for status in observed
        .cluster
        .status
        .iter_mut()
        .flat_map(|status| &mut status.member_statuses)
    {
        status.former_server_uuids.clear();
    }
    for member in &mut observed.members {
        if let Probe::Reached(report) = &mut member.agent {
            report.former_server_uuids.clear();
            // Nothing is waited for.
            let status = observed.cluster.status.as_mut();
            if let Some(status) = status.and_then(|status| status.member_statuses.get_mut(usize::from(member.ordinal)))
            {
                status.server_uuid.clone_from(&report.server_uuid);
                status.catch_up_to = Some(String::new());
            }
        }
    }
    decide(&observed, now)
}

#[test]
fn i4_a_new_life_opens_without_what_earlier_ones_wrote() {
    finds(Invariant::I4, forgets_former_lives, Flaws::default());
}

#[test]
fn i1_a_new_life_with_the_old_server_id_never_sees_what_it_lost() {
    let flaws = Flaws {
        keeps_server_id: true,
        // It would wait for ever to catch up.
        blind_to: &[Invariant::I9],
        ..Flaws::default()
    };
    finds(Invariant::I1, decide, flaws);
}

#[test]
fn i1_a_link_that_starts_from_now_leaves_out_writes() {
    let flaws = Flaws {
        attaches_from_now: true,
        ..Flaws::default()
    };
    finds(Invariant::I1, decide, flaws);
}

/// The rows of the members are compared, not only their GTID sets.
#[test]
fn i5_equal_gtid_sets_with_unequal_rows_are_seen() {
    let flaws = Flaws {
        loses_effects: true,
        blind_to: &[Invariant::I1, Invariant::I8],
        ..Flaws::default()
    };
    finds(Invariant::I5, decide, flaws);
}

/// Labels go to every member that is open, in the ring or not, and nobody is fenced at contact.
pub fn labels_whoever_is_open(observed: &Observed, now: Timestamp) -> Decision {
    let mut decision = not_fenced_at_contact(observed, now);
    for member in &observed.members {
        if let (Some(pod), Some(server)) = (&member.pod, member.server())
            && !server.super_read_only
            && !pod.serving
        {
            let step = Step::pod(member.ordinal, &pod.uid, PodAction::Serve);
            decision.steps.insert(0, step);
        }
    }
    decision
}

#[test]
fn i6_a_bypassed_member_gets_the_label() {
    finds(Invariant::I6, labels_whoever_is_open, Flaws::default());
}

pub fn not_fenced_at_contact(observed: &Observed, now: Timestamp) -> Decision {
    let mut decision = decide(observed, now);
    decision
        .steps
        .retain(|step| !matches!(step.on_member(), Some(Action::Fence)));
    decision
}

#[test]
fn i6_a_bypassed_member_goes_on_taking_writes() {
    finds(Invariant::I6, not_fenced_at_contact, Flaws::default());
}

fn always_ready(observed: &Observed, now: Timestamp) -> Decision {
    let mut decision = decide(observed, now);
    let ready = decision
        .status
        .conditions
        .iter_mut()
        .find(|it| it.type_ == conditions::READY);
    ready.unwrap().status = "True".into();
    decision
}

#[test]
fn i7_ready_is_a_lie() {
    finds(Invariant::I7, always_ready, Flaws::default());
}

/// Ready although a receiver is not connected.
pub fn believes_in_links(observed: &Observed, now: Timestamp) -> Decision {
    let mut believed = observed.clone();
    for channel in servers(&mut believed).flat_map(|(_, server)| &mut server.channels) {
        (channel.receiver, channel.seconds_since_contact) = (Receiver::On, Some(0));
    }
    decide(&believed, now)
}

#[test]
fn i7_a_link_that_is_not_connected_is_believed() {
    finds(Invariant::I7, believes_in_links, Flaws::default());
}

/// A left-over channel goes at once, whatever its relay logs hold.
fn detaches_at_once(observed: &Observed, now: Timestamp) -> Decision {
    let mut believed = observed.clone();
    for (_, server) in servers(&mut believed) {
        for channel in &mut server.channels {
            channel.retrieved = "".parse().unwrap();
        }
    }
    decide(&believed, now)
}

/// A member is slow, and its upstream loses its volume meanwhile.
fn slow_behind_a_lost_volume(seed: u64) -> Scenario {
    let mut scenario = Scenario::from_seed(seed);
    let upstream = u8::try_from(seed % u64::from(scenario.setup.members)).unwrap();
    let member = (upstream + 1) % scenario.setup.members;
    scenario.setup.waits = false;
    scenario.setup.writes = 30;
    let faults = [
        (60, Fault::Slow { member, lasts: 200 }),
        (
            80,
            Fault::LoseVolume {
                member: upstream,
                record_too: true,
            },
        ),
    ];
    scenario.events = faults.map(|(at, fault)| Event { at, fault }).to_vec();
    scenario
}

#[test]
fn i8_a_channel_is_removed_with_its_relay_logs() {
    let flaws = Flaws {
        detaches_unchecked: true,
        ..Flaws::default()
    };
    finds_in(slow_behind_a_lost_volume, Invariant::I8, detaches_at_once, flaws);
}

/// A member that needs a new life is cloned instead.
fn clones_over(observed: &Observed, now: Timestamp) -> Decision {
    let mut decision = decide(observed, now);
    for step in &mut decision.steps {
        if let Step::Member {
            ordinal,
            server_uuid,
            action: Action::NewLife { .. },
        } = step
            && let Some(donor) = Roles::of(observed).ring.downstream(*ordinal)
        {
            *step = Step::member(*ordinal, server_uuid.clone(), Action::Clone { donor });
        }
    }
    decision
}

#[test]
fn i8_a_member_with_data_is_cloned_over() {
    let flaws = Flaws {
        clones_over_data: true,
        ..Flaws::default()
    };
    finds(Invariant::I8, clones_over, flaws);
}

pub fn never_starts(observed: &Observed, now: Timestamp) -> Decision {
    let mut decision = decide(observed, now);
    decision
        .steps
        .retain(|step| !matches!(step.on_member(), Some(Action::Start { .. })));
    decision
}

#[test]
fn i9_a_link_that_was_stopped_by_hand_stays_so() {
    finds(Invariant::I9, never_starts, Flaws::default());
}

/// What a conflict step has left is not looked at.
pub fn never_restores(observed: &Observed, now: Timestamp) -> Decision {
    let mut believed = observed.clone();
    for (_, server) in servers(&mut believed) {
        (server.idempotent, server.half_fenced) = (false, false);
    }
    decide(&believed, now)
}

#[test]
fn i12_an_applier_is_started_that_overwrites_what_is_in_its_way() {
    finds(Invariant::I12, never_restores, Flaws::default());
}

/// An empty member is declared a founder whatever the epoch.
pub fn founds_late(observed: &Observed, now: Timestamp) -> Decision {
    let mut decision = decide(observed, now);
    for step in &mut decision.steps {
        if let Step::Member {
            ordinal,
            server_uuid,
            action: Action::Clone { .. },
        } = step
        {
            *step = Step::member(*ordinal, server_uuid.clone(), Action::Found);
        }
    }
    decision
}

#[test]
fn an_empty_member_is_founded_late() {
    finds(Invariant::Founding, founds_late, Flaws::default());
}

/// A failed probe is enough.
pub fn without_witnesses(observed: &Observed, now: Timestamp) -> Decision {
    let mut believed = observed.clone();
    for member in &mut believed.members {
        if matches!(member.server, Probe::Unreachable(_)) {
            member.pod.iter_mut().for_each(|pod| pod.ready = false);
            member.witness_probes.clear();
        }
    }
    for channel in servers(&mut believed).flat_map(|(_, server)| &mut server.channels) {
        channel.seconds_since_contact = Some(5);
    }
    decide(&believed, now)
}

#[test]
fn a_member_is_bypassed_on_the_word_of_the_operator_alone() {
    finds(Invariant::Witnesses, without_witnesses, Flaws::default());
}

/// Two risky steps in one pass.
fn hasty(observed: &Observed, now: Timestamp) -> Decision {
    let mut decision = decide(observed, now);
    let again: Vec<Step> = decision.steps.iter().filter(|step| step.is_risky()).cloned().collect();
    decision.steps.extend(again);
    decision
}

#[test]
fn two_risky_steps_are_noticed() {
    finds(Invariant::Caution, hasty, Flaws::default());
}

/// The epoch stays what it was when the ring changes.
pub fn forgets_epochs(observed: &Observed, now: Timestamp) -> Decision {
    let mut decision = decide(observed, now);
    let before = observed.epoch();
    if before > 0 {
        decision.status.epoch = before;
    }
    decision
}

#[test]
fn a_change_of_the_ring_without_an_epoch_is_noticed() {
    finds(Invariant::Caution, forgets_epochs, Flaws::default());
}

/// A channel is created again over one that is there.
pub fn points_channels_again(observed: &Observed, now: Timestamp) -> Decision {
    let attach = observed.members.iter().find_map(|member| {
        let server = member
            .server()
            .filter(|_| member.report().is_some_and(|report| report.origin != Origin::Empty))?;
        let upstream = Roles::of(observed).ring.upstream(member.ordinal)?;
        member.link(upstream).filter(|link| link.receiver == Receiver::Off)?;
        Some(Step::member(
            member.ordinal,
            &server.uuid,
            Action::Attach {
                upstream,
                start: StartAt::AutoPosition,
            },
        ))
    });
    let mut decision = decide(observed, now);
    if attach.is_some() {
        decision.steps.retain(|step| !step.is_risky());
    }
    instead(decision, attach)
}

#[test]
fn i9_a_channel_that_exists_is_never_pointed_anew() {
    finds(Invariant::I9, points_channels_again, Flaws::default());
}

/// An applier that a lock has stopped is left alone, as if a person had to decide something.
pub fn never_tries_again(observed: &Observed, now: Timestamp) -> Decision {
    let mut decision = decide(observed, now);
    let is_interrupted = |ordinal, upstream| {
        let link = observed.member(ordinal).and_then(|member| member.link(upstream));
        link.is_some_and(|link| link.interruption().is_some())
    };
    decision.steps.retain(|step| match (step.ordinal(), step.on_member()) {
        (Some(ordinal), Some(Action::Start { upstream })) => !is_interrupted(ordinal, *upstream),
        _ => true,
    });
    decision
}

#[test]
fn i9_an_applier_that_met_a_lock_stands_for_ever() {
    finds(Invariant::I9, never_tries_again, Flaws::default());
}

#[test]
fn rows_are_lost_where_what_is_in_conflict_is_deleted() {
    let flaws = Flaws {
        deletes_all: true,
        ..Flaws::default()
    };
    finds(Invariant::Rows, decide, flaws);
}

#[test]
fn i5_a_conflict_is_settled_whatever_the_rows_are() {
    let flaws = Flaws {
        settles_unequal: true,
        ..Flaws::default()
    };
    finds(Invariant::I5, decide, flaws);
}

#[test]
fn i5_rows_are_compared_while_a_late_write_is_in_flight() {
    let flaws = Flaws {
        settles_early: true,
        ..Flaws::default()
    };
    finds_in(late_write, Invariant::I5, decide, flaws);
}

/// The late write is slow to be applied at the member that wins.
fn late_write(seed: u64) -> Scenario {
    let mut scenario = Scenario::from_seed(seed);
    (scenario.setup.halts, scenario.setup.single, scenario.setup.prefers) = (false, false, 0);
    let (first, second, kind) = (0, 1, Meeting::InsertsAndDeletes);
    let slow = Fault::Slow { member: 0, lasts: 100 };
    let faults = [(99, slow), (100, Fault::Conflict { first, second, kind })];
    scenario.events = faults.map(|(at, fault)| Event { at, fault }).into();
    scenario
}

/// Three members insert one row.
fn three_inserts(seed: u64) -> Scenario {
    let mut scenario = Scenario::from_seed(seed);
    (scenario.setup.halts, scenario.setup.single) = (false, false);
    let (first, second, kind) = (0, 1, Meeting::ThreeInserts);
    let at = 100 + seed;
    let fault = Fault::Conflict { first, second, kind };
    scenario.events = vec![Event { at, fault }];
    scenario
}

#[test]
fn the_row_of_a_loser_that_was_written_again_is_taken_for_the_winners() {
    let flaws = Flaws {
        believes_losers: true,
        ..Flaws::default()
    };
    finds_in(three_inserts, Invariant::Winner, decide, flaws);
}

fn says_conflict_free(observed: &Observed, now: Timestamp) -> Decision {
    let mut decision = decide(observed, now);
    let mut conditions = decision.status.conditions.iter_mut();
    if let Some(free) = conditions.find(|it| it.type_ == conditions::CONFLICT_FREE) {
        free.status = "True".into();
    }
    decision
}

#[test]
fn conflict_free_is_said_while_a_conflict_is_open() {
    finds(Invariant::ConflictFree, says_conflict_free, Flaws::default());
}
