//! `writes: SingleWriter`: who takes the writes, and when a new one may.

use multimaster::api::Writes;
use multimaster::api::reasons::EventReason;
use multimaster::api::status::{MemberState, conditions};
use multimaster::decide::observed::{Observed, Probe};
use multimaster::decide::report::events::events;
use multimaster::decide::serve::opening::remains_fenced;
use multimaster::decide::step::{Action, PodAction, Step};
use multimaster::wire::agent::LeaseReport;
use multimaster::wire::agent::Phase;

use crate::fixture::{
    at, condition, fence, gtid, link, lose, member_status, pod, report, server, settle, steps, unreachable, uuid, whole,
};
use crate::reads::changes;
use jiff::SignedDuration;

/// Members 0 takes the writes, 1 and 2 serve reads, and their agents know it.
pub fn single() -> Observed {
    let mut observed = whole();
    observed.cluster.spec.writes = Writes::SingleWriter;
    for ordinal in [1, 2] {
        server(&mut observed, ordinal).super_read_only = true;
        pod(&mut observed, ordinal).serving = false;
    }
    settle(&mut observed, 1);
    told(&mut observed, 0);
    settle(&mut observed, 2);
    observed
}

/// What the operator says reaches the agents that answer.
pub fn told(observed: &mut Observed, writer: u8) {
    let status = observed.cluster.status.clone().unwrap_or_default();
    for member in &mut observed.members {
        if let Probe::Reached(report) = &mut member.agent {
            let named = status.member_statuses[usize::from(member.ordinal)].voters.last();
            report.lease = Some(LeaseReport {
                writer,
                held: member.ordinal == writer,
                since_confirmed_milliseconds: None,
                voters: Some(named.copied().filter(|_| member.ordinal == writer).unwrap_or_default()),
            });
        }
    }
}

fn writer(observed: &Observed) -> Option<&str> {
    let status = observed.cluster.status.as_ref()?;
    status.writer.as_ref().map(|writer| writer.name.as_str())
}

fn opens(observed: &Observed, seconds: i64) -> Option<u8> {
    let decision = multimaster::decide::decide(observed, at(seconds));
    decision.steps.iter().find_map(|step| match step {
        Step::Member {
            ordinal,
            action: Action::Open,
            ..
        } => Some(*ordinal),
        _ => None,
    })
}

#[test]
fn a_ring_with_one_writer_is_ready_and_left_alone() {
    let mut observed = single();
    let decision = settle(&mut observed, 3);
    assert_eq!(steps(&decision), Vec::<&Step>::new());
    assert_eq!(decision.status.serving, "3/3");
    assert_eq!(member_status(&decision, 0).state, MemberState::Serving);
    assert_eq!(member_status(&decision, 1).state, MemberState::Reading);
    let ready = condition(&decision, conditions::READY);
    assert_eq!(
        (ready.status.as_str(), ready.message.as_str()),
        (
            "True",
            "all 3 members serve in the ring 0→1→2→0; demo-0 takes the writes"
        )
    );
    assert_eq!(
        condition(&decision, conditions::AVAILABLE).message,
        "writes are taken by demo-0"
    );
}

#[test]
fn from_all_members_to_one_and_back() {
    let mut observed = whole();
    observed.cluster.spec.writes = Writes::SingleWriter;
    let decision = settle(&mut observed, 1);
    assert_eq!(writer(&observed), Some("demo-0"));
    // Out of the Service both at once, fenced one at a time; all keep serving reads.
    assert!(
        matches!(
            steps(&decision)[..],
            [
                Step::Pod {
                    ordinal: 1,
                    action: PodAction::Withdraw { .. },
                    ..
                },
                Step::Pod {
                    ordinal: 2,
                    action: PodAction::Withdraw { .. },
                    ..
                },
                Step::Member {
                    ordinal: 1,
                    action: Action::Fence,
                    ..
                }
            ]
        ),
        "{:?}",
        decision.steps
    );
    let mut observed = single();
    observed.cluster.spec.writes = Writes::AllMembers;
    let decision = settle(&mut observed, 5);
    assert_eq!(writer(&observed), None);
    assert!(
        matches!(
            steps(&decision)[..],
            [Step::Member {
                ordinal: 1,
                action: Action::Open,
                ..
            }]
        ),
        "{:?}",
        decision.steps
    );
}

#[test]
fn a_writer_whose_mysqld_ended_is_followed_at_once() {
    let mut observed = single();
    fence(&mut observed, 0);
    observed.members[0].server = multimaster::decide::observed::Probe::Unreachable("refused".into());
    report(&mut observed, 0).phase = Phase::Restarting {
        reason: "signal 9".into(),
    };
    let before = observed.cluster.status.clone().unwrap();
    let decision = settle(&mut observed, 10);
    assert_eq!(writer(&observed), Some("demo-1"));
    let events = events(&before, &decision.status, at(10));
    let chosen = events
        .iter()
        .find(|event| event.reason == EventReason::WriterChosen)
        .unwrap();
    assert_eq!(
        chosen.message,
        "demo-1 is to take the writes: demo-0: mysqld ended and is started again: signal 9"
    );
    // Its agent does not know yet.
    assert_eq!(opens(&observed, 10), None);
    told(&mut observed, 1);
    assert_eq!(opens(&observed, 11), Some(1));
}

#[test]
fn one_that_cannot_be_asked_is_followed_when_its_lease_has_ended() {
    let mut observed = single();
    lose(&mut observed, 0);
    observed.members[0].since_contact = SignedDuration::from_secs(2);
    let decision = settle(&mut observed, 10);
    assert_eq!(writer(&observed), Some("demo-1"));
    assert!(matches!(
        steps(&decision)[..],
        [Step::Pod {
            ordinal: 0,
            action: PodAction::Withdraw { .. },
            ..
        },]
    ));
    pod(&mut observed, 0).serving = false;
    pod(&mut observed, 0).reads = false;
    told(&mut observed, 1);
    let decision = settle(&mut observed, 11);
    assert_eq!(steps(&decision), Vec::<&Step>::new());
    assert_eq!(
        member_status(&decision, 1).message.as_deref(),
        Some("demo-0 does not answer, and may take writes until its lease has ended")
    );
    let available = condition(&decision, conditions::AVAILABLE);
    assert_eq!(
        available.message,
        "no member takes writes through the Service: demo-1 is to take them and is Returning (demo-0 does not answer, and may take writes until \
         its lease has ended)"
    );
    // The lease of 3 s and a second more.
    observed.members[0].since_contact = SignedDuration::from_millis(3999);
    assert_eq!(opens(&observed, 12), None);
    observed.members[0].since_contact = SignedDuration::from_secs(4);
    assert_eq!(opens(&observed, 12), Some(1));
    // Others may have confirmed it later than it was heard.
    for voter in [1, 2] {
        observed.members[voter].since_confirmed = SignedDuration::from_millis(3999);
        assert_eq!(opens(&observed, 12), None);
        observed.members[voter].since_confirmed = SignedDuration::from_secs(4);
        assert_eq!(opens(&observed, 12), Some(1));
    }
}

#[test]
fn a_pod_that_is_gone_proves_nothing() {
    let mut observed = single();
    unreachable(&mut observed, 0);
    observed.members[0].pod = None;
    settle(&mut observed, 10);
    told(&mut observed, 1);
    assert_eq!(opens(&observed, 10), None);
    observed.members[0].since_contact = SignedDuration::from_secs(4);
    assert_eq!(opens(&observed, 10), Some(1));
}

/// mysqld was killed, and its pod deleted before anybody could ask again.
#[test]
fn one_that_was_fenced_when_it_was_last_seen_is_not_waited_for() {
    let mut observed = single();
    report(&mut observed, 0).phase = Phase::Starting;
    observed.members[0].server = Probe::Unreachable("refused".into());
    assert!(remains_fenced(&observed.members[0], false));

    unreachable(&mut observed, 0);
    observed.members[0].pod = None;
    settle(&mut observed, 10);
    told(&mut observed, 1);
    for (before, opens) in [(false, None), (true, Some(1))] {
        let fenced = remains_fenced(&observed.members[0], before);
        assert_eq!(fenced, before, "no answer tells nothing new");
        observed.members[0].last_seen_fenced = fenced;
        assert_eq!(self::opens(&observed, 10), opens);
    }
    // An answer does.
    let mut observed = single();
    assert!(!remains_fenced(&observed.members[0], true));
    fence(&mut observed, 0);
    assert!(remains_fenced(&observed.members[0], false));
}

#[test]
fn one_that_is_still_open_is_fenced_before_another_opens() {
    let mut observed = single();
    pod(&mut observed, 0).terminating = true;
    let decision = settle(&mut observed, 10);
    assert_eq!(writer(&observed), Some("demo-1"));
    assert!(
        matches!(
            steps(&decision)[..],
            [
                Step::Pod {
                    ordinal: 0,
                    action: PodAction::Withdraw { .. },
                    ..
                },
                Step::Member {
                    ordinal: 0,
                    action: Action::Fence,
                    ..
                }
            ]
        ),
        "{:?}",
        decision.steps
    );
    told(&mut observed, 1);
    assert_eq!(opens(&observed, 11), None);
    server(&mut observed, 0).super_read_only = true;
    // What it has acknowledged last has to arrive first.
    server(&mut observed, 0).executed = gtid(&format!("{}:1-11,{}:1-10,{}:1-10", uuid(0), uuid(1), uuid(2)));
    assert_eq!(opens(&observed, 11), None);
    let executed = server(&mut observed, 0).executed.clone();
    server(&mut observed, 1).executed = executed;
    assert_eq!(opens(&observed, 11), Some(1));
}

#[test]
fn what_was_received_is_applied_first() {
    let mut observed = single();
    lose(&mut observed, 0);
    observed.members[0].since_contact = SignedDuration::from_secs(20);
    // It holds more than the other one, so it is the next.
    link(&mut observed, 1).retrieved = gtid(&format!("{}:1-12", uuid(0)));
    settle(&mut observed, 10);
    told(&mut observed, 1);
    assert_eq!((writer(&observed), opens(&observed, 11)), (Some("demo-1"), None));
    server(&mut observed, 1).executed = gtid(&format!("{}:1-12,{}:1-10,{}:1-10", uuid(0), uuid(1), uuid(2)));
    assert_eq!(opens(&observed, 11), Some(1));
}

#[test]
fn the_one_that_holds_most_is_next() {
    let mut observed = single();
    lose(&mut observed, 0);
    link(&mut observed, 2).retrieved = gtid(&format!("{}:1-12", uuid(0)));
    settle(&mut observed, 10);
    assert_eq!(writer(&observed), Some("demo-2"));
}

#[test]
fn it_does_not_move_back_nor_for_a_doubt() {
    let mut observed = single();
    // One probe failed, and nobody else says so.
    unreachable(&mut observed, 0);
    settle(&mut observed, 10);
    assert_eq!(writer(&observed), Some("demo-0"));

    let mut observed = single();
    lose(&mut observed, 0);
    settle(&mut observed, 10);
    let mut back = single();
    back.cluster = observed.cluster.clone();
    told(&mut back, 1);
    let decision = settle(&mut back, 20);
    assert_eq!(writer(&back), Some("demo-1"));
    assert!(
        steps(&decision).iter().any(|step| matches!(
            step,
            Step::Member {
                ordinal: 0,
                action: Action::Fence,
                ..
            }
        )),
        "{:?}",
        decision.steps
    );
}

#[test]
fn a_rolling_restart_takes_the_writer_last_and_moves_it_first() {
    let mut observed = single();
    for ordinal in 0..3 {
        pod(&mut observed, ordinal).revision = Some("old".into());
    }
    assert_eq!(changes(&mut observed, 10), (vec![], vec![2]));
    for ordinal in [1, 2] {
        let back = pod(&mut observed, ordinal);
        (back.reads, back.revision) = (true, Some("a".into()));
    }
    // Who takes over has to be close, because nobody writes until it has caught up.
    link(&mut observed, 1).lag_seconds = Some(30);
    settle(&mut observed, 20);
    assert_eq!(writer(&observed), Some("demo-0"));
    link(&mut observed, 1).lag_seconds = Some(0);
    let decision = settle(&mut observed, 21);
    assert_eq!(writer(&observed), Some("demo-1"));
    assert!(
        steps(&decision).iter().any(|step| matches!(
            step,
            Step::Member {
                ordinal: 0,
                action: Action::Fence,
                ..
            }
        )),
        "{:?}",
        decision.steps
    );
}

#[test]
fn a_reader_that_stands_at_a_conflict_is_not_the_next() {
    let mut observed = single();
    lose(&mut observed, 0);
    link(&mut observed, 1).applier_running = false;
    link(&mut observed, 1).applier_error = Some(multimaster::decide::observed::SqlError {
        number: 1062,
        text: "Duplicate entry".into(),
    });
    let decision = settle(&mut observed, 10);
    assert_eq!(writer(&observed), Some("demo-2"));
    assert_eq!(member_status(&decision, 1).state, MemberState::Halted);
}

#[test]
fn a_writer_that_fenced_itself_and_is_back_is_opened_again() {
    let mut observed = single();
    fence(&mut observed, 0);
    report(&mut observed, 0).lease.as_mut().unwrap().held = false;
    settle(&mut observed, 10);
    assert_eq!((writer(&observed), opens(&observed, 10)), (Some("demo-0"), None));
    told(&mut observed, 0);
    assert_eq!(opens(&observed, 11), Some(0));
}
