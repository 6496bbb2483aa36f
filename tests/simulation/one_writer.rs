//! `writes: SingleWriter`: with a rule broken on purpose two members take writes.

use jiff::{SignedDuration, Timestamp};
use multimaster::decide::observed::{Member, Observed};
use multimaster::decide::{Decision, decide};

use crate::event::{Event, Fault, Scenario};
use crate::invariants::Invariant;
use crate::model::member::SECOND;
use crate::mutations::finds_in;
use crate::world::Flaws;

fn single(seed: u64) -> Scenario {
    let mut scenario = Scenario::from_seed(seed);
    scenario.setup.single = true;
    scenario
}

/// A member that does not answer is taken for one whose lease has ended.
fn does_not_wait(observed: &Observed, now: Timestamp) -> Decision {
    let mut observed = observed.clone();
    for member in &mut observed.members {
        member.since_contact = SignedDuration::MAX;
    }
    decide(&forgetting_confirmations(observed, |_| true), now)
}

/// Every member that does not answer is taken for one that was fenced when it last did.
fn takes_silence_for_a_fence(observed: &Observed, now: Timestamp) -> Decision {
    let mut observed = observed.clone();
    for member in &mut observed.members {
        member.last_seen_fenced = member.server().is_none();
    }
    decide(&observed, now)
}

/// That others may have confirmed the writer before is not asked for.
fn forgets_confirmations(observed: &Observed, now: Timestamp) -> Decision {
    decide(&forgetting_confirmations(observed.clone(), |_| true), now)
}

/// Nor of those that the operator does not reach.
fn forgets_the_silent(observed: &Observed, now: Timestamp) -> Decision {
    let silent = |member: &Member| member.report().is_none();
    decide(&forgetting_confirmations(observed.clone(), silent), now)
}

fn forgetting_confirmations(mut observed: Observed, of: fn(&Member) -> bool) -> Observed {
    for member in observed.members.iter_mut().filter(|member| of(member)) {
        member.since_confirmed = SignedDuration::MAX;
    }
    observed
}

#[test]
fn a_new_writer_does_not_wait_for_the_lease_of_the_old_one() {
    finds_in(single, Invariant::OneWriter, does_not_wait, Flaws::default());
}

#[test]
fn a_new_writer_takes_silence_for_a_fence() {
    finds_in(
        single,
        Invariant::OneWriter,
        takes_silence_for_a_fence,
        Flaws::default(),
    );
}

/// The first writer is out of the operators' reach, and the others confirm it; later it is cut off from these too.
fn cut_off_twice(seed: u64) -> Scenario {
    let (member, mut scenario) = (0, single(seed));
    let operators = [0, 1].map(|operator| Fault::CutOperator {
        operator,
        member: Some(member),
        lasts: 30 * SECOND,
    });
    let isolate = Fault::Isolate {
        member,
        operators: true,
        lasts: 20 * SECOND,
    };
    let at = |seconds: u64| {
        move |fault| Event {
            at: seconds * SECOND,
            fault,
        }
    };
    scenario.events = operators.map(at(10)).into_iter().chain([at(25)(isolate)]).collect();
    scenario.setup.faults_until = 30 * SECOND;
    scenario
}

#[test]
fn a_new_writer_forgets_whom_it_has_confirmed() {
    finds_in(
        cut_off_twice,
        Invariant::OneWriter,
        forgets_confirmations,
        Flaws::default(),
    );
}

/// The operators reach one reader and nobody else, and the writer reaches the other one.
fn cut_in_two(seed: u64) -> Scenario {
    let mut scenario = single(seed);
    let lasts = 30 * SECOND;
    let cut = (0..2).flat_map(|operator| {
        [0, 2].map(|member| Fault::CutOperator {
            operator,
            member: Some(member),
            lasts,
        })
    });
    let alone = Fault::Isolate {
        member: 1,
        operators: false,
        lasts,
    };
    let event = |fault| Event { at: 12 * SECOND, fault };
    scenario.setup.members = 3;
    scenario.events = cut.chain([alone]).map(event).collect();
    scenario.setup.faults_until = 45 * SECOND;
    scenario
}

#[test]
fn a_new_writer_forgets_those_whom_the_operator_does_not_reach() {
    finds_in(cut_in_two, Invariant::OneWriter, forgets_the_silent, Flaws::default());
    for seed in 0..50 {
        let outcome = crate::run::run(&cut_in_two(seed), decide, Flaws::default(), false);
        assert!(outcome.failure.is_none(), "{seed}: {:?}", outcome.failure);
    }
}

#[test]
fn a_writer_needs_every_voter() {
    let flaws = Flaws {
        asks_all: true,
        ..Flaws::default()
    };
    finds_in(single, Invariant::HealthyWriter, decide, flaws);
}

#[test]
fn agents_do_not_enforce_the_lease() {
    let flaws = Flaws {
        keeps_writing: true,
        ..Flaws::default()
    };
    finds_in(single, Invariant::OneWriter, decide, flaws);
}

/// With the rules as they are many seeds in which one member takes the writes keep all invariants.
#[test]
fn every_seed_with_one_writer_keeps_the_invariants() {
    for seed in 0..600 {
        let outcome = crate::run::run(&single(seed), decide, Flaws::default(), false);
        if let Some(failure) = outcome.failure {
            let smallest = crate::run::shrink(&single(seed), &failure, decide, Flaws::default());
            let trace = crate::run::run(&smallest, decide, Flaws::default(), true).trace;
            panic!(
                "seed {seed} breaks {failure:?}\n{:?}\n{}",
                smallest.setup,
                trace.join("\n")
            );
        }
    }
}
