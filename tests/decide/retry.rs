//! An applier that stopped for a reason that passes is started again, after a pause that doubles. It is no conflict.

use multimaster::api::reasons::Reason;
use multimaster::api::status::{MemberState, conditions};
use multimaster::decide::Decision;
use multimaster::decide::findings::Findings;
use multimaster::decide::observed::{Channel, Observed, SqlError};
use multimaster::decide::serve::opening::may_open;
use multimaster::decide::step::{Action, Step};

use crate::fixture::{
    at, channel, condition, fence, gtid, link, member_status, server, settle, steps, unreachable, uuid, whole,
};
use crate::reads::changes;
use crate::writer::{single, told};

const LOCK: u32 = 1205;

fn transaction(number: u64) -> String {
    format!("{}:{number}", uuid(0))
}

/// The applier of member 1 stopped this long ago, in seconds.
fn stop(observed: &mut Observed, number: u32, ago: i64) {
    interrupt(link(observed, 1), &transaction(11), number, ago);
}

fn interrupt(link: &mut Channel, transaction: &str, number: u32, ago: i64) {
    link.applier_running = false;
    link.blocked = Some(transaction.into());
    link.seconds_since_error = Some(ago);
    link.retrieved = gtid(transaction);
    link.applier_error = Some(SqlError {
        number,
        text: "Lock wait timeout exceeded".into(),
    });
}

/// The applier of member 1 tries again.
fn run(observed: &mut Observed) {
    let link = link(observed, 1);
    (link.applier_running, link.applier_error, link.blocked) = (true, None, None);
}

fn starts(decision: &Decision) -> bool {
    steps(decision).contains(&&Step::member(1, uuid(1), Action::Start { upstream: 0 }))
}

fn attempts(decision: &Decision) -> Option<u32> {
    let retry = member_status(decision, 1).links[0].retry.as_ref();
    retry.map(|retry| retry.attempts)
}

#[test]
fn it_waits_and_is_started_again_and_again_until_the_transaction_is_executed() {
    let mut observed = whole();
    let mut now = 60;
    for (attempt, pause) in (0..).zip([1, 2, 4, 8, 16, 32, 60, 60, 60]) {
        stop(&mut observed, LOCK, pause - 1);
        let early = settle(&mut observed, now);
        assert_eq!(steps(&early), Vec::<&Step>::new());
        assert_eq!(attempts(&early), Some(attempt));
        stop(&mut observed, LOCK, pause);
        let due = settle(&mut observed, now + 1);
        assert!(starts(&due), "{:?}", due.steps);
        assert_eq!(attempts(&due), Some(attempt + 1));
        // The attempt is under way: nobody knows how it ends.
        run(&mut observed);
        let tries = settle(&mut observed, now + 2);
        assert_eq!(steps(&tries), Vec::<&Step>::new());
        for decision in [&early, &due, &tries] {
            assert_eq!(member_status(decision, 1).state, MemberState::Serving);
            assert_eq!(condition(decision, conditions::CONFLICT_FREE).status, "True");
            let closed = condition(decision, conditions::RING_CLOSED);
            assert_eq!(closed.reason, Reason::LinksBroken.as_ref());
            assert!(closed.message.contains(&transaction(11)), "{}", closed.message);
            assert!(
                closed.message.ends_with("1205: Lock wait timeout exceeded"),
                "{}",
                closed.message
            );
        }
        now += 10;
    }
    let executed = server(&mut observed, 1)
        .executed
        .union(&transaction(11).parse().unwrap());
    server(&mut observed, 1).executed = executed;
    let done = settle(&mut observed, now);
    assert_eq!(attempts(&done), None);
    let done = settle(&mut observed, now + 1);
    assert_eq!(condition(&done, conditions::RING_CLOSED).status, "True");
}

#[test]
fn another_transaction_is_tried_again_at_once() {
    let mut observed = whole();
    for seconds in [60, 62, 64] {
        stop(&mut observed, LOCK, 60);
        settle(&mut observed, seconds);
    }
    stop(&mut observed, LOCK, 1);
    assert!(!starts(&settle(&mut observed, 70)));
    link(&mut observed, 1).blocked = Some(transaction(12));
    let decision = settle(&mut observed, 71);
    assert!(starts(&decision));
    assert_eq!(attempts(&decision), Some(1));
}

#[test]
fn at_a_conflict_it_stands_whatever_was_tried_before() {
    let mut observed = whole();
    stop(&mut observed, LOCK, 60);
    settle(&mut observed, 60);
    stop(&mut observed, 1062, 60);
    let decision = settle(&mut observed, 61);
    assert!(!starts(&decision));
    assert_eq!(attempts(&decision), None);
    assert_eq!(member_status(&decision, 1).state, MemberState::Halted);
    assert_eq!(
        condition(&decision, conditions::CONFLICT_FREE).reason,
        Reason::ApplierStopped.as_ref()
    );
}

#[test]
fn a_left_over_channel_is_tried_again_and_named_until_then() {
    let mut observed = whole();
    let left_over = format!("{}:11", uuid(2));
    server(&mut observed, 1).channels.push(channel(2));
    for (ago, due) in [(0, false), (1, true)] {
        interrupt(&mut server(&mut observed, 1).channels[1], &left_over, LOCK, ago);
        let decision = settle(&mut observed, 60);
        let start = Step::member(1, uuid(1), Action::Start { upstream: 2 });
        assert_eq!(steps(&decision).contains(&&start), due, "{:?}", decision.steps);
        let ready = condition(&decision, conditions::READY);
        assert_eq!((ready.status.as_str(), ready.reason.as_str()), ("False", "LinksBroken"));
        assert!(ready.message.contains("demo-2 in an earlier ring"), "{}", ready.message);
    }
}

#[test]
fn while_the_member_does_not_answer_the_attempts_are_kept() {
    let mut observed = whole();
    stop(&mut observed, LOCK, 1);
    settle(&mut observed, 60);
    unreachable(&mut observed, 1);
    assert_eq!(attempts(&settle(&mut observed, 61)), Some(1));
}

#[test]
fn a_transaction_that_the_channel_has_lost_is_forgotten() {
    let mut observed = whole();
    stop(&mut observed, LOCK, 1);
    settle(&mut observed, 60);
    run(&mut observed);
    link(&mut observed, 1).retrieved = gtid("");
    let decision = settle(&mut observed, 61);
    assert_eq!(attempts(&decision), None);
    assert_eq!(condition(&decision, conditions::RING_CLOSED).status, "True");
}

#[test]
fn without_an_age_nothing_is_started_and_a_clock_that_was_set_back_does_not_matter() {
    let mut observed = whole();
    for (age, due) in [(None, false), (Some(-3600), true)] {
        stop(&mut observed, LOCK, 0);
        link(&mut observed, 1).seconds_since_error = age;
        assert_eq!(starts(&settle(&mut observed, 60)), due, "{age:?}");
    }
}

#[test]
fn a_reader_that_meets_a_lock_goes_on_serving_reads() {
    let mut observed = single();
    changes(&mut observed, 50);
    for (seconds, ago) in [(60, 0), (61, 1), (62, 2)] {
        stop(&mut observed, LOCK, ago);
        assert_eq!(changes(&mut observed, seconds), (vec![], vec![]));
        let status = observed.cluster.status.as_ref().unwrap();
        assert_eq!(status.member_statuses[1].state, MemberState::Reading);
    }
}

#[test]
fn the_next_writer_opens_only_with_what_waits_for_a_lock() {
    let mut observed = single();
    stop(&mut observed, LOCK, 1);
    // Of two that hold the same, the one whose applier does not wait.
    let mut lost = observed.clone();
    crate::fixture::lose(&mut lost, 0);
    let decision = settle(&mut lost, 60);
    assert_eq!(
        decision.status.writer.map(|writer| writer.name).as_deref(),
        Some("demo-2")
    );
    // It is the writer all the same: it waits.
    fence(&mut observed, 0);
    observed.cluster.status.as_mut().unwrap().writer.as_mut().unwrap().name = "demo-1".into();
    told(&mut observed, 1);
    for waits in [true, false] {
        let findings = Findings::of(&observed);
        let data = findings.member(1).unwrap().data.as_ref().unwrap();
        assert_eq!(may_open(&findings, data).is_err(), waits);
        run(&mut observed);
        let executed = server(&mut observed, 1).executed.union(&gtid(&transaction(11)));
        server(&mut observed, 1).executed = executed;
    }
}

#[test]
fn what_waits_for_a_lock_is_not_missing() {
    let mut observed = whole();
    // Member 1 has a new upstream link to make; what the upstream has purged stands in a left-over channel.
    let purged = format!("{}:11", uuid(2));
    server(&mut observed, 0).purged = gtid(&purged);
    server(&mut observed, 0).executed = server(&mut observed, 0).executed.union(&gtid(&purged));
    let mut left_over = channel(2);
    interrupt(&mut left_over, &purged, LOCK, 0);
    server(&mut observed, 1).channels = vec![left_over];
    let decision = multimaster::decide::decide(&observed, at(60));
    assert_eq!(steps(&decision), Vec::<&Step>::new());
    assert_eq!(
        condition(&decision, conditions::RING_CLOSED).reason,
        Reason::LinksBroken.as_ref()
    );
}
