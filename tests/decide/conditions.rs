//! Conditions and events.

use jiff::SignedDuration;
use multimaster::api::reasons::{EventReason, Reason};
use multimaster::api::status::{MemberState, Phase, conditions};
use multimaster::decide::observed::{Problem, SqlError};
use multimaster::decide::report::events::events;
use multimaster::decide::report::judgement::not_observed;
use multimaster::decide::step::{Action, ClusterAction, PodAction, Step};
use multimaster::decide::{decide, observed::Probe};
use multimaster::wire::agent::Origin;
use strum::IntoEnumIterator;

use crate::fixture::{at, condition, link, lose, member_status, new, pod, report, settle, unreachable, whole};

#[test]
fn every_condition_carries_the_generation_and_flips_move_the_time() {
    let mut observed = whole();
    let ready_since = condition(&settle(&mut observed, 1), conditions::READY)
        .last_transition_time
        .clone();
    observed.cluster.metadata.generation = Some(2);
    let decision = settle(&mut observed, 30);
    assert!(
        decision
            .status
            .conditions
            .iter()
            .all(|condition| condition.observed_generation == Some(2))
    );
    assert_eq!(
        condition(&decision, conditions::READY).last_transition_time,
        ready_since
    );
    unreachable(&mut observed, 1);
    pod(&mut observed, 1).ready = false;
    let decision = settle(&mut observed, 40);
    assert_eq!(condition(&decision, conditions::READY).last_transition_time.0, at(40));
}

#[test]
fn ready_is_unknown_before_anything_was_observed() {
    let status = not_observed(&Default::default(), Some(1), at(0));
    assert_eq!(status.observed_generation, Some(1));
    assert!(status.conditions.iter().all(|condition| condition.status == "Unknown"));
    assert_eq!(status.conditions.len(), 10);
}

#[test]
fn an_invalid_spec_has_a_status_and_is_not_applied() {
    let mut observed = new();
    let message = "spec.mysql.config.server_id: is set by the ring".to_owned();
    observed.problems.push(Problem {
        reason: Reason::InvalidSpec,
        message: message.clone(),
    });
    let decision = decide(&observed, at(0));
    assert_eq!(decision.status.phase, Phase::Invalid);
    assert!(!decision.steps.contains(&Step::Cluster(ClusterAction::Apply)));
    let ready = condition(&decision, conditions::READY);
    assert_eq!(
        (ready.reason.as_str(), &ready.message),
        (Reason::InvalidSpec.as_ref(), &message)
    );
}

#[test]
fn stalled_says_what_waits_for_a_person() {
    let with = |reason| {
        let mut observed = whole();
        observed.problems.push(Problem {
            reason,
            message: "why".into(),
        });
        let decision = settle(&mut observed, 1);
        let stalled = condition(&decision, conditions::STALLED).clone();
        (stalled.status, stalled.reason, stalled.message)
    };
    for reason in [
        Reason::InvalidSpec,
        Reason::CredentialsIncomplete,
        Reason::CopiedSecret,
        Reason::StorageClassMissing,
    ] {
        assert_eq!(with(reason), ("True".into(), reason.as_ref().into(), "why".into()));
    }
    // The operator tries again, or another version of it will.
    for reason in [Reason::ApplyFailed, Reason::NewerSpec, Reason::ImageUnavailable] {
        assert_eq!(with(reason).0, "False", "{reason:?}");
    }
    let mut lost = whole();
    for ordinal in 0..3 {
        report(&mut lost, ordinal).origin = Origin::Empty;
    }
    let decision = settle(&mut lost, 1);
    let stalled = condition(&decision, conditions::STALLED);
    assert_eq!((stalled.status.as_str(), stalled.reason.as_str()), ("True", "DataLost"));
    // A conflict waits, and so does a member; the spec does not.
    let mut waits = whole();
    link(&mut waits, 1).applier_running = false;
    link(&mut waits, 1).applier_error = Some(SqlError {
        number: 1062,
        text: "Duplicate entry".into(),
    });
    let decision = settle(&mut waits, 1);
    assert_eq!(condition(&decision, conditions::CONFLICT_FREE).status, "False");
    assert_eq!(condition(&decision, conditions::STALLED).status, "False");
}

#[test]
fn what_the_api_server_refused_is_offered_again() {
    let mut observed = whole();
    observed.problems.push(Problem {
        reason: Reason::ApplyFailed,
        message: "refused".into(),
    });
    let decision = decide(&observed, at(0));
    assert!(decision.steps.contains(&Step::Cluster(ClusterAction::Apply)));
    assert_eq!(
        condition(&decision, conditions::READY).reason,
        Reason::ApplyFailed.as_ref()
    );
}

#[test]
fn a_pod_that_does_not_start_is_explained_in_ready() {
    let mut observed = whole();
    observed.members[1].server = Probe::NoAddress;
    observed.members[1].agent = Probe::NoAddress;
    let message = "demo-1 does not start: mysqld exited with 1: unknown variable 'x=1'".to_owned();
    let pod = pod(&mut observed, 1);
    (pod.running, pod.ready, pod.serving) = (false, false, false);
    pod.problem = Some(Problem {
        reason: Reason::MysqldNotStarting,
        message: message.clone(),
    });
    let decision = decide(&observed, at(60));
    let ready = condition(&decision, conditions::READY);
    assert_eq!(
        (ready.reason.as_str(), &ready.message),
        (Reason::MysqldNotStarting.as_ref(), &message)
    );
}

#[test]
fn a_loss_and_a_return_have_their_events() {
    let mut observed = whole();
    let before = observed.cluster.status.clone().unwrap();
    unreachable(&mut observed, 1);
    pod(&mut observed, 1).ready = false;
    link(&mut observed, 2).seconds_since_contact = Some(3);
    let lost = settle(&mut observed, 60).status;
    let published: Vec<_> = events(&before, &lost, at(60))
        .into_iter()
        .map(|event| event.reason)
        .collect();
    assert_eq!(published, [EventReason::MemberFailed, EventReason::RingOpen]);
    let back = decide(&whole(), at(72)).status;
    let published = events(&lost, &back, at(72));
    assert_eq!(
        published.iter().map(|event| event.reason).collect::<Vec<_>>(),
        [EventReason::MemberServing, EventReason::RingClosed, EventReason::Ready]
    );
    assert_eq!(published[0].message, "demo-1 serves; it was Failed before after 12 s");
}

#[test]
fn ready_waits_for_the_first_database() {
    let mut observed = whole();
    observed.cluster.spec.database = Some(multimaster::api::Database {
        name: "shop".into(),
        user: "shop".into(),
    });
    let decision = settle(&mut observed, 60);
    let ready = condition(&decision, conditions::READY);
    assert_eq!(
        (ready.status.as_str(), ready.reason.as_str()),
        ("False", Reason::Founding.as_ref())
    );
    assert!(
        decision
            .steps
            .iter()
            .any(|step| matches!(step.on_member(), Some(Action::CreateDatabase)))
    );
    observed.cluster.status.as_mut().unwrap().database_created = true;
    let decision = settle(&mut observed, 61);
    assert_eq!(condition(&decision, conditions::READY).status, "True");
}

#[test]
fn every_reason_is_in_the_documents() {
    let documents = [include_str!("../../docs/ring.md"), include_str!("../../docs/tasks.md")].concat();
    let missing = |reason: &str| !documents.contains(&format!("`{reason}`"));
    let conditions: Vec<Reason> = Reason::iter().filter(|reason| missing(reason.as_ref())).collect();
    let events: Vec<EventReason> = EventReason::iter().filter(|reason| missing(reason.as_ref())).collect();
    assert_eq!((conditions, events), (Vec::new(), Vec::new()));
}

#[test]
fn numbers_in_texts_are_written_every_five_seconds_texts_every_second_and_what_flips_at_once() {
    let mut observed = whole();
    let mut written_at = |milliseconds: i64, problem: Option<&str>| {
        let problem = problem.map(|message| Problem {
            reason: Reason::ApplyFailed,
            message: message.into(),
        });
        observed.problems = problem.into_iter().collect();
        let now = at(0) + SignedDuration::from_millis(milliseconds);
        let before = observed.cluster.status.clone();
        let status = decide(&observed, now).status;
        let is_written = before.as_ref() != Some(&status);
        observed.cluster.status = Some(status);
        is_written
    };
    for (milliseconds, problem, expected) in [
        (10_000, Some("refused after 1 s"), true),
        (11_000, Some("refused after 2 s"), false),
        (14_900, Some("refused after 5 s"), false),
        (15_000, Some("refused after 5 s"), true),
        (15_500, Some("no answer after 5 s"), false),
        (16_000, Some("no answer after 6 s"), true),
        (16_100, None, true),
        (16_200, Some("refused after 1 s"), true),
        // A clock that was set back stops nothing.
        (2_000, Some("refused after 9 s"), true),
    ] {
        assert_eq!(
            written_at(milliseconds, problem),
            expected,
            "{milliseconds} {problem:?}"
        );
    }
}

#[test]
fn texts_of_others_never_make_a_status_too_large_to_be_written() {
    let mut observed = whole();
    let long = "é".repeat(1 << 20);
    observed.problems.push(Problem {
        reason: Reason::ApplyFailed,
        message: long.clone(),
    });
    for ordinal in 0..3 {
        let channel = link(&mut observed, ordinal);
        channel.applier_running = false;
        channel.applier_error = Some(SqlError {
            number: 1205,
            text: long.clone(),
        });
    }
    let status = decide(&observed, at(60)).status;
    let bytes = serde_json::to_string(&status).unwrap().len();
    assert!(bytes < 256 << 10, "{bytes}");
    let last = status.member_statuses[1].links[0].last_error.as_ref().unwrap();
    assert!(last.starts_with("1205: éé") && last.ends_with("é ..."), "{last}");
}

#[test]
fn while_status_is_refused_nothing_planned_begins_and_what_has_begun_stays() {
    let mut observed = whole();
    observed.update_revision = Some("next".into());
    let withdraws = |decision: &multimaster::decide::Decision| {
        let mut steps = decision.steps.iter();
        steps.any(|step| matches!(step.on_pod(), Some(PodAction::Withdraw { .. })))
    };
    assert!(withdraws(&decide(&observed, at(60))));
    observed.status_waits = true;
    assert!(!withdraws(&decide(&observed, at(60))));
    // It is out of the Service, and status says so.
    observed.status_waits = false;
    let withdrawn = settle(&mut observed, 60);
    let draining = withdrawn
        .steps
        .iter()
        .find(|step| matches!(step.on_pod(), Some(PodAction::Withdraw { .. })));
    let draining = draining.and_then(Step::ordinal).unwrap();
    let out = pod(&mut observed, draining);
    (out.serving, out.reads) = (false, false);
    let drained = settle(&mut observed, 61);
    assert_eq!(member_status(&drained, draining).state, MemberState::Draining);
    for waits in [false, true] {
        observed.status_waits = waits;
        let decision = decide(&observed, at(62));
        let served = decision
            .steps
            .iter()
            .any(|step| matches!(step.on_pod(), Some(PodAction::Serve)));
        assert!(!served, "{waits}: {:?}", decision.steps);
    }
    // Its clients had their time.
    for (waits, restarts) in [(true, false), (false, true)] {
        observed.status_waits = waits;
        let decision = decide(&observed, at(600));
        let restarted = decision
            .steps
            .iter()
            .any(|step| matches!(step.on_pod(), Some(PodAction::Restart { .. })));
        assert_eq!(restarted, restarts, "{waits}: {:?}", decision.steps);
    }
}

#[test]
fn while_status_is_refused_the_ring_is_healed_as_it_is_recorded_and_each_pass_tries_to_write() {
    let mut observed = whole();
    lose(&mut observed, 1);
    settle(&mut observed, 60);
    assert_eq!(decide(&observed, at(90)).status.epoch, 2);
    observed.status_waits = true;
    let decision = decide(&observed, at(90));
    assert_eq!(decision.status.epoch, 1);
    assert!(decision.status.records_as(observed.cluster.status.as_ref().unwrap()));
    let is_withdrawn = |step: &&Step| matches!(step.on_pod(), Some(PodAction::Withdraw { .. }));
    assert_eq!(
        decision.steps.iter().find(is_withdrawn).and_then(Step::ordinal),
        Some(1)
    );
    observed.cluster.status = Some(decision.status.clone());
    let again = decide(&observed, at(91)).status;
    assert_ne!(again, decision.status, "only a write shows that status is taken again");
    assert!(again.records_as(&decision.status));
}

#[test]
fn a_setting_without_effect_is_told_and_holds_up_nothing() {
    let mut observed = whole();
    let config = serde_json::json!({"config": {"plugin-dir": "/x", "max_connections": "9"}});
    observed.cluster.spec.mysql = serde_json::from_value(config).unwrap();
    let decision = decide(&observed, at(60));
    let stalled = condition(&decision, "Stalled");
    assert_eq!(
        (stalled.status.as_str(), stalled.reason.as_str()),
        ("True", "InvalidSpec")
    );
    assert!(
        stalled
            .message
            .starts_with("spec.mysql.config: the ring sets plugin-dir itself"),
        "{}",
        stalled.message
    );
    assert_eq!(condition(&decision, "Ready").status, "True");
}
