//! Who may confirm the one writer while no operator does: which sets status has, and when nobody can have.

use std::collections::HashMap;

use jiff::SignedDuration;
use multimaster::api::voters::Voters;
use multimaster::decide::observed::Observed;
use multimaster::decide::roles::Roles;
use multimaster::decide::serve::voters::{LastConfirmations, note_confirmation, of_member};
use multimaster::decide::step::{Action, Step};
use multimaster::wire::agent::LeaseReport;

use crate::fixture::{at, pod, report, settle, unreachable};
use crate::healing::lose;
use crate::writer::{single, told};

fn of(ordinals: &[u8]) -> Voters {
    ordinals.iter().copied().collect()
}

fn sets(observed: &Observed, ordinal: usize) -> Vec<Voters> {
    let status = observed.cluster.status.as_ref().unwrap();
    status.member_statuses[ordinal].voters.clone()
}

fn counts(observed: &mut Observed, ordinal: u8, voters: Option<&[u8]>) {
    report(observed, ordinal).lease = Some(LeaseReport {
        writer: ordinal,
        held: true,
        since_confirmed_milliseconds: None,
        voters: voters.map(of),
    });
}

#[test]
fn a_new_set_is_named_only_when_the_writer_has_the_one_before() {
    let mut observed = single();
    assert_eq!(sets(&observed, 0), [of(&[0, 1, 2])]);
    lose(&mut observed, 2);
    settle(&mut observed, 10);
    settle(&mut observed, 16);
    assert!(observed.cluster.status.as_ref().unwrap().member_statuses[2].bypassed);
    assert_eq!(sets(&observed, 0), [of(&[0, 1, 2]), of(&[0, 1])]);
    // Its report does not have it yet.
    settle(&mut observed, 17);
    assert_eq!(sets(&observed, 0), [of(&[0, 1, 2]), of(&[0, 1])]);
    // It cannot be asked: it may have either.
    let before = observed.clone();
    unreachable(&mut observed, 0);
    settle(&mut observed, 18);
    assert_eq!(sets(&observed, 0), [of(&[0, 1, 2]), of(&[0, 1])]);
    observed = before;
    counts(&mut observed, 0, Some(&[0, 1]));
    settle(&mut observed, 18);
    assert_eq!(sets(&observed, 0), [of(&[0, 1])]);
}

#[test]
fn an_agent_of_an_earlier_version_counts_none_and_one_that_has_another_set_is_believed() {
    for (counted, expected) in [
        (None, vec![]),
        (Some(&[][..]), vec![of(&[0, 1, 2])]),
        (Some(&[0, 2]), vec![of(&[0, 2]), of(&[0, 1, 2])]),
    ] {
        let mut observed = single();
        counts(&mut observed, 0, counted);
        settle(&mut observed, 10);
        assert_eq!(sets(&observed, 0), expected, "{counted:?}");
    }
}

/// Whether member 1 opens, once it is the writer in place of member 0, which does not answer.
fn opens(observed: &mut Observed) -> bool {
    lose(observed, 0);
    observed.members[0].since_contact = SignedDuration::from_secs(20);
    settle(observed, 10);
    told(observed, 1);
    let decision = multimaster::decide::decide(observed, at(11));
    decision.steps.iter().any(|step| {
        matches!(
            step,
            Step::Member {
                ordinal: 1,
                action: Action::Open,
                ..
            }
        )
    })
}

#[test]
fn the_next_writer_opens_when_too_few_are_left_who_may_have_confirmed_the_one_before() {
    let just_now = SignedDuration::from_secs(1);
    let mut observed = single();
    assert!(opens(&mut observed));
    for voter in [1, 2] {
        let mut observed = single();
        observed.members[voter].since_confirmed = just_now;
        assert!(!opens(&mut observed), "{voter}");
    }
    // The third was out of the ring for long, and the writer knew it.
    let mut observed = single();
    counts(&mut observed, 0, Some(&[0, 1]));
    observed.cluster.status.as_mut().unwrap().member_statuses[0].voters = vec![of(&[0, 1])];
    observed.members[2].since_confirmed = just_now;
    settle(&mut observed, 9);
    observed.cluster.status.as_mut().unwrap().member_statuses[0].voters = vec![of(&[0, 1])];
    assert!(opens(&mut observed));
}

fn noted(observed: &mut Observed, last: &mut LastConfirmations, seconds: i64) -> i64 {
    let now = SignedDuration::from_secs(seconds);
    note_confirmation(last, &mut observed.members[2], Some(1), now);
    observed.members[2].since_confirmed.as_secs()
}

#[test]
fn what_is_known_of_a_voters_last_confirmation() {
    let mut observed = single();
    let last = &mut HashMap::new();
    assert_eq!(noted(&mut observed, last, 10), 0, "it does not know the writer yet");
    told(&mut observed, 1);
    report(&mut observed, 2).clock = 3000;
    assert_eq!(
        noted(&mut observed, last, 11),
        3,
        "what the agent before it confirmed is not known"
    );
    report(&mut observed, 2).clock = 9000;
    report(&mut observed, 2)
        .lease
        .as_mut()
        .unwrap()
        .since_confirmed_milliseconds = Some(5000);
    assert_eq!(noted(&mut observed, last, 12), 5);
    unreachable(&mut observed, 2);
    assert_eq!(noted(&mut observed, last, 13), 0, "no answer proves nothing");
    pod(&mut observed, 2).running = false;
    assert_eq!(noted(&mut observed, last, 14), 0, "it may have run until now");
    assert_eq!(noted(&mut observed, last, 20), 6);
    note_confirmation(last, &mut observed.members[2], Some(0), SignedDuration::from_secs(21));
    assert_eq!(
        observed.members[2].since_confirmed.as_secs(),
        0,
        "it may have confirmed the writer of before"
    );
    observed.members[2].pod = None;
    assert_eq!(noted(&mut observed, last, 30), 0, "pods can be deleted by force");
}

/// What Kubernetes says of the pod was late: its agent is another one by now, and it has answered.
#[test]
fn a_pod_that_answers_and_is_said_not_to_run_is_not_believed_to_be_down() {
    let mut observed = single();
    let last = &mut HashMap::new();
    told(&mut observed, 0);
    pod(&mut observed, 2).running = false;
    assert_eq!(noted(&mut observed, last, 10), 0);
    unreachable(&mut observed, 2);
    for seconds in 11..20 {
        assert_eq!(noted(&mut observed, last, seconds), 0);
    }
    let mut successor = observed.clone();
    pod(&mut observed, 2).running = true;
    assert_eq!(noted(&mut observed, last, 20), 0);
    pod(&mut observed, 2).running = false;
    assert_eq!(noted(&mut observed, last, 21), 0);
    assert_eq!(noted(&mut observed, last, 30), 9);
    // Another pod, in place of one that a person has deleted.
    noted(&mut successor, last, 40);
    pod(&mut successor, 2).uid = "another".into();
    noted(&mut successor, last, 41);
    assert!(noted(&mut successor, last, 50) >= 9);
}

/// While only one member is in the ring, all count but the one that leaves: otherwise it could not be forgotten.
#[test]
fn a_member_that_leaves_is_in_no_new_set() {
    let mut observed = single();
    observed.cluster.spec.members = 2;
    counts(&mut observed, 0, Some(&[0, 2]));
    let status = observed.cluster.status.as_mut().unwrap();
    status.member_statuses[0].voters = vec![of(&[0, 2])];
    for gone in [1, 2] {
        status.member_statuses[gone].bypassed = true;
    }
    let roles = Roles::of(&observed);
    assert!(roles.is_leaving(2));
    let sets = of_member(&roles, &observed.members[0], false, false);
    assert_eq!(sets, [of(&[0, 2]), of(&[0, 1])]);
}

/// Three members are lost one after the other, writers first.
#[test]
fn the_last_of_three_takes_over_although_the_first_writer_never_came_back() {
    let mut observed = single();
    assert!(opens(&mut observed));
    assert_eq!(sets(&observed, 0), [of(&[0, 1, 2])], "its lease may not have ended");
    crate::fixture::server(&mut observed, 1).super_read_only = false;
    settle(&mut observed, 12);
    assert_eq!(sets(&observed, 0), [], "by now it has");
    assert_eq!(observed.cluster.writer(), Some(1));
    counts(&mut observed, 1, Some(&[1, 2]));
    settle(&mut observed, 30);
    assert_eq!(sets(&observed, 1), [of(&[1, 2])]);
    lose(&mut observed, 1);
    observed.members[1].since_contact = SignedDuration::from_secs(20);
    observed.members[1].since_confirmed = SignedDuration::ZERO;
    settle(&mut observed, 60);
    told(&mut observed, 2);
    let decision = multimaster::decide::decide(&observed, at(61));
    let opens = |step: &Step| matches!(step.on_member(), Some(Action::Open));
    assert!(decision.steps.iter().any(opens), "{:?}", decision.steps);
}

#[test]
fn a_member_leaves_only_when_no_writer_counts_it_any_more() {
    let mut observed = single();
    observed.cluster.spec.members = 2;
    for seconds in 10..20 {
        let decision = settle(&mut observed, seconds);
        if decision.status.member_statuses.len() == 2 {
            panic!("at {seconds} it was forgotten, and the writer may count it");
        }
        for step in &decision.steps {
            if let Some(Action::Attach { upstream, .. }) = step.on_member() {
                crate::fixture::server(&mut observed, 0).channels = vec![crate::fixture::channel(*upstream)];
            }
        }
        pod(&mut observed, 2).serving = false;
        pod(&mut observed, 2).reads = false;
    }
    assert_eq!(sets(&observed, 0).last(), Some(&of(&[0, 1])));
    counts(&mut observed, 0, Some(&[0, 1]));
    settle(&mut observed, 21);
    settle(&mut observed, 22);
    assert_eq!(observed.cluster.status.as_ref().unwrap().member_statuses.len(), 2);
}
