//! A new image or configuration reaches the members one at a time.

use multimaster::api::status::{MemberState, Phase};
use multimaster::decide::observed::{Observed, Probe, Receiver, SqlError};
use multimaster::decide::step::{Action, PodAction, Step};
use multimaster::decide::{Decision, decide};

use crate::fixture::{at, channel, fence, link, member_status, new, pod, server, settle, steps, unreachable, whole};
use crate::reads::changes;
use crate::writer::single;

#[test]
fn the_highest_outdated_member_goes_first_and_only_from_a_whole_ring() {
    let mut observed = whole();
    observed.update_revision = Some("b".into());
    let decision = decide(&observed, at(60));
    assert_eq!(withdrawn(&decision), [2]);
    assert_eq!(decision.status.phase, Phase::Updating);

    pod(&mut observed, 2).revision = Some("b".into());
    assert_eq!(withdrawn(&decide(&observed, at(60))), [1]);

    link(&mut observed, 0).receiver = Receiver::Connecting;
    assert!(steps(&decide(&observed, at(60))).is_empty(), "the ring is open");
}

#[test]
fn its_clients_have_time_to_finish() {
    let mut observed = draining();
    server(&mut observed, 2).client_sessions = 1;
    let decision = settle(&mut observed, 61);
    assert_eq!(member_status(&decision, 2).state, MemberState::Draining);
    assert!(steps(&decision).is_empty(), "{:?}", decision.steps);
    assert!(steps(&decide(&observed, at(90))).is_empty());
    assert_eq!(restarted(&decide(&observed, at(91))), Some(2));
    // Nobody is there any more; but somebody may still be on the way.
    server(&mut observed, 2).client_sessions = 0;
    assert!(steps(&decide(&observed, at(63))).is_empty());
    assert_eq!(restarted(&decide(&observed, at(64))), Some(2));
}

#[test]
fn one_that_waits_for_its_clients_goes_back_when_another_is_away() {
    let mut observed = draining();
    settle(&mut observed, 61);
    // A late answer of another one says nothing yet; but now it is not the time to restart.
    observed.members[0].server = Probe::Unreachable("no answer within 1s".into());
    assert!(steps(&decide(&observed, at(91))).is_empty());
    settle(&mut observed, 91);
    assert_eq!(served(&decide(&observed, at(92))), Some(2));
}

/// Its own answer may be late, too: its clients' time does not begin anew.
#[test]
fn one_that_waits_for_its_clients_and_is_late_goes_on_waiting() {
    let mut observed = draining();
    settle(&mut observed, 61);
    let answer = server(&mut observed, 2).clone();
    observed.members[2].server = Probe::Unreachable("no answer within 1s".into());
    for seconds in [80, 82, 84] {
        let decision = settle(&mut observed, seconds);
        assert_eq!(member_status(&decision, 2).state, MemberState::Draining);
    }
    observed.members[2].server = Probe::Reached(answer);
    assert_eq!(restarted(&decide(&observed, at(91))), Some(2));
}

/// The StatefulSet's controller has yet to see a change.
#[test]
fn while_nobody_knows_the_wanted_template_one_that_waits_goes_on_waiting() {
    let mut observed = draining();
    settle(&mut observed, 61);
    observed.update_revision = None;
    assert!(steps(&decide(&observed, at(91))).is_empty());
    observed.update_revision = Some("c".into());
    assert_eq!(restarted(&decide(&observed, at(91))), Some(2));
}

/// One that is too far behind to be read from comes and goes: that neither ends a drain nor keeps one from beginning.
#[test]
fn a_reader_that_is_behind_is_in_nobodys_way() {
    let mut observed = single();
    observed.update_revision = Some("b".into());
    observed.cluster.spec.max_lag_seconds = Some(5);
    pod(&mut observed, 2).revision = Some("b".into());
    pod(&mut observed, 2).reads = false;
    link(&mut observed, 2).lag_seconds = Some(30);
    assert_eq!(changes(&mut observed, 60), (vec![], vec![1]));
    let decision = settle(&mut observed, 61);
    assert_eq!(member_status(&decision, 1).state, MemberState::Draining);
    let comes = |step: &Step| matches!(step.on_pod(), Some(PodAction::ServeReads));
    assert!(!decision.steps.iter().any(comes), "{:?}", decision.steps);
}

/// When it has left the ring is closed anew. One that cannot leave is in nobody's way.
#[test]
fn while_one_leaves_no_restart_begins() {
    let mut observed = whole();
    observed.update_revision = Some("b".into());
    observed.cluster.spec.members = 2;
    pod(&mut observed, 2).serving = false;
    settle(&mut observed, 60);
    assert!(withdrawn(&decide(&observed, at(61))).is_empty());

    observed.cluster.status.as_mut().unwrap().member_statuses[2].bypassed = true;
    unreachable(&mut observed, 2);
    server(&mut observed, 0).channels = vec![channel(1)];
    settle(&mut observed, 62);
    assert_eq!(withdrawn(&decide(&observed, at(62))), [1]);
    let pod = pod(&mut observed, 1);
    (pod.serving, pod.reads) = (false, false);
    let decision = settle(&mut observed, 63);
    assert_eq!(served(&decision), None);
    assert_eq!(member_status(&decision, 1).state, MemberState::Draining);
}

#[test]
fn one_that_waits_for_its_clients_is_restarted_from_a_closed_ring() {
    let mut observed = draining();
    settle(&mut observed, 61);
    link(&mut observed, 0).receiver = Receiver::Connecting;
    assert!(steps(&decide(&observed, at(91))).is_empty());
    // It stays broken: nobody knows for how long.
    let mut broken = observed.clone();
    settle(&mut broken, 91);
    assert_eq!(served(&decide(&broken, at(92))), Some(2));
    link(&mut observed, 0).receiver = Receiver::On;
    assert_eq!(restarted(&decide(&observed, at(91))), Some(2));
    // A conflict takes as long as it takes.
    let link = link(&mut observed, 0);
    link.applier_running = false;
    link.applier_error = Some(SqlError {
        number: 1062,
        text: "Duplicate entry".into(),
    });
    assert_eq!(served(&decide(&observed, at(91))), Some(2));
}

#[test]
fn one_whose_template_is_the_wanted_one_again_goes_back() {
    let mut observed = draining();
    settle(&mut observed, 61);
    observed.update_revision = Some("a".into());
    assert_eq!(served(&decide(&observed, at(62))), Some(2));
}

/// Where one member takes the writes, readers go first, when those who read from them have finished.
#[test]
fn a_reader_is_drained_too() {
    let mut observed = single();
    observed.update_revision = Some("b".into());
    assert_eq!(changes(&mut observed, 60), (vec![], vec![2]));
    server(&mut observed, 2).client_sessions = 3;
    let decision = settle(&mut observed, 61);
    assert_eq!(member_status(&decision, 2).state, MemberState::Draining);
    assert!(steps(&decision).is_empty(), "{:?}", decision.steps);
    assert_eq!(restarted(&decide(&observed, at(91))), Some(2));
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
        [Step::Pod {
            ordinal: 1,
            action: PodAction::Restart { .. },
            ..
        }]
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
        [Step::Pod {
            ordinal: 1,
            action: PodAction::Restart { .. },
            ..
        }]
    ));
}

#[test]
fn a_restart_that_was_interrupted_between_fence_and_delete_is_finished() {
    let mut observed = whole();
    observed.update_revision = Some("b".into());
    fence(&mut observed, 2);
    assert!(matches!(
        steps(&decide(&observed, at(60)))[..],
        [Step::Pod {
            ordinal: 2,
            action: PodAction::Restart { .. },
            ..
        }]
    ));
    // With another member away it is needed more than the new template is.
    fence(&mut observed, 0);
    let decision = decide(&observed, at(60));
    assert!(
        decision
            .steps
            .iter()
            .any(|step| matches!(step.on_member(), Some(Action::Open))),
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

/// Member 2 of a whole ring has an old template and has left the Service for it.
fn draining() -> Observed {
    let mut observed = whole();
    observed.update_revision = Some("b".into());
    settle(&mut observed, 60);
    let pod = pod(&mut observed, 2);
    (pod.serving, pod.reads) = (false, false);
    observed
}

fn withdrawn(decision: &Decision) -> Vec<u8> {
    let ordinal = |step: &Step| match step {
        Step::Pod {
            ordinal,
            action: PodAction::Withdraw { .. },
            ..
        } => Some(*ordinal),
        _ => None,
    };
    decision.steps.iter().filter_map(ordinal).collect()
}

fn served(decision: &Decision) -> Option<u8> {
    decision.steps.iter().find_map(|step| match step {
        Step::Pod {
            ordinal,
            action: PodAction::Serve,
            ..
        } => Some(*ordinal),
        _ => None,
    })
}

fn restarted(decision: &Decision) -> Option<u8> {
    decision.steps.iter().find_map(|step| match step {
        Step::Pod {
            ordinal,
            action: PodAction::Restart { .. },
            ..
        } => Some(*ordinal),
        _ => None,
    })
}
