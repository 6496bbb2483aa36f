//! Settings that a conflict step left behind are restored before an applier is started, and before anything that trusts them.

use multimaster::decide::decide;
use multimaster::decide::observed::{Observed, Receiver, SqlError};
use multimaster::decide::step::{Action, Setting, Step};
use multimaster::wire::agent::Phase;

use crate::fixture::{at, channel, executed, fence, gtid, link, new, report, server, steps, unreachable, uuid, whole};

/// What the risky step restores, if it does.
fn restored(observed: &Observed) -> Option<(u8, Setting)> {
    let decision = decide(observed, at(60));
    match steps(&decision).into_iter().find(|step| step.is_risky())? {
        Step::Member {
            ordinal,
            server_uuid,
            action: Action::Restore { setting },
        } => {
            assert_eq!(*server_uuid, uuid(*ordinal));
            Some((*ordinal, *setting))
        }
        _ => None,
    }
}

/// An applier that somebody, or a conflict step, has stopped.
fn stop(observed: &mut Observed, ordinal: u8) {
    link(observed, ordinal).applier_running = false;
}

fn halt(observed: &mut Observed, ordinal: u8, gtid: &str) {
    stop(observed, ordinal);
    let link = link(observed, ordinal);
    link.blocked = Some(gtid.into());
    link.applier_error = Some(SqlError {
        number: 1062,
        text: "Duplicate entry".into(),
    });
}

type Change = fn(&mut Observed);

#[test]
fn a_lenient_member_gets_strict_before_anything_is_done_about_its_channels() {
    let cases: [(&str, Change); 9] = [
        ("nothing else is due", |_| {}),
        ("its applier is to be started", |observed| stop(observed, 1)),
        ("another member's applier is to be started", |observed| {
            stop(observed, 2)
        }),
        ("a channel is to be attached", |observed| {
            server(observed, 1).channels.clear();
        }),
        ("it stands at a conflict", |observed| {
            halt(observed, 1, &format!("{}:11", uuid(0)));
        }),
        ("it stands at a transaction of the operator's own", |observed| {
            halt(observed, 1, &format!("{}:multimaster:3", uuid(0)));
        }),
        ("a left-over channel is to be removed", |observed| {
            server(observed, 1).channels.push(channel(2));
        }),
        ("it is to be opened", |observed| fence(observed, 1)),
        ("it is bypassed and takes writes", |observed| {
            observed.cluster.status.as_mut().unwrap().member_statuses[1].bypassed = true;
        }),
    ];
    for (case, change) in cases {
        let mut observed = whole();
        change(&mut observed);
        assert_ne!(restored(&observed), Some((1, Setting::ReplicaExecMode)), "{case}");
        server(&mut observed, 1).idempotent = true;
        assert_eq!(restored(&observed), Some((1, Setting::ReplicaExecMode)), "{case}");
    }
}

/// `read_only` without `super_read_only`.
fn half_fence(observed: &mut Observed, ordinal: u8) {
    fence(observed, ordinal);
    server(observed, ordinal).half_fenced = true;
}

#[test]
fn a_fenced_member_gets_super_read_only_before_its_history_is_trusted() {
    let cases: [(&str, Change); 4] = [
        ("it is to be opened", |_| {}),
        ("its disk went back in time", |observed| {
            server(observed, 1).executed = gtid(&format!("{}:1-10,{}:1-4,{}:1-10", uuid(0), uuid(1), uuid(2)));
        }),
        ("its applier is to be started", |observed| stop(observed, 1)),
        ("it stands at a conflict", |observed| {
            halt(observed, 1, &format!("{}:11", uuid(0)));
        }),
    ];
    for (case, change) in cases {
        let mut observed = whole();
        half_fence(&mut observed, 1);
        change(&mut observed);
        assert_eq!(restored(&observed), Some((1, Setting::SuperReadOnly)), "{case}");
    }
}

#[test]
fn of_several_members_the_lenient_one_comes_first_then_contact_then_the_half_fenced_one() {
    let mut observed = whole();
    half_fence(&mut observed, 0);
    server(&mut observed, 2).idempotent = true;
    observed.cluster.status.as_mut().unwrap().member_statuses[1].bypassed = true;
    assert_eq!(restored(&observed), Some((2, Setting::ReplicaExecMode)));
    server(&mut observed, 2).idempotent = false;
    let decision = decide(&observed, at(60));
    assert!(
        steps(&decision).iter().any(|step| matches!(
            step,
            Step::Member {
                ordinal: 1,
                action: Action::Fence,
                ..
            }
        )),
        "{:?}",
        decision.steps
    );
    server(&mut observed, 1).super_read_only = true;
    assert_eq!(restored(&observed), Some((0, Setting::SuperReadOnly)));
}

/// The agent keeps clients out by `read_only` alone while CLONE runs.
#[test]
fn an_agent_that_clones_is_left_alone() {
    let mut observed = whole();
    half_fence(&mut observed, 1);
    report(&mut observed, 1).phase = Phase::Cloning {
        donor: "10.0.0.2".into(),
    };
    assert_eq!(restored(&observed), None);
    // Nobody says that it does not.
    unreachable_agent(&mut observed, 1);
    assert_eq!(restored(&observed), None);
}

fn unreachable_agent(observed: &mut Observed, ordinal: u8) {
    let server = server(observed, ordinal).clone();
    unreachable(observed, ordinal);
    observed.members[usize::from(ordinal)].server = multimaster::decide::observed::Probe::Reached(server);
}

#[test]
fn nothing_is_restored_while_the_operator_is_paused_or_the_ring_is_founded() {
    let mut observed = whole();
    half_fence(&mut observed, 1);
    server(&mut observed, 2).idempotent = true;
    observed.cluster.spec.paused = Some(true);
    assert!(decide(&observed, at(60)).steps.is_empty());
    let mut observed = new();
    server(&mut observed, 1).half_fenced = true;
    assert_eq!(restored(&observed), None);
}

/// A conflict step has stopped it, and has ended before it started it.
#[test]
fn the_applier_of_a_left_over_channel_is_started_also_while_the_link_stands_at_a_conflict() {
    let mut observed = whole();
    halt(&mut observed, 1, &format!("{}:11", uuid(0)));
    let mut left = channel(2);
    left.applier_running = false;
    left.receiver = Receiver::Off;
    left.retrieved = executed().union(&gtid(&format!("{}:11", uuid(2))));
    server(&mut observed, 1).channels.push(left);
    let decision = decide(&observed, at(60));
    assert!(
        matches!(
            steps(&decision)[..],
            [Step::Member {
                ordinal: 1,
                action: Action::Start { upstream: 2 },
                ..
            }]
        ),
        "{:?}",
        decision.steps
    );
}
