//! With one rule broken on purpose the exhaustive run finds it, and finds the right invariant broken.

use crate::event::Fault;
use crate::exhaustive::state::{Bounds, UNTIL_IT_IS_OVER};
use crate::exhaustive::{explore, rings};
use crate::invariants::Invariant;
use crate::mutations;
use crate::operator::Decider;

const LOST_VOLUME: Fault = Fault::LoseVolume {
    member: 1,
    record_too: true,
};
const SET_BACK: Fault = Fault::SetBack { member: 0 };
const STOPPED: Fault = Fault::StopThreads {
    member: 1,
    receivers: true,
    appliers: true,
};
const CUT_SESSION: Fault = Fault::CutSession { member: 1 };
const LOST_NODE: Fault = Fault::LoseNode {
    member: 1,
    lasts: UNTIL_IT_IS_OVER,
};
const CUT: Fault = Fault::Cut {
    from: 1,
    to: 0,
    lasts: UNTIL_IT_IS_OVER,
};
const ISOLATED: Fault = Fault::Isolate {
    member: 1,
    operators: true,
    lasts: UNTIL_IT_IS_OVER,
};

fn finds(invariant: Invariant, decider: Decider, fault: Fault) {
    let bounds = Bounds { faults: 1, writes: 0 };
    let broken = explore(rings(decider, bounds, vec![fault]));
    let (found, text) = broken.expect("nothing is found to be broken");
    assert_eq!(found, invariant, "{text}");
}

#[test]
fn finds_a_member_that_opens_without_its_own_writes() {
    finds(Invariant::I11, mutations::opens_at_once, SET_BACK);
}

#[test]
fn finds_a_link_that_stays_stopped() {
    finds(Invariant::I9, mutations::never_starts, STOPPED);
}

#[test]
fn finds_an_applier_that_overwrites() {
    finds(Invariant::I12, mutations::never_restores, CUT_SESSION);
}

#[test]
fn finds_an_epoch_that_is_forgotten() {
    finds(Invariant::Caution, mutations::forgets_epochs, LOST_NODE);
}

#[test]
fn finds_a_founder_at_a_late_epoch() {
    finds(Invariant::Founding, mutations::founds_late, LOST_VOLUME);
}

#[test]
fn finds_a_label_outside_the_ring() {
    finds(Invariant::I6, mutations::labels_whoever_is_open, ISOLATED);
}

#[test]
fn finds_a_bypassed_member_that_goes_on_taking_writes() {
    finds(Invariant::I6, mutations::not_fenced_at_contact, ISOLATED);
}

#[test]
fn finds_a_link_that_is_believed() {
    finds(Invariant::I7, mutations::believes_in_links, CUT);
}

#[test]
fn finds_a_bypass_without_a_witness() {
    let cut = Fault::CutOperator {
        operator: 0,
        member: Some(1),
        lasts: UNTIL_IT_IS_OVER,
    };
    finds(Invariant::Witnesses, mutations::without_witnesses, cut);
}

#[test]
fn finds_a_channel_that_is_pointed_anew() {
    finds(Invariant::I9, mutations::points_channels_again, STOPPED);
}
