//! `spec.members` up and down on a living cluster.

use multimaster::api::reasons::Reason;
use multimaster::api::status::{MemberState, conditions};
use multimaster::decide::decide;
use multimaster::decide::observed::Observed;
use multimaster::decide::step::{Action, PodAction, Step};
use multimaster::wire::agent::{Origin, Phase};

use crate::fixture::{
    at, channel, condition, executed, fence, gtid, link, member_status, pod, report, server, settle, steps,
    unreachable, uuid, whole,
};

/// A whole ring that is to have four members; the fourth has just made its empty directory.
fn growing() -> Observed {
    let mut observed = whole();
    observed.cluster.spec.members = 4;
    let mut fourth = observed.members[2].clone();
    fourth.ordinal = 3;
    observed.members.push(fourth);
    fence(&mut observed, 3);
    let server = server(&mut observed, 3);
    server.uuid = uuid(3);
    server.executed = gtid("");
    server.channels.clear();
    let report = report(&mut observed, 3);
    report.ordinal = 3;
    report.server_uuid = Some(uuid(3));
    report.origin = Origin::Empty;
    observed
}

#[test]
fn a_new_member_is_a_copy_of_its_future_downstream_and_joins_when_it_has_caught_up() {
    let mut observed = growing();
    let decision = settle(&mut observed, 60);
    assert!(matches!(
        steps(&decision)[..],
        [Step::Member {
            ordinal: 3,
            action: Action::Clone { donor: 0 },
            ..
        }]
    ));
    assert_eq!((decision.status.epoch, decision.status.ring.as_str()), (1, "0→1→2→0"));
    assert_eq!(
        condition(&decision, conditions::PROGRESSING).reason,
        Reason::Scaling.as_ref()
    );
    report(&mut observed, 3).phase = Phase::Cloning {
        donor: "10.0.0.0".into(),
    };
    assert!(steps(&settle(&mut observed, 61)).is_empty());

    let copy = report(&mut observed, 3);
    (copy.phase, copy.origin) = (Phase::Running, Origin::Cloned);
    let copy = server(&mut observed, 3);
    (copy.executed, copy.purged) = (executed(), executed());
    let decision = settle(&mut observed, 70);
    assert!(matches!(
        steps(&decision)[..],
        [Step::Member {
            ordinal: 3,
            action: Action::Attach { upstream: 2, .. },
            ..
        }]
    ));
    server(&mut observed, 3).channels.push(channel(2));
    let decision = settle(&mut observed, 71);
    assert_eq!(decision.status.epoch, 2);
    assert!(matches!(
        steps(&decision)[..],
        [Step::Member {
            ordinal: 0,
            action: Action::Attach { upstream: 3, .. },
            ..
        }]
    ));
    server(&mut observed, 0).channels.push(channel(3));
    let decision = settle(&mut observed, 72);
    assert!(matches!(
        steps(&decision)[..],
        [Step::Member {
            ordinal: 0,
            action: Action::StopReceiver { upstream: 2 },
            ..
        }]
    ));
    server(&mut observed, 0).channels.remove(0);
    let decision = settle(&mut observed, 73);
    assert!(matches!(
        steps(&decision)[..],
        [Step::Member {
            ordinal: 3,
            action: Action::Open,
            ..
        }]
    ));
    assert_eq!(decision.status.ring, "0→1→2→3→0");
}

#[test]
fn the_last_member_leaves_when_its_clients_are_gone_and_nothing_is_stranded_on_it() {
    let mut observed = whole();
    observed.cluster.spec.members = 2;
    server(&mut observed, 2).client_sessions = 5;
    let decision = settle(&mut observed, 60);
    assert!(matches!(
        steps(&decision)[..],
        [Step::Pod {
            ordinal: 2,
            action: PodAction::Withdraw { .. },
            ..
        }]
    ));
    assert_eq!(member_status(&decision, 2).state, MemberState::Leaving);
    pod(&mut observed, 2).serving = false;
    assert!(
        steps(&settle(&mut observed, 89)).is_empty(),
        "its clients have some time"
    );
    assert!(matches!(
        steps(&decide(&observed, at(90)))[..],
        [Step::Member {
            ordinal: 2,
            action: Action::Fence,
            ..
        }]
    ));
    server(&mut observed, 2).client_sessions = 0;
    assert!(matches!(
        steps(&settle(&mut observed, 89))[..],
        [Step::Member {
            ordinal: 2,
            action: Action::Fence,
            ..
        }]
    ));

    // One write of it has not arrived yet.
    server(&mut observed, 2).super_read_only = true;
    server(&mut observed, 2).executed = executed().union(&gtid(&format!("{}:11", uuid(2))));
    let decision = settle(&mut observed, 91);
    assert!(steps(&decision).is_empty());
    assert_eq!(decision.status.epoch, 1);

    server(&mut observed, 0).executed = executed().union(&gtid(&format!("{}:11", uuid(2))));
    let decision = settle(&mut observed, 92);
    assert_eq!(decision.status.epoch, 2);
    assert_eq!(decision.status.member_statuses.len(), 2, "now its pod may go");
    assert!(matches!(
        steps(&decision)[..],
        [Step::Member {
            ordinal: 0,
            action: Action::Attach { upstream: 1, .. },
            ..
        }]
    ));
    observed.members.pop();
    server(&mut observed, 0).channels.push(channel(1));
    let decision = settle(&mut observed, 93);
    assert_eq!(decision.status.ring, "0→1→0");
}

#[test]
fn two_members_leave_one_after_the_other() {
    let mut observed = growing();
    report(&mut observed, 3).origin = Origin::Founded;
    *server(&mut observed, 3) = whole().members[2].server().unwrap().clone();
    server(&mut observed, 3).uuid = uuid(3);
    server(&mut observed, 3).channels = vec![channel(2)];
    server(&mut observed, 0).channels = vec![channel(3)];
    pod(&mut observed, 3).serving = true;
    observed.cluster.status = None;
    observed.cluster.status = Some(multimaster::api::status::MultiMasterClusterStatus {
        epoch: 1,
        member_statuses: (0..4)
            .map(|ordinal| multimaster::api::status::MemberStatus {
                name: format!("demo-{ordinal}"),
                ..Default::default()
            })
            .collect(),
        ..Default::default()
    });
    observed.cluster.spec.members = 2;
    let decision = settle(&mut observed, 60);
    assert!(
        matches!(
            steps(&decision)[..],
            [Step::Pod {
                ordinal: 3,
                action: PodAction::Withdraw { .. },
                ..
            }]
        ),
        "{:?}",
        decision.steps
    );
    assert_eq!(member_status(&decision, 2).state, MemberState::Serving);
}

#[test]
fn a_member_that_cannot_be_asked_blocks() {
    let mut observed = whole();
    observed.cluster.spec.members = 2;
    unreachable(&mut observed, 2);
    pod(&mut observed, 2).ready = false;
    link(&mut observed, 0).seconds_since_contact = Some(9);
    for seconds in 60..100 {
        let decision = settle(&mut observed, seconds);
        assert_eq!(decision.status.member_statuses.len(), 3);
        let progressing = condition(&decision, conditions::PROGRESSING);
        assert_eq!(progressing.reason, Reason::LeavingBlocked.as_ref());
        assert!(progressing.message.contains("demo-2"), "{}", progressing.message);
    }
}

#[test]
fn the_only_one_left_does_not_leave() {
    let mut observed = whole();
    for status in &mut observed.cluster.status.as_mut().unwrap().member_statuses[..2] {
        status.bypassed = true;
    }
    for ordinal in [0, 1] {
        unreachable(&mut observed, ordinal);
        observed.members[usize::from(ordinal)].pod = None;
    }
    observed.cluster.spec.members = 2;
    for seconds in 60..120 {
        let decision = settle(&mut observed, seconds);
        let harmful = |step: &&Step| {
            matches!(
                step,
                Step::Pod {
                    action: PodAction::Withdraw { .. },
                    ..
                } | Step::Member {
                    action: Action::Fence,
                    ..
                }
            )
        };
        assert!(
            !decision.steps.iter().any(|step| harmful(&step)),
            "{:?}",
            decision.steps
        );
        assert_eq!(member_status(&decision, 2).state, MemberState::Serving);
    }
}

#[test]
fn a_new_member_on_somebody_elses_old_volume_is_foreign() {
    let mut observed = growing();
    let stranger = "f0000000-0000-0000-0000-000000000000";
    report(&mut observed, 3).origin = Origin::Founded;
    report(&mut observed, 3).server_uuid = Some(stranger.into());
    report(&mut observed, 3).volume = None;
    server(&mut observed, 3).uuid = stranger.into();
    server(&mut observed, 3).executed = gtid(&format!("{stranger}:1-5"));
    for seconds in 60..70 {
        let decision = settle(&mut observed, seconds);
        assert!(steps(&decision).is_empty(), "{:?}", decision.steps);
        assert_eq!(member_status(&decision, 3).state, MemberState::Quarantined);
    }
}
