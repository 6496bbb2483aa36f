//! When members are compared, and what the condition Converged says.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use multimaster::api::reasons::{EventReason, Reason};
use multimaster::api::status::{ComparisonStatus, Difference, conditions};
use multimaster::decide::decide;
use multimaster::decide::observed::{ComparisonRun, Observed};
use multimaster::decide::report::events::events;
use multimaster::decide::step::{ClusterAction, PodAction, Step};
use multimaster::names::ANNOTATION_COMPARE;

use crate::fixture::{at, condition, fence, link, settle, steps, unreachable, whole};

const HOUR: i64 = 3600;

fn annotated(observed: &mut Observed, text: &str) {
    observed.cluster.metadata.annotations = Some(BTreeMap::from([(ANNOTATION_COMPARE.to_owned(), text.to_owned())]));
}

fn created(seconds: i64) -> Observed {
    let mut observed = whole();
    observed.cluster.metadata.creation_timestamp = Some(Time(at(seconds)));
    observed
}

fn found(seconds: i64, requested: Option<&str>, differences: Vec<Difference>) -> ComparisonStatus {
    ComparisonStatus {
        requested: requested.map(str::to_owned),
        started_at: Some(Time(at(seconds))),
        finished_at: Some(Time(at(seconds + 5))),
        tables: 4,
        chunks: 6,
        rows: 1000,
        differing: differences.len().try_into().unwrap(),
        differences,
        ..ComparisonStatus::default()
    }
}

fn difference() -> Difference {
    Difference {
        object: "table shop.t".into(),
        keys: Some("id > 41 AND id <= 42".into()),
        members: "demo-0,demo-2 | demo-1".into(),
    }
}

/// The next pass writes this into status.
fn finish(observed: &mut Observed, seconds: i64, result: ComparisonStatus) {
    observed.comparison = ComparisonRun::Finished(result);
    settle(observed, seconds);
    observed.comparison = ComparisonRun::Idle;
}

fn compares(observed: &Observed, seconds: i64) -> bool {
    let decision = decide(observed, at(seconds));
    match steps(&decision)[..] {
        [] => false,
        [Step::Cluster(ClusterAction::Compare { .. })] => true,
        ref other => panic!("{other:?}"),
    }
}

#[test]
fn members_are_compared_a_period_after_the_last_time() {
    let mut observed = created(0);
    assert!(!compares(&observed, 24 * HOUR - 1));
    assert!(compares(&observed, 24 * HOUR));
    finish(&mut observed, 24 * HOUR, found(24 * HOUR, None, Vec::new()));
    assert!(!compares(&observed, 48 * HOUR - 1));
    assert!(compares(&observed, 48 * HOUR));
    observed.cluster.spec.comparison.period_hours = 1;
    assert!(compares(&observed, 25 * HOUR));
    observed.cluster.spec.comparison.period_hours = 0;
    assert!(!compares(&observed, 1000 * HOUR));
}

#[test]
fn another_text_in_the_annotation_asks_at_once() {
    let mut observed = created(0);
    observed.cluster.spec.comparison.period_hours = 0;
    assert!(!compares(&observed, 60));
    annotated(&mut observed, "2026-11-22");
    assert_eq!(
        steps(&decide(&observed, at(60))),
        [&Step::Cluster(ClusterAction::Compare {
            requested: Some("2026-11-22".into())
        })]
    );
    finish(&mut observed, 70, found(60, Some("2026-11-22"), Vec::new()));
    assert!(!compares(&observed, 71));
    annotated(&mut observed, "again");
    assert!(compares(&observed, 72));
    annotated(&mut observed, "");
    assert!(!compares(&observed, 73));
}

#[test]
fn too_long_a_text_is_named_and_changes_nothing() {
    let mut observed = created(0);
    annotated(&mut observed, &"x".repeat(65));
    let decision = settle(&mut observed, 60);
    assert!(steps(&decision).is_empty(), "{:?}", decision.steps);
    let progressing = condition(&decision, conditions::PROGRESSING);
    assert_eq!(progressing.reason, Reason::InvalidAnnotation.as_ref());
    assert!(
        progressing.message.contains(ANNOTATION_COMPARE),
        "{}",
        progressing.message
    );
}

#[test]
fn one_begins_only_if_none_is_under_way_or_in_line() {
    let mut observed = created(0);
    annotated(&mut observed, "now");
    for (comparison, begins) in [
        (ComparisonRun::Idle, true),
        (ComparisonRun::Queued { ahead: 2 }, false),
        (ComparisonRun::Running, false),
        (ComparisonRun::Finished(found(50, Some("now"), Vec::new())), false),
    ] {
        observed.comparison = comparison.clone();
        assert_eq!(compares(&observed, 60), begins, "{comparison:?}");
    }
}

#[test]
fn one_that_fails_again_and_again_waits_longer_each_time() {
    let mut observed = created(0);
    annotated(&mut observed, "now");
    for (times, minutes) in [
        (1, 1),
        (2, 2),
        (3, 4),
        (4, 8),
        (5, 16),
        (6, 32),
        (7, 60),
        (8, 60),
        (u32::MAX, 60),
    ] {
        observed.comparison = failed(100, times, Some("now"));
        assert!(!compares(&observed, 99 + minutes * 60), "{times}");
        assert!(compares(&observed, 100 + minutes * 60), "{times}");
    }
}

#[test]
fn a_new_text_waits_for_no_pause() {
    for (text, failed_for, begins) in [
        ("now", Some("now"), false),
        ("again", Some("now"), true),
        // The one that failed was due by the schedule.
        ("now", None, true),
        ("", Some("now"), false),
        ("", None, false),
    ] {
        let mut observed = created(0);
        annotated(&mut observed, text);
        observed.comparison = failed(48 * HOUR, 9, failed_for);
        assert_eq!(
            compares(&observed, 48 * HOUR + 1),
            begins,
            "{text:?} after {failed_for:?}"
        );
    }
    // Too long a text asks for nothing.
    let mut observed = created(0);
    annotated(&mut observed, &"x".repeat(65));
    observed.comparison = failed(48 * HOUR, 9, None);
    assert!(!compares(&observed, 48 * HOUR + 1));
}

#[test]
fn converged_says_what_a_comparison_that_is_due_waits_for() {
    let message = |comparison: ComparisonRun, seconds: i64| {
        let mut observed = created(0);
        observed.cluster.status.as_mut().unwrap().comparison = Some(found(10, None, Vec::new()));
        observed.comparison = comparison;
        let decision = settle(&mut observed, seconds);
        let converged = condition(&decision, conditions::CONVERGED);
        (
            converged.status.clone(),
            converged.reason.clone(),
            converged.message.clone(),
        )
    };
    for (comparison, words) in [
        (
            ComparisonRun::Queued { ahead: 3 },
            "3 other clusters are compared first",
        ),
        (
            failed(24 * HOUR + 100, 3, None),
            "demo-1: no answer within 310s; attempt 3 failed, the next one begins at 2027-01-16T08:05:40Z",
        ),
    ] {
        let (status, reason, text) = message(comparison.clone(), 24 * HOUR + 120);
        assert_eq!(
            (status.as_str(), reason.as_str()),
            ("Unknown", Reason::CannotCompare.as_ref())
        );
        assert!(text.contains(words), "{text}");
        // A comparison that is not due makes nothing doubtful.
        assert_eq!(message(comparison, 60).1, Reason::Equal.as_ref());
    }
}

fn failed(seconds: i64, times: u32, requested: Option<&str>) -> ComparisonRun {
    ComparisonRun::Failed {
        why: "demo-1: no answer within 310s".into(),
        at: at(seconds),
        times,
        requested: requested.map(str::to_owned),
    }
}

#[test]
fn it_takes_all_members_in_a_ring_that_replicates() {
    let away = |change: fn(&mut Observed)| {
        let mut observed = created(0);
        annotated(&mut observed, "now");
        change(&mut observed);
        let decision = settle(&mut observed, 60);
        let compared = decision.steps.iter().any(|step| {
            matches!(
                step,
                Step::Cluster(ClusterAction::Compare { .. }) | Step::Cluster(ClusterAction::StopWrites)
            )
        });
        assert!(!compared, "{:?}", decision.steps);
        let converged = condition(&decision, conditions::CONVERGED).clone();
        assert_eq!(
            (converged.status.as_str(), converged.reason.as_str()),
            ("Unknown", Reason::CannotCompare.as_ref())
        );
        converged.message
    };
    for (change, words) in [
        (
            (|observed| unreachable(observed, 1)) as fn(&mut Observed),
            "demo-1 is Suspect",
        ),
        (|observed| fence(observed, 2), "demo-2 is Returning"),
        (
            |observed| link(observed, 2).applier_running = false,
            "a link of the ring does not replicate",
        ),
        (
            |observed| observed.cluster.spec.paused = Some(true),
            "spec.paused is true",
        ),
        (|observed| observed.cluster.spec.members = 2, "a member leaves the ring"),
        // Something differed, and now a member is away.
        (
            |observed| {
                observed.comparison = ComparisonRun::Unsettled;
                unreachable(observed, 1);
            },
            "demo-1 is Suspect",
        ),
    ] {
        let message = away(change);
        assert!(message.contains(words), "{message}");
    }
}

#[test]
fn writes_are_stopped_by_the_pass_when_nothing_else_is_done() {
    let mut observed = created(0);
    observed.comparison = ComparisonRun::Unsettled;
    let decision = decide(&observed, at(60));
    assert_eq!(steps(&decision), [&Step::Cluster(ClusterAction::StopWrites)]);
    observed.update_revision = Some("b".into());
    let decision = decide(&observed, at(60));
    assert!(matches!(
        steps(&decision)[..],
        [Step::Pod {
            ordinal: 2,
            action: PodAction::Withdraw { .. },
            ..
        }]
    ));
}

#[test]
fn converged_says_what_differs_where_and_on_whom() {
    let mut observed = created(0);
    let decision = settle(&mut observed, 10);
    let first = condition(&decision, conditions::CONVERGED).clone();
    assert_eq!(
        (first.status.as_str(), first.reason.as_str()),
        ("Unknown", Reason::NotCompared.as_ref())
    );
    assert!(first.message.contains("first compared at"), "{}", first.message);

    finish(&mut observed, 20, found(15, Some("a"), Vec::new()));
    let decision = settle(&mut observed, 30);
    let equal = condition(&decision, conditions::CONVERGED).clone();
    assert_eq!(
        (
            equal.status.as_str(),
            equal.reason.as_str(),
            equal.last_transition_time.0
        ),
        ("True", Reason::Equal.as_ref(), at(20))
    );
    assert!(equal.message.contains("4 tables with 1000 rows"), "{}", equal.message);

    finish(&mut observed, 40, found(35, Some("b"), vec![difference()]));
    finish(&mut observed, 50, found(45, Some("c"), vec![difference()]));
    let decision = settle(&mut observed, 60);
    let diverged = condition(&decision, conditions::CONVERGED).clone();
    assert_eq!(
        (
            diverged.status.as_str(),
            diverged.reason.as_str(),
            diverged.last_transition_time.0
        ),
        ("False", Reason::Diverged.as_ref(), at(40))
    );
    let words = "rows of table shop.t where id > 41 AND id <= 42: demo-0,demo-2 | demo-1";
    assert!(diverged.message.contains(words), "{}", diverged.message);
    assert!(diverged.message.contains("sql_log_bin=0"), "{}", diverged.message);

    // A difference stays one while nobody can look; equality does not.
    unreachable(&mut observed, 1);
    annotated(&mut observed, "d");
    let decision = settle(&mut observed, 70);
    let diverged = condition(&decision, conditions::CONVERGED);
    assert_eq!(diverged.status, "False");
    let words = "; a comparison is due, but demo-1 is Suspect";
    assert!(diverged.message.ends_with(words), "{}", diverged.message);
    observed.cluster.status.as_mut().unwrap().comparison = Some(found(60, Some("c"), Vec::new()));
    let decision = settle(&mut observed, 80);
    assert_eq!(
        condition(&decision, conditions::CONVERGED).reason,
        Reason::CannotCompare.as_ref()
    );
    annotated(&mut observed, "c");
    let decision = settle(&mut observed, 90);
    assert_eq!(
        condition(&decision, conditions::CONVERGED).reason,
        Reason::Equal.as_ref()
    );
}

/// A comparison that left something out has not shown that members are equal, and goes on being one that ended.
#[test]
fn what_was_not_compared_is_named() {
    let why = "procedure app.big at demo-1: it is longer than 16 MiB";
    let partial = |differences| ComparisonStatus {
        not_compared: vec![why.into(), "and 3 more".into()],
        ..found(10, None, differences)
    };
    let mut observed = created(0);
    finish(&mut observed, 20, partial(vec![]));
    let decision = settle(&mut observed, 30);
    let converged = condition(&decision, conditions::CONVERGED);
    assert_eq!(
        (converged.status.as_str(), converged.reason.as_str()),
        ("Unknown", Reason::CannotCompare.as_ref())
    );
    assert!(
        converged.message.contains("4 tables with 1000 rows"),
        "{}",
        converged.message
    );
    assert!(
        converged.message.contains(&format!("not compared: {why}; and 3 more")),
        "{}",
        converged.message
    );
    assert!(!compares(&observed, 40), "the next one is due as ever");
    finish(&mut observed, 50, partial(vec![difference()]));
    let decision = settle(&mut observed, 60);
    let converged = condition(&decision, conditions::CONVERGED);
    assert_eq!(converged.reason, Reason::Diverged.as_ref());
    assert!(
        converged.message.contains("table shop.t") && converged.message.contains(why),
        "{}",
        converged.message
    );
}

#[test]
fn more_than_is_listed_is_counted() {
    let mut observed = created(0);
    let many = ComparisonStatus {
        differing: 25,
        writes_stopped_milliseconds: 12,
        ..found(15, None, vec![difference(); 20])
    };
    finish(&mut observed, 20, many);
    let message = condition(&settle(&mut observed, 21), conditions::CONVERGED)
        .message
        .clone();
    assert!(
        message.contains("; and 5 more; writes were refused for 12 ms"),
        "{message}"
    );
}

#[test]
fn events_tell_of_differences_and_of_answers() {
    let published = |result: ComparisonStatus, before: Option<ComparisonStatus>| {
        let mut observed = created(0);
        if let Some(before) = before {
            finish(&mut observed, 10, before);
        }
        let before = observed.cluster.status.clone().unwrap();
        observed.comparison = ComparisonRun::Finished(result);
        let after = settle(&mut observed, 20).status;
        let published: Vec<_> = events(&before, &after, at(20))
            .into_iter()
            .map(|event| (event.warning, event.reason))
            .collect();
        assert_eq!(events(&after, &after, at(21)), []);
        published
    };
    assert_eq!(published(found(15, None, Vec::new()), None), []);
    assert_eq!(
        published(found(15, Some("a"), Vec::new()), None),
        [(false, EventReason::Compared)]
    );
    assert_eq!(
        published(found(15, None, vec![difference()]), None),
        [(true, EventReason::Diverged)]
    );
    assert_eq!(
        published(found(15, Some("a"), Vec::new()), Some(found(5, Some("a"), Vec::new()))),
        []
    );
}

#[test]
fn nothing_is_written_when_nothing_is_new() {
    let mut observed = created(0);
    settle(&mut observed, 50);
    for comparison in [
        ComparisonRun::Idle,
        ComparisonRun::Running,
        ComparisonRun::Queued { ahead: 2 },
    ] {
        observed.comparison = comparison;
        let before = observed.cluster.status.clone().unwrap();
        assert_eq!(settle(&mut observed, 60).status, before);
    }
    finish(&mut observed, 70, found(65, Some("a"), vec![difference()]));
    let before = observed.cluster.status.clone().unwrap();
    for seconds in 71..200 {
        assert_eq!(settle(&mut observed, seconds).status, before);
    }
}
