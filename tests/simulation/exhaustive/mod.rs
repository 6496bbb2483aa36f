//! Small scopes, exhaustively: three members, a few faults and writes at any moment, and every order in which faults, effects of the operator,
//! messages, starts and crashes can follow each other, for as long as it takes. From every world that comes to rest the ring must become whole.
//!
//! `make exhaustive EXHAUSTIVE=faults,writes,kinds` has other bounds; with `WITHIN=seconds` it says how far it came by then.
//! Coarser than in the runs from seeds: two seconds pass between two looks and none within a pass, receivers and appliers move all there is,
//! and a node that is away is so for less than the forty seconds after which Kubernetes notices.

mod canonical;
mod mutations;
mod settle;
mod state;

use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use multimaster::decide::decide;
use stateright::{Checker, HasDiscoveries, Model, Property};

use crate::event::{Fault, Setup};
use crate::invariants::Invariant;
use crate::operator::Decider;
use crate::world::{Flaws, World};
use crate::{say, variable};
use settle::{is_at_rest, settle};
use state::{Action, Bounds, KINDS, State, faults, insert};

/// What an ordinary test run explores, with all kinds of faults.
const BOUNDS: Bounds = Bounds { faults: 1, writes: 0 };

const SETUP: Setup = Setup {
    seed: 0,
    members: 3,
    waits: false,
    period: 1,
    bypass_after: 3,
    hold_out: 0,
    fences: false,
    single: false,
    halts: true,
    prefers: 0,
    writes: 0,
    faults_until: 0,
};

/// A ring of three that is whole, and what may befall it.
#[derive(Clone)]
struct Rings {
    decider: Decider,
    bounds: Bounds,
    faults: Vec<Fault>,
    /// No world is gone on from after that.
    until: Arc<Mutex<Option<Instant>>>,
    /// Worlds at rest from which the ring becomes whole.
    known: Arc<Mutex<HashSet<u64>>>,
}

impl Rings {
    /// An older copy of every volume, and a write at each member since.
    fn whole(&self) -> World {
        let mut world = World::new(SETUP, self.decider, Flaws::default(), false);
        settle(&mut world, &mut HashSet::new());
        for member in 0..SETUP.members {
            world.begin(Fault::Snapshot { member });
            insert(&mut world, member);
        }
        settle(&mut world, &mut HashSet::new());
        world
    }
}

impl Model for Rings {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State {
            world: self.whole(),
            left: self.bounds,
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        if !is_over(*self.until.lock().unwrap()) {
            state.actions(&self.faults, actions);
        }
    }

    fn next_state(&self, state: &State, action: Action) -> Option<State> {
        let mut next = state.clone();
        next.act(action);
        if next.world.judge.failure.is_none() && is_at_rest(&next.world) {
            let mut end = next.world.clone();
            settle(&mut end, &mut self.known.lock().unwrap());
            next.world.judge.failure = end.judge.failure;
        }
        Some(next)
    }

    /// One for each invariant. I5 and I9, the ring that becomes whole and equal, are judged where everything else is over.
    fn properties(&self) -> Vec<Property<Self>> {
        macro_rules! always {
            ($($invariant:ident)*) => {
                vec![$(Property::always(stringify!($invariant), |_, state: &State| !state.breaks(Invariant::$invariant))),*]
            };
        }
        always!(I1 I2 I3 I4 I5 I6 I7 I8 I9 I11 I12 Founding Witnesses Caution)
    }
}

fn is_over(until: Option<Instant>) -> bool {
    until.is_some_and(|until| Instant::now() >= until)
}

/// Explores until something is broken: what, and how.
fn explore(rings: Rings) -> Option<(Invariant, String)> {
    let (began, bounds, known) = (Instant::now(), rings.bounds, Arc::clone(&rings.known));
    let (until, faults) = (Arc::clone(&rings.until), rings.faults.len());
    let checker = rings.checker().finish_when(HasDiscoveries::Any).spawn_bfs().join();
    let (depth, cut) = (checker.max_depth() - 1, is_over(*until.lock().unwrap()));
    // How something was broken is found out by doing it again.
    *until.lock().unwrap() = None;
    let found = checker.discoveries().into_values().next();
    let all = match &found {
        Some(_) => "up to the first in which something is broken".to_owned(),
        None if cut => format!("all within {} actions", depth.saturating_sub(1)),
        None => format!("all there are, the last after {depth} actions"),
    };
    say(&format!(
        "{bounds:?} of {faults}: {} distinct worlds in {} steps, {all}; the ring becomes whole from {} worlds at rest; {:.1} s",
        checker.unique_state_count(),
        checker.state_count(),
        known.lock().unwrap().len(),
        began.elapsed().as_secs_f64(),
    ));
    let path = found?;
    let failure = path.last_state().world.judge.failure.clone()?;
    let text = format!("{}\n{:?}", failure.text, path.into_actions());
    Some((failure.invariant, text))
}

fn rings(decider: Decider, bounds: Bounds, faults: Vec<Fault>) -> Rings {
    Rings {
        decider,
        bounds,
        faults,
        until: Arc::default(),
        known: Arc::default(),
    }
}

/// What `EXHAUSTIVE` asks for: so many faults, of the first so many kinds, and so many writes.
fn asked() -> (Bounds, usize) {
    let text = std::env::var("EXHAUSTIVE").unwrap_or_default();
    let numbers: Vec<u8> = text.split(',').filter_map(|number| number.parse().ok()).collect();
    match numbers[..] {
        _ if text.is_empty() => (BOUNDS, KINDS.len()),
        [faults, writes, kinds] => (Bounds { faults, writes }, usize::from(kinds).min(KINDS.len())),
        _ => panic!("EXHAUSTIVE is faults,writes,kinds, three small numbers, and not {text}"),
    }
}

#[test]
fn every_order_in_small_scopes() {
    let (bounds, kinds) = asked();
    let rings = rings(decide, bounds, faults(&KINDS[..kinds]));
    *rings.until.lock().unwrap() = variable("WITHIN").map(|seconds| Instant::now() + Duration::from_secs(seconds));
    if let Some((invariant, text)) = explore(rings) {
        panic!("{invariant:?} is broken: {text}");
    }
}
