//! Who serves reads.

use multimaster::api::status::MemberState;
use multimaster::decide::observed::Observed;
use multimaster::decide::roles::Roles;
use multimaster::decide::serve::lag::lag;
use multimaster::decide::step::{PodAction, Step};

use crate::fixture::{fence, gtid, link, lose, member_status, pod, server, settle, unreachable, uuid, whole};
use crate::writer::single;

/// Labels for reads that one pass changes: who comes, who goes.
pub fn changes(observed: &mut Observed, seconds: i64) -> (Vec<u8>, Vec<u8>) {
    let decision = settle(observed, seconds);
    let (mut come, mut go) = (Vec::new(), Vec::new());
    for step in &decision.steps {
        match step {
            Step::Pod {
                ordinal,
                action: PodAction::ServeReads,
                ..
            } => come.push(*ordinal),
            Step::Pod {
                ordinal,
                action: PodAction::WithdrawReads { .. },
                ..
            } => go.push(*ordinal),
            _ => {}
        }
    }
    for ordinal in &come {
        pod(observed, *ordinal).reads = true;
    }
    for ordinal in &go {
        pod(observed, *ordinal).reads = false;
    }
    (come, go)
}

fn limited(mut observed: Observed) -> Observed {
    observed.cluster.spec.max_lag_seconds = Some(5);
    observed
}

#[test]
fn a_member_is_as_far_behind_as_the_slowest_link_on_the_way() {
    let mut observed = single();
    link(&mut observed, 1).lag_seconds = Some(7);
    link(&mut observed, 2).lag_seconds = Some(2);
    link(&mut observed, 0).lag_seconds = Some(9);
    assert_eq!(
        [0, 1, 2].map(|ordinal| lag(&Roles::of(&observed), ordinal)),
        [Some(0), Some(7), Some(7)]
    );
    let mut observed = whole();
    link(&mut observed, 1).lag_seconds = Some(7);
    // What 1 writes comes to 0 by 2, and what 2 writes to 1 by 0.
    assert_eq!(
        [0, 1, 2].map(|ordinal| lag(&Roles::of(&observed), ordinal)),
        [Some(0), Some(7), Some(7)]
    );
}

#[test]
fn who_is_too_far_behind_goes_and_comes_back() {
    for mut observed in [limited(single()), limited(whole())] {
        assert_eq!(changes(&mut observed, 5), (vec![], vec![]));
        link(&mut observed, 2).lag_seconds = Some(6);
        let (come, go) = changes(&mut observed, 10);
        assert!(come.is_empty() && go.contains(&2), "{go:?}");
        let decision = settle(&mut observed, 11);
        assert!(!member_status(&decision, 2).reads);
        link(&mut observed, 2).lag_seconds = Some(5);
        assert_eq!(changes(&mut observed, 12), (go, vec![]));
    }
}

#[test]
fn without_a_limit_lag_does_not_matter() {
    let mut observed = single();
    link(&mut observed, 2).lag_seconds = Some(6000);
    assert_eq!(changes(&mut observed, 10), (vec![], vec![]));
}

#[test]
fn a_limit_that_nobody_keeps_leaves_the_nearest() {
    let mut observed = limited(whole());
    for (ordinal, seconds) in [(0, 10), (1, 8), (2, 9)] {
        link(&mut observed, ordinal).lag_seconds = Some(seconds);
    }
    let (come, go) = changes(&mut observed, 10);
    // On the way to 2 are the links into 1 and 2, on those to the others the one into 0.
    assert_eq!((come, go), (vec![], vec![0, 1]));
    // Nobody can be asked how far behind the last one is.
    link(&mut observed, 2).applier_running = false;
    changes(&mut observed, 11);
    assert_eq!(
        observed
            .members
            .iter()
            .filter(|member| member.pod.as_ref().unwrap().reads)
            .count(),
        1
    );
}

#[test]
fn a_link_without_connection_is_as_old_as_what_it_heard_last() {
    let mut observed = single();
    link(&mut observed, 1).lag_seconds = None;
    link(&mut observed, 1).seconds_since_contact = Some(4);
    assert_eq!(lag(&Roles::of(&observed), 1), Some(4));
    link(&mut observed, 1).applier_running = false;
    assert_eq!(lag(&Roles::of(&observed), 1), None);
}

#[test]
fn one_answer_that_is_missing_changes_nothing() {
    let mut observed = limited(single());
    unreachable(&mut observed, 1);
    assert_eq!(changes(&mut observed, 10), (vec![], vec![]));
}

#[test]
fn who_failed_leaves_the_reads() {
    let mut observed = single();
    lose(&mut observed, 1);
    assert_eq!(changes(&mut observed, 10), (vec![], vec![1]));
}

#[test]
fn a_reader_that_is_back_serves_reads_once_it_has_caught_up() {
    let mut observed = single();
    fence(&mut observed, 1);
    let executed = server(&mut observed, 1).executed.clone();
    // It was away: what it has to catch up with is noted anew.
    observed.cluster.status.as_mut().unwrap().member_statuses[1].catch_up_to = None;
    server(&mut observed, 1).executed = gtid(&format!("{}:1-10", uuid(1)));
    let decision = settle(&mut observed, 10);
    assert_eq!(member_status(&decision, 1).state, MemberState::CatchingUp);
    assert_eq!(changes(&mut observed, 10), (vec![], vec![]));
    server(&mut observed, 1).executed = executed;
    let decision = settle(&mut observed, 11);
    assert_eq!(member_status(&decision, 1).state, MemberState::Reading);
    assert_eq!(changes(&mut observed, 11), (vec![1], vec![]));
}
