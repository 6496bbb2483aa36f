//! A member that needs what its upstream has purged.

use multimaster::api::status::MemberState;
use multimaster::decide::decide;
use multimaster::decide::observed::{Observed, Receiver, SqlError};
use multimaster::decide::step::{Action, Step};

use crate::fixture::{at, channel, executed, fence, gtid, link, member_status, server, settle, steps, uuid, whole};

/// What the others wrote while member 1 was away.
fn missed() -> multimaster::mysql::gtid::GtidSet {
    gtid(&format!("{}:11-20,{}:11-20", uuid(0), uuid(2)))
}

/// Member 1 is back, bypassed and fenced, after a long time: its upstream has purged what it needs.
fn back() -> Observed {
    let mut observed = whole();
    fence(&mut observed, 1);
    observed.cluster.status.as_mut().unwrap().member_statuses[1].bypassed = true;
    for ordinal in [0, 2] {
        server(&mut observed, ordinal).executed = executed().union(&missed());
    }
    server(&mut observed, 2).channels = vec![channel(0)];
    server(&mut observed, 0).purged = missed();
    let gave_up = link(&mut observed, 1);
    gave_up.receiver = Receiver::Off;
    gave_up.receiver_error = Some(SqlError {
        number: 13114,
        text: "the source purged required binary logs".into(),
    });
    observed
}

#[test]
fn it_catches_up_from_another_member_that_still_has_it() {
    let mut observed = back();
    let decision = decide(&observed, at(60));
    assert!(
        matches!(
            steps(&decision)[..],
            [Step::Member {
                ordinal: 1,
                action: Action::Attach { upstream: 2, .. },
                ..
            }]
        ),
        "{:?}",
        decision.steps
    );
    server(&mut observed, 1).channels.push(channel(2));
    let decision = decide(&observed, at(61));
    assert!(steps(&decision).is_empty());
    let message = member_status(&decision, 1).message.clone().unwrap();
    assert!(message.contains("catches up from demo-2"), "{message}");
    // Then its link, which had given up, is started again.
    server(&mut observed, 1).executed = executed().union(&missed());
    let decision = decide(&observed, at(62));
    assert!(matches!(
        steps(&decision)[..],
        [Step::Member {
            ordinal: 1,
            action: Action::Start { upstream: 0 },
            ..
        }]
    ));
}

/// Nobody has it any more.
fn behind() -> Observed {
    let mut observed = back();
    server(&mut observed, 2).purged = missed();
    observed
}

#[test]
fn one_that_holds_nothing_of_its_own_is_made_a_copy_anew() {
    let decision = decide(&behind(), at(60));
    let [
        Step::Member {
            ordinal: 1,
            action: Action::Reclone { held_elsewhere },
            ..
        },
    ] = steps(&decision)[..]
    else {
        panic!("{:?}", decision.steps);
    };
    assert_eq!(*held_elsewhere, executed().union(&missed()));
    assert_eq!(member_status(&decision, 1).state, MemberState::Returning);
}

#[test]
fn what_is_stranded_on_it_is_drained_first() {
    let mut observed = behind();
    let stranded = executed().union(&gtid(&format!("{}:11-12", uuid(1))));
    server(&mut observed, 1).executed = stranded.clone();
    let decision = settle(&mut observed, 60);
    assert!(matches!(
        steps(&decision)[..],
        [Step::Member {
            ordinal: 0,
            action: Action::Attach { upstream: 1, .. },
            ..
        }]
    ));
    server(&mut observed, 0).channels.push(channel(1));
    let decision = settle(&mut observed, 61);
    assert!(
        steps(&decision).is_empty(),
        "the drain is not left over: {:?}",
        decision.steps
    );
    let message = member_status(&decision, 1).message.clone().unwrap();
    assert!(message.contains("demo-0 drains it first"), "{message}");

    server(&mut observed, 0).executed = stranded.union(&missed());
    assert!(matches!(
        steps(&decide(&observed, at(62)))[..],
        [Step::Member {
            ordinal: 1,
            action: Action::Reclone { .. },
            ..
        }]
    ));
}

#[test]
fn what_its_relay_logs_hold_is_stranded_too() {
    let mut observed = behind();
    link(&mut observed, 1).retrieved = gtid(&format!("{}:21", uuid(2)));
    let decision = decide(&observed, at(60));
    assert!(matches!(
        steps(&decision)[..],
        [Step::Member {
            ordinal: 0,
            action: Action::Attach { upstream: 1, .. },
            ..
        }]
    ));
}

#[test]
fn what_cannot_be_drained_is_given_up_with_its_files_kept() {
    let mut observed = behind();
    let stranded = gtid(&format!("{}:11-12", uuid(1)));
    server(&mut observed, 1).executed = executed().union(&stranded);
    server(&mut observed, 1).purged = stranded;
    // The agent compares what it holds with this, and keeps the files.
    let decision = decide(&observed, at(60));
    let [
        Step::Member {
            action: Action::Reclone { held_elsewhere },
            ..
        },
    ] = steps(&decision)[..]
    else {
        panic!("{:?}", decision.steps);
    };
    assert!(!held_elsewhere.contains(&observed.members[1].server().unwrap().executed));
}

#[test]
fn nothing_is_given_up_while_somebody_is_away_or_clients_write() {
    let mut observed = behind();
    observed.members[2].agent = multimaster::decide::observed::Probe::Unreachable("no answer".into());
    let decision = decide(&observed, at(60));
    assert!(steps(&decision).is_empty(), "{:?}", decision.steps);
    let message = member_status(&decision, 1).message.clone().unwrap();
    assert!(message.contains("waits for demo-2"), "{message}");

    let mut observed = behind();
    observed.cluster.status.as_mut().unwrap().member_statuses[1].bypassed = false;
    server(&mut observed, 1).super_read_only = false;
    observed.members[1].pod.as_mut().unwrap().serving = true;
    let decision = decide(&observed, at(60));
    assert!(
        !decision
            .steps
            .iter()
            .any(|step| matches!(step.on_member(), Some(Action::Reclone { .. }))),
        "{:?}",
        decision.steps
    );
}

#[test]
fn nobody_is_made_a_copy_of_one_that_lacks_the_same() {
    let mut observed = behind();
    let lost = gtid(&format!("{}:21", uuid(0)));
    let source = server(&mut observed, 0);
    (source.purged, source.executed) = (missed().union(&lost), executed().union(&missed()).union(&lost));
    let decision = decide(&observed, at(60));
    assert!(
        !decision
            .steps
            .iter()
            .any(|step| matches!(step.on_member(), Some(Action::Reclone { .. }))),
        "{:?}",
        decision.steps
    );
    let message = member_status(&decision, 1).message.clone().unwrap();
    assert!(
        message.contains("demo-2, which it would be a copy of, lacks it too"),
        "{message}"
    );
}
