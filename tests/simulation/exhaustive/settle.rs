//! From every world in which nothing lasts and nothing moves the ring must become whole.
//!
//! Without new faults one order of events is fair to all: what moves by itself moves, then the leader carries out its decision, then it looks again.
//! Every world comes to rest on that way, and every world on it is explored too: so only those at rest have to be tried, and only up to
//! one from which the ring is known to become whole.

use std::collections::HashSet;

use crate::exhaustive::canonical::digest;
use crate::exhaustive::state::{Action, act, is_passing, late, movements};
use crate::invariants::Invariant;
use crate::world::World;

/// Far more than any world moves by itself before it rests.
const MOVEMENTS: u32 = 200;

pub fn is_at_rest(world: &World) -> bool {
    world.ending.is_empty() && !is_passing(world) && late(world).is_none() && movements(world).is_empty()
}

/// Goes on until the leader finds nothing to do and nothing changes any more, or it goes round in circles; then judges the end. `known` are worlds
/// that were found to end well.
pub fn settle(world: &mut World, known: &mut HashSet<u64>) {
    let mut seen = Vec::new();
    while rest(world) {
        let present = digest(world);
        if known.contains(&present) {
            break;
        }
        if let Some(at) = seen.iter().position(|earlier| *earlier == present) {
            let stays = at + 1 == seen.len() && world.judge.quiet > 0;
            world.judge_end(stays);
            break;
        }
        seen.push(present);
        act(world, Action::Look);
    }
    if world.judge.failure.is_none() {
        known.extend(seen);
    }
}

/// Until nothing moves and the pass is over. False if something is broken.
fn rest(world: &mut World) -> bool {
    for _ in 0..MOVEMENTS {
        if world.judge.failure.is_some() {
            return false;
        }
        let next = movements(world).first().copied();
        match next.or(is_passing(world).then_some(Action::Effect)) {
            Some(action) => act(world, action),
            None => return true,
        }
    }
    world.fail(Invariant::I9, || "it never comes to rest".into());
    false
}
