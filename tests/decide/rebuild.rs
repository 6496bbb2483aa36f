//! A clone that fails is tried again after a pause that grows. It reads the whole donor beside the applications.

use multimaster::api::Healing;
use multimaster::api::reasons::Reason;
use multimaster::api::status::{MemberState, conditions};
use multimaster::decide::observed::Observed;
use multimaster::decide::step::{Action, Step};
use multimaster::decide::{Decision, decide};
use multimaster::wire::agent::{CloneFailures, Origin, Phase};

use crate::fixture::{
    at, condition, fence, gtid, member_status, pod, report, server, settle, steps, unreachable, uuid, whole,
};

const HOUR: u64 = 3600;

/// The volume of member 1 is empty; member 2, its downstream, is its donor.
fn empty() -> Observed {
    let mut observed = whole();
    lose_volume(&mut observed, 1);
    observed
}

fn lose_volume(observed: &mut Observed, ordinal: u8) {
    fence(observed, ordinal);
    report(observed, ordinal).origin = Origin::Empty;
    let server = server(observed, ordinal);
    server.executed = gtid("");
    server.channels.clear();
}

fn fail(observed: &mut Observed, ordinal: u8, failures: CloneFailures) {
    let report = report(observed, ordinal);
    report.last_clone_error = Some("error 3862: Clone Donor Error".into());
    report.clone_failures = Some(failures);
}

/// Copies that may have read the donor failed so often, the last one so many seconds ago.
fn copied(count: u32, seconds_ago: u64) -> CloneFailures {
    CloneFailures {
        count,
        copied: count,
        seconds_ago,
        donor_uuid: Some(uuid(2)),
        ..CloneFailures::default()
    }
}

fn clones(decision: &Decision, ordinal: u8, donor: u8) -> bool {
    steps(decision).contains(&&Step::member(ordinal, uuid(ordinal), Action::Clone { donor }))
}

/// Whether the next clone into member 1 begins after failures like these.
fn begins(failures: CloneFailures) -> bool {
    let mut observed = empty();
    fail(&mut observed, 1, failures);
    clones(&decide(&observed, at(0)), 1, 2)
}

#[test]
fn the_pause_doubles_up_to_an_hour() {
    for (count, pause) in [
        (1, 60),
        (2, 120),
        (3, 240),
        (4, 480),
        (5, 960),
        (6, 1920),
        (7, HOUR),
        (8, HOUR),
        (u32::MAX, HOUR),
    ] {
        assert!(!begins(copied(count, 0)), "{count}");
        assert!(!begins(copied(count, pause - 1)), "{count}");
        assert!(begins(copied(count, pause)), "{count}");
        assert!(begins(copied(count, u64::MAX)), "{count}");
    }
}

#[test]
fn a_refusal_has_read_nothing_and_is_tried_again_soon() {
    let refused = |count, copied, seconds_ago| CloneFailures {
        count,
        copied,
        seconds_ago,
        refused: true,
        donor_uuid: Some(uuid(2)),
    };
    for (count, copied) in [(1, 0), (9, 0), (9, 4)] {
        assert!(!begins(refused(count, copied, 9)), "{count} {copied}");
        assert!(begins(refused(count, copied, 10)), "{count} {copied}");
    }
    // A copy that fails after refusals counts copies only.
    let mut failures = copied(9, 59);
    failures.copied = 1;
    assert!(!begins(failures.clone()));
    failures.seconds_ago = 60;
    assert!(begins(failures));
}

#[test]
fn another_donor_is_tried_at_once() {
    let mut failures = copied(5, 0);
    failures.donor_uuid = Some("ffffffff-0000-0000-0000-000000000000".into());
    assert!(begins(failures.clone()), "another member, or another life of it");
    failures.donor_uuid = None;
    assert!(!begins(failures), "nobody knows which donor it was");
}

#[test]
fn an_agent_that_does_not_count_is_asked_at_once() {
    let mut observed = empty();
    report(&mut observed, 1).last_clone_error = Some("error 3862".into());
    let decision = decide(&observed, at(0));
    assert!(clones(&decision, 1, 2));
    let message = member_status(&decision, 1).message.clone().unwrap();
    assert_eq!(message, "the last copy failed: error 3862");
}

#[test]
fn one_that_waits_keeps_nobody_else_waiting() {
    let mut observed = empty();
    lose_volume(&mut observed, 2);
    fail(&mut observed, 2, copied(3, 0));
    report(&mut observed, 2).clone_failures.as_mut().unwrap().donor_uuid = Some(uuid(0));
    let decision = decide(&observed, at(0));
    // Member 1 waits for its own donor, member 2, whose pause is not over.
    assert_eq!(steps(&decision), Vec::<&Step>::new());
    let mut observed = whole();
    for ordinal in [0, 2] {
        lose_volume(&mut observed, ordinal);
    }
    // 2 is to be a copy of 0, which is to be a copy of 1.
    fail(&mut observed, 2, copied(3, 0));
    assert!(clones(&decide(&observed, at(0)), 0, 1));
}

#[test]
fn status_says_how_often_why_and_when() {
    let mut observed = empty();
    // Nobody closes the ring around it meanwhile.
    observed.cluster.spec.replication.healing = Some(Healing::Wait);
    fail(&mut observed, 1, copied(2, 50));
    let decision = settle(&mut observed, 0);
    let status = member_status(&decision, 1);
    assert_eq!(status.state, MemberState::Empty);
    let due = at(70);
    assert_eq!(status.next_clone_at.as_ref().unwrap().0, due);
    assert_eq!(
        status.message.as_deref(),
        Some(
            format!(
                "2 copies failed in a row, the last one: error 3862: Clone Donor Error; the next copy begins at {due} at the earliest"
            )
            .as_str()
        )
    );
    // The agent counts whole seconds: nothing new is written for one of them.
    fail(&mut observed, 1, copied(2, 52));
    let decision = settle(&mut observed, 3);
    assert_eq!(member_status(&decision, 1).next_clone_at.as_ref().unwrap().0, due);
    // Nor is anything forgotten while its agent does not answer.
    unreachable(&mut observed, 1);
    let decision = settle(&mut observed, 4);
    assert_eq!(member_status(&decision, 1).next_clone_at.as_ref().unwrap().0, due);
    // A further failure.
    observed.members[1] = empty().members.remove(1);
    fail(&mut observed, 1, copied(3, 0));
    let decision = settle(&mut observed, 100);
    assert_eq!(member_status(&decision, 1).next_clone_at.as_ref().unwrap().0, at(340));
    // It is due.
    fail(&mut observed, 1, copied(3, 240));
    let decision = settle(&mut observed, 340);
    assert!(clones(&decision, 1, 2));
    assert_eq!(member_status(&decision, 1).next_clone_at, None);
}

#[test]
fn after_three_failures_a_condition_says_so_until_a_copy_succeeds() {
    let mut observed = empty();
    for count in [1, 2] {
        fail(&mut observed, 1, copied(count, 0));
        let decision = settle(&mut observed, 0);
        let progressing = condition(&decision, conditions::PROGRESSING);
        assert_eq!(progressing.reason, Reason::Reattaching.as_ref(), "{count}");
    }
    fail(&mut observed, 1, copied(3, 0));
    let failing = |observed: &mut Observed, seconds| {
        let decision = settle(observed, seconds);
        let progressing = condition(&decision, conditions::PROGRESSING).clone();
        assert_eq!(
            (progressing.status.as_str(), progressing.reason.as_str()),
            ("False", Reason::CloneFailing.as_ref())
        );
        progressing.message
    };
    let message = failing(&mut observed, 10);
    assert!(
        message.starts_with("demo-1: 3 copies failed in a row, the last one: error 3862"),
        "{message}"
    );
    // The fourth is under way.
    report(&mut observed, 1).last_clone_error = None;
    report(&mut observed, 1).phase = Phase::Cloning {
        donor: "10.0.0.2".into(),
    };
    let message = failing(&mut observed, 300);
    assert_eq!(message, "demo-1: 3 copies failed in a row, and the next one runs");
    // It succeeds, and the agent forgets the failures.
    let report = report(&mut observed, 1);
    (report.origin, report.phase, report.clone_failures) = (Origin::Cloned, Phase::Running, None);
    pod(&mut observed, 1).ready = true;
    let decision = settle(&mut observed, 310);
    let progressing = condition(&decision, conditions::PROGRESSING);
    assert_ne!(progressing.reason, Reason::CloneFailing.as_ref());
    assert_eq!(member_status(&decision, 1).next_clone_at, None);
}
