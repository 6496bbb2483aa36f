//! One run of one scenario, and the smallest scenario that fails in the same way.

use std::collections::{BTreeMap, HashSet};

use crate::event::{Event, Scenario};
use crate::invariants::Failure;
use crate::model::member::SECOND;
use crate::operator::Decider;
use crate::world::{Flaws, World};

/// A ring is given so long to become whole after the last fault, and longer if members are held out.
const SETTLES_WITHIN: u64 = 150 * SECOND;

pub struct Outcome {
    pub failure: Option<Failure>,
    pub coverage: HashSet<u64>,
    pub passes: u64,
    pub steps: BTreeMap<String, u64>,
    /// It ended with a ring that is not whole, and a good reason.
    pub open: Option<&'static str>,
    pub transactions: usize,
    pub tainted: bool,
    pub trace: Vec<String>,
}

pub fn run(scenario: &Scenario, decider: Decider, flaws: Flaws, traced: bool) -> Outcome {
    let mut world = World::new(scenario.setup, decider, flaws, traced);
    let mut calm_since = None;
    let mut quiet = false;
    while world.judge.failure.is_none() {
        world.tick(scenario);
        if !world.is_calm(scenario) {
            calm_since = None;
            continue;
        }
        let since = *calm_since.get_or_insert(world.now);
        // Figures are recorded every five seconds; who has nothing to do for longer stays so.
        quiet = world.judge.quiet > 0 && world.now - world.judge.quiet_since.max(since) > 6 * SECOND;
        let status = world.cluster.status.as_ref();
        let ready = status.is_some_and(|status| status.ready_members == scenario.setup.members);
        if (quiet && ready) || world.now - since > SETTLES_WITHIN {
            break;
        }
    }
    world.judge_end(quiet);
    Outcome {
        failure: world.judge.failure,
        coverage: world.judge.coverage,
        passes: world.judge.passes,
        steps: world.judge.steps,
        open: world.judge.open,
        transactions: world.ledger.transactions.len(),
        tainted: world.judge.tainted,
        trace: world.trace.unwrap_or_default(),
    }
}

/// Leaves out events, as long as the same invariant is still broken.
pub fn shrink(scenario: &Scenario, failure: &Failure, decider: Decider, flaws: Flaws) -> Scenario {
    let fails = |events: &[Event]| {
        let smaller = Scenario {
            setup: scenario.setup,
            events: events.to_vec(),
        };
        let outcome = run(&smaller, decider, flaws, false);
        outcome.failure.is_some_and(|it| it.invariant == failure.invariant)
    };
    let mut events = scenario.events.clone();
    let mut size = events.len().div_ceil(2);
    while size > 0 {
        let mut at = 0;
        while at < events.len() {
            let mut fewer = events.clone();
            fewer.drain(at..(at + size).min(events.len()));
            match fails(&fewer) {
                true => events = fewer,
                false => at += size,
            }
        }
        size /= 2;
    }
    Scenario {
        setup: scenario.setup,
        events,
    }
}
