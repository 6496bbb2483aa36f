//! Loss and return of members under `healing: Wait`.

use multimaster::api::reasons::Reason;
use multimaster::api::status::{MemberState, conditions};
use multimaster::decide::decide;
use multimaster::decide::observed::{Probe, Receiver, SqlError};
use multimaster::decide::step::{Action, PodAction, StartAt, Step};
use multimaster::wire::agent::{Origin, Phase as AgentPhase, Volume};

use crate::fixture::{
    at, condition, executed, fence, gtid, link, member_status, pod, report, server, settle, steps, unreachable, uuid,
    whole,
};

#[test]
fn a_whole_ring_wants_nothing_and_writes_nothing() {
    let mut observed = whole();
    for seconds in 1..120 {
        let before = observed.cluster.status.clone();
        let decision = settle(&mut observed, seconds);
        assert!(steps(&decision).is_empty());
        assert_eq!(
            Some(decision.status),
            before,
            "nothing changed, so there is nothing to write"
        );
    }
}

#[test]
fn a_failed_probe_alone_changes_nothing() {
    let mut observed = whole();
    unreachable(&mut observed, 1);
    let decision = decide(&observed, at(60));
    assert!(steps(&decision).is_empty());
    assert_eq!(member_status(&decision, 1).state, MemberState::Suspect);
}

#[test]
fn a_second_witness_takes_a_frozen_member_out_of_the_service() {
    type Witness = fn(&mut multimaster::decide::observed::Observed);
    let witnesses: [Witness; 3] = [
        |observed| {
            pod(observed, 1).ready = false;
            link(observed, 2).seconds_since_contact = Some(2);
        },
        |observed| link(observed, 2).receiver = Receiver::Connecting,
        |observed| link(observed, 2).seconds_since_contact = Some(3),
    ];
    for witness in witnesses {
        let mut observed = whole();
        unreachable(&mut observed, 1);
        witness(&mut observed);
        let decision = decide(&observed, at(60));
        assert!(
            matches!(
                steps(&decision)[..],
                [Step::Pod {
                    ordinal: 1,
                    action: PodAction::Withdraw { .. },
                    ..
                }]
            ),
            "{:?}",
            decision.steps
        );
        assert_eq!(member_status(&decision, 1).state, MemberState::Failed);
        assert_eq!(condition(&decision, conditions::READY).status, "False");
        assert_eq!(condition(&decision, conditions::AVAILABLE).status, "True");
    }
}

#[test]
fn witnesses_never_take_the_last_one_out() {
    let mut observed = whole();
    for ordinal in [0, 2] {
        fence(&mut observed, ordinal);
    }
    unreachable(&mut observed, 1);
    pod(&mut observed, 1).ready = false;
    let decision = decide(&observed, at(60));
    assert!(
        !decision
            .steps
            .iter()
            .any(|step| matches!(step.on_pod(), Some(PodAction::Withdraw { .. }))),
        "{:?}",
        decision.steps
    );
}

#[test]
fn a_server_that_refuses_the_operator_is_alive() {
    let mut observed = whole();
    observed.members[1].server = Probe::Alive("Too many connections".into());
    link(&mut observed, 2).receiver = Receiver::Connecting;
    let decision = decide(&observed, at(60));
    assert!(steps(&decision).is_empty());
    assert_eq!(member_status(&decision, 1).state, MemberState::Suspect);
}

#[test]
fn an_operator_that_is_cut_off_changes_nothing_and_says_unknown() {
    let mut observed = whole();
    for ordinal in 0..3 {
        unreachable(&mut observed, ordinal);
    }
    let decision = decide(&observed, at(60));
    assert!(steps(&decision).is_empty());
    let ready = condition(&decision, conditions::READY);
    assert_eq!(
        (ready.status.as_str(), ready.reason.as_str()),
        ("Unknown", Reason::NoMemberReachable.as_ref())
    );
}

#[test]
fn a_restarted_member_leaves_at_once_because_a_probe_saw_it_fenced() {
    let mut observed = whole();
    server(&mut observed, 1).super_read_only = true;
    let decision = decide(&observed, at(60));
    assert!(
        matches!(
            steps(&decision)[0],
            Step::Pod {
                ordinal: 1,
                action: PodAction::Withdraw { .. },
                ..
            }
        ),
        "{:?}",
        decision.steps
    );
}

#[test]
fn mysqld_that_is_starting_again_leaves_even_as_the_last() {
    let mut observed = whole();
    for ordinal in [0, 2] {
        fence(&mut observed, ordinal);
    }
    observed.members[1].server = Probe::Unreachable("refused".into());
    report(&mut observed, 1).phase = AgentPhase::Starting;
    let decision = decide(&observed, at(60));
    assert!(
        decision.steps.iter().any(|step| matches!(
            step,
            Step::Pod {
                ordinal: 1,
                action: PodAction::Withdraw { .. },
                ..
            }
        )),
        "{:?}",
        decision.steps
    );
}

#[test]
fn a_returned_member_catches_up_to_what_its_upstream_had_at_contact_and_only_then_opens() {
    let mut observed = whole();
    fence(&mut observed, 1);
    server(&mut observed, 0).executed = gtid(&format!("{}:1-20,{}:1-10,{}:1-10", uuid(0), uuid(1), uuid(2)));
    let decision = settle(&mut observed, 60);
    assert!(steps(&decision).is_empty(), "{:?}", decision.steps);
    assert_eq!(member_status(&decision, 1).state, MemberState::CatchingUp);

    // The upstream goes on writing; the target stays.
    server(&mut observed, 0).executed = gtid(&format!("{}:1-99,{}:1-10,{}:1-10", uuid(0), uuid(1), uuid(2)));
    server(&mut observed, 1).executed = gtid(&format!("{}:1-19,{}:1-10,{}:1-10", uuid(0), uuid(1), uuid(2)));
    assert!(steps(&settle(&mut observed, 61)).is_empty());
    server(&mut observed, 1).executed = gtid(&format!("{}:1-20,{}:1-10,{}:1-10", uuid(0), uuid(1), uuid(2)));
    let decision = settle(&mut observed, 62);
    assert_eq!(steps(&decision), [&Step::member(1, uuid(1), Action::Open)]);

    server(&mut observed, 1).super_read_only = false;
    let decision = settle(&mut observed, 63);
    assert!(matches!(
        steps(&decision)[..],
        [Step::Pod {
            ordinal: 1,
            action: PodAction::Serve,
            ..
        }]
    ));
    assert_eq!(member_status(&decision, 1).catch_up_to, None);
}

#[test]
fn with_its_upstream_away_a_member_with_its_whole_history_opens() {
    let mut observed = whole();
    fence(&mut observed, 1);
    link(&mut observed, 1).receiver = Receiver::Connecting;
    observed.members[0].pod = None;
    observed.members[0].server = Probe::NoAddress;
    observed.members[0].agent = Probe::NoAddress;
    let decision = decide(&observed, at(60));
    assert!(
        steps(&decision).contains(&&Step::member(1, uuid(1), Action::Open)),
        "{:?}",
        decision.steps
    );
}

#[test]
fn nobody_waits_for_transactions_that_no_one_has_any_more() {
    let ahead = || gtid(&format!("{}:1-20,{}:1-10,{}:1-10", uuid(0), uuid(1), uuid(2)));
    let contact = || {
        let mut observed = whole();
        fence(&mut observed, 1);
        server(&mut observed, 0).executed = ahead();
        assert!(steps(&settle(&mut observed, 60)).is_empty());
        observed
    };
    let open = Step::member(1, uuid(1), Action::Open);
    // One look at the upstream failed: it has them still.
    let mut observed = contact();
    unreachable(&mut observed, 0);
    assert!(steps(&decide(&observed, at(61))).is_empty());
    // Its disk was set back, and it has begun a new life.
    let mut observed = contact();
    let new = "f0000000-0000-0000-0000-000000000000";
    let upstream = server(&mut observed, 0);
    (upstream.uuid, upstream.executed) = (new.into(), executed());
    report(&mut observed, 0).server_uuid = Some(new.into());
    report(&mut observed, 0).former_server_uuids = vec![uuid(0)];
    assert_eq!(steps(&decide(&observed, at(61))), [&open]);
}

#[test]
fn a_disk_that_went_back_in_time_gets_a_new_life_whoever_bears_witness() {
    let older = || gtid(&format!("{}:1-10,{}:1-4,{}:1-10", uuid(0), uuid(1), uuid(2)));
    // A neighbour has executed it; status knows too.
    let mut observed = whole();
    fence(&mut observed, 1);
    server(&mut observed, 1).executed = older();
    let lost = gtid(&format!("{}:5-10", uuid(1)));
    let expected = Step::member(1, uuid(1), Action::NewLife { lost: lost.clone() });
    assert_eq!(steps(&decide(&observed, at(60))), [&expected]);

    // Only status knows.
    for ordinal in [0, 2] {
        server(&mut observed, ordinal).executed = older();
    }
    assert_eq!(steps(&decide(&observed, at(60))), [&expected]);

    // Only a relay log knows.
    observed.cluster.status.as_mut().unwrap().member_statuses[1]
        .gtid_executed
        .clear();
    link(&mut observed, 2).retrieved = lost;
    assert_eq!(steps(&decide(&observed, at(60))), [&expected]);
}

#[test]
fn a_receiver_that_gave_up_on_the_earlier_life_of_its_upstream_is_started_again() {
    let mut observed = whole();
    let gave_up = link(&mut observed, 2);
    gave_up.receiver = Receiver::Off;
    gave_up.receiver_error = Some(SqlError {
        number: 13114,
        text: "Replica has more GTIDs than the source has".into(),
    });
    // With the server that it gave up on there is no use in trying again.
    assert!(steps(&decide(&observed, at(60))).is_empty());

    let new = "f0000000-0000-0000-0000-000000000000";
    server(&mut observed, 1).uuid = new.into();
    report(&mut observed, 1).server_uuid = Some(new.into());
    report(&mut observed, 1).former_server_uuids = vec![uuid(1)];
    let start = Step::member(2, uuid(2), Action::Start { upstream: 1 });
    assert_eq!(steps(&decide(&observed, at(60))), [&start]);
}

#[test]
fn a_receiver_that_gave_up_on_purged_logs_is_started_again_when_nothing_is_missing() {
    let mut observed = whole();
    let gave_up = link(&mut observed, 2);
    gave_up.receiver = Receiver::Off;
    gave_up.receiver_error = Some(SqlError {
        number: 13114,
        text: "Cannot replicate because the source purged required binary logs.".into(),
    });
    let more = executed().union(&gtid(&format!("{}:11", uuid(0))));
    server(&mut observed, 1).executed = more.clone();
    server(&mut observed, 1).purged = more.clone();
    let decision = decide(&observed, at(60));
    assert!(steps(&decision).is_empty());
    assert_eq!(
        condition(&decision, conditions::RING_CLOSED).reason,
        Reason::PositionLost.as_ref()
    );
    // What it lacked came by a left-over channel.
    server(&mut observed, 2).executed = more;
    assert!(matches!(
        steps(&decide(&observed, at(60)))[..],
        [Step::Member {
            ordinal: 2,
            action: Action::Start { upstream: 1 },
            ..
        }]
    ));
}

#[test]
fn a_new_life_opens_only_with_all_that_earlier_lives_wrote() {
    let mut observed = whole();
    let new = "f0000000-0000-0000-0000-000000000000".to_owned();
    fence(&mut observed, 1);
    server(&mut observed, 1).uuid = new.clone();
    report(&mut observed, 1).server_uuid = Some(new.clone());
    report(&mut observed, 1).former_server_uuids = vec![uuid(1)];
    server(&mut observed, 1).executed = gtid(&format!("{}:1-10,{}:1-4,{}:1-10", uuid(0), uuid(1), uuid(2)));
    // The upstream does not have them either; the downstream does.
    server(&mut observed, 0).executed = gtid(&format!("{}:1-10,{}:1-4,{}:1-10", uuid(0), uuid(1), uuid(2)));
    let decision = settle(&mut observed, 60);
    assert!(
        !decision
            .steps
            .iter()
            .any(|step| matches!(step.on_member(), Some(Action::Open))),
        "{:?}",
        decision.steps
    );
    assert_eq!(member_status(&decision, 1).former_server_uuids, [uuid(1)]);
    server(&mut observed, 1).executed = executed();
    let decision = settle(&mut observed, 61);
    assert!(
        decision.steps.contains(&Step::member(1, new, Action::Open)),
        "{:?}",
        decision.steps
    );
}

#[test]
fn an_empty_volume_is_rebuilt_from_the_downstream_and_waits_for_it() {
    let mut observed = whole();
    fence(&mut observed, 1);
    report(&mut observed, 1).origin = Origin::Empty;
    assert_eq!(
        steps(&decide(&observed, at(60))),
        [&Step::member(1, uuid(1), Action::Clone { donor: 2 })]
    );
    unreachable(&mut observed, 2);
    let decision = decide(&observed, at(60));
    assert!(steps(&decision).is_empty());
    assert!(member_status(&decision, 1).message.as_ref().unwrap().contains("demo-2"));
}

#[test]
fn somebody_elses_volume_is_quarantined() {
    let mut observed = whole();
    fence(&mut observed, 1);
    let other = "eeeeeeee-0000-0000-0000-000000000000".to_owned();
    server(&mut observed, 1).uuid = other.clone();
    server(&mut observed, 1).executed = gtid(&format!("{other}:1-7"));
    server(&mut observed, 1).channels.clear();
    report(&mut observed, 1).server_uuid = Some(other);
    report(&mut observed, 1).volume = None;
    let decision = decide(&observed, at(60));
    // Nobody takes its history over.
    let due: Vec<_> = steps(&decision).into_iter().map(Step::on_member).collect();
    assert_eq!(due, [Some(&Action::StopReceiver { upstream: 1 })]);
    assert_eq!(member_status(&decision, 1).state, MemberState::Quarantined);
    link(&mut observed, 2).receiver = Receiver::Off;
    let decision = decide(&observed, at(60));
    assert!(steps(&decision).is_empty(), "{:?}", decision.steps);
}

/// It was cloned from a member that was lost just after, before status had the clone's server UUID.
#[test]
fn a_volume_with_this_clusters_mark_is_no_strangers_even_if_nobody_has_its_history() {
    let mut observed = whole();
    fence(&mut observed, 1);
    let (clone, donor) = (
        "eeeeeeee-0000-0000-0000-000000000000",
        "dddddddd-0000-0000-0000-000000000000",
    );
    server(&mut observed, 1).uuid = clone.into();
    server(&mut observed, 1).executed = gtid(&format!("{donor}:1-7"));
    server(&mut observed, 1).channels.clear();
    report(&mut observed, 1).server_uuid = Some(clone.into());
    report(&mut observed, 1).origin = Origin::Cloned;
    let decision = decide(&observed, at(60));
    assert_eq!(member_status(&decision, 1).state, MemberState::Returning);
    let attach = Action::Attach {
        upstream: 0,
        start: StartAt::AutoPosition,
    };
    assert_eq!(steps(&decision), [&Step::member(1, clone, attach)]);
    // The mark of another claim, or none that is known, is no such proof.
    for volume in [None, Some(Volume { mark: None })] {
        report(&mut observed, 1).volume = volume;
        assert_eq!(
            member_status(&decide(&observed, at(60)), 1).state,
            MemberState::Quarantined
        );
    }
}

#[test]
fn a_conflict_halts_marks_and_nothing_else() {
    let mut observed = whole();
    let link = link(&mut observed, 1);
    link.applier_running = false;
    link.applier_error = Some(SqlError {
        number: 1062,
        text: "Duplicate entry".into(),
    });
    let decision = decide(&observed, at(60));
    assert!(steps(&decision).is_empty());
    assert_eq!(member_status(&decision, 1).state, MemberState::Halted);
    assert_eq!(decision.status.conflicts, 1);
    assert_eq!(condition(&decision, conditions::CONFLICT_FREE).status, "False");
    assert_eq!(condition(&decision, conditions::READY).status, "False");
    assert_eq!(condition(&decision, conditions::AVAILABLE).status, "True");
}
