//! A new image or configuration reaches the members one at a time.

use multimaster::api::status::Phase;
use multimaster::decide::decide;
use multimaster::decide::observed::{Probe, Receiver};
use multimaster::decide::step::Step;

use crate::fixture::{at, fence, link, new, pod, steps, whole};

#[test]
fn the_highest_outdated_member_goes_first_and_only_from_a_whole_ring() {
    let mut observed = whole();
    observed.update_revision = Some("b".into());
    let decision = decide(&observed, at(60));
    assert!(
        matches!(steps(&decision)[..], [Step::Restart { ordinal: 2, .. }]),
        "{:?}",
        decision.steps
    );
    assert_eq!(decision.status.phase, Phase::Updating);

    pod(&mut observed, 2).revision = Some("b".into());
    assert!(matches!(
        steps(&decide(&observed, at(60)))[..],
        [Step::Restart { ordinal: 1, .. }]
    ));

    link(&mut observed, 0).receiver = Receiver::Connecting;
    assert!(steps(&decide(&observed, at(60))).is_empty(), "the ring is open");
}

/// Its restart had not begun: it may be open, and the others are not to be without it for nothing.
#[test]
fn one_whose_answer_is_late_is_not_taken_for_one_that_is_being_restarted() {
    let mut observed = whole();
    observed.update_revision = Some("b".into());
    observed.members[0].server = Probe::Unreachable("no answer within 1s".into());
    let decision = decide(&observed, at(60));
    assert!(steps(&decision).is_empty(), "{:?}", decision.steps);
}

#[test]
fn an_outdated_member_that_does_not_run_may_always_be_replaced() {
    let mut observed = whole();
    observed.update_revision = Some("b".into());
    observed.members[1].server = Probe::NoAddress;
    observed.members[1].agent = Probe::NoAddress;
    let pod = pod(&mut observed, 1);
    (pod.running, pod.ready, pod.serving) = (false, false, false);
    assert!(matches!(
        steps(&decide(&observed, at(60)))[..],
        [Step::Restart { ordinal: 1, .. }]
    ));
}

#[test]
fn before_the_ring_is_founded_too() {
    let mut observed = new();
    observed.update_revision = Some("b".into());
    observed.members[1].server = Probe::NoAddress;
    observed.members[1].agent = Probe::NoAddress;
    pod(&mut observed, 1).running = false;
    assert!(matches!(
        steps(&decide(&observed, at(60)))[..],
        [Step::Restart { ordinal: 1, .. }]
    ));
}

#[test]
fn a_restart_that_was_interrupted_between_fence_and_delete_is_finished() {
    let mut observed = whole();
    observed.update_revision = Some("b".into());
    fence(&mut observed, 2);
    assert!(matches!(
        steps(&decide(&observed, at(60)))[..],
        [Step::Restart { ordinal: 2, .. }]
    ));
    // With another member away it is needed more than the new template is.
    fence(&mut observed, 0);
    let decision = decide(&observed, at(60));
    assert!(
        decision.steps.iter().any(|step| matches!(step, Step::Open { .. })),
        "{:?}",
        decision.steps
    );
}

#[test]
fn a_paused_cluster_is_left_alone() {
    let mut observed = whole();
    observed.cluster.spec.paused = Some(true);
    observed.update_revision = Some("b".into());
    fence(&mut observed, 0);
    let decision = decide(&observed, at(60));
    assert!(decision.steps.is_empty());
    assert_eq!(decision.status.phase, Phase::Paused);
}
