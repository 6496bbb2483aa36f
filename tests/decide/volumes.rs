//! The sizes of volumes: what may grow grows, what cannot be had is told, can be taken back, and holds up nothing else.

use multimaster::api::reasons::Reason;
use multimaster::api::status::{Phase, conditions};
use multimaster::decide::observed::{Observed, Problem};
use multimaster::decide::report::judgement::not_observed;
use multimaster::decide::step::{ClusterAction, Step};
use multimaster::decide::volumes::{Claim, Growth, forbids_growth, recorded, refused, told};
use multimaster::decide::{Decision, decide};

use crate::fixture::{at, condition, new, pod, settle, steps, unreachable, whole};

fn claim(asks: &str, has: Option<&str>) -> Claim {
    Claim {
        name: "data-demo-0".into(),
        asks: asks.into(),
        has: has.map(Into::into),
        class: Some("standard".into()),
        failure: None,
    }
}

fn with(problem: &Problem) -> Observed {
    let mut observed = whole();
    observed.volumes = Some(problem.clone());
    observed
}

fn said(decision: &Decision, type_: &str) -> (String, String, String) {
    let condition = condition(decision, type_).clone();
    (condition.status, condition.reason, condition.message)
}

#[test]
fn a_volume_gets_the_size_that_is_wanted() {
    for (asks, has, wanted, growth) in [
        ("1Gi", Some("1Gi"), "1Gi", Growth::Nothing),
        ("1Gi", Some("1Gi"), "1024Mi", Growth::Nothing),
        ("1Gi", None, "1Gi", Growth::Nothing),
        ("1Gi", Some("1Gi"), "2Gi", Growth::Ask),
        ("1Gi", None, "2Gi", Growth::Awaited),
        ("2Gi", Some("1Gi"), "2Gi", Growth::Awaited),
        // The driver has rounded up.
        ("1500Mi", Some("2Gi"), "1500Mi", Growth::Nothing),
        ("1500Mi", Some("2Gi"), "2Gi", Growth::Nothing),
        ("1500Mi", Some("2Gi"), "3Gi", Growth::Ask),
        // Taken back: wholly, or to less than was wanted first.
        ("4Gi", Some("1Gi"), "1Gi", Growth::Nothing),
        ("4Gi", Some("1Gi"), "2Gi", Growth::Ask),
        ("2Gi", Some("2Gi"), "1Gi", Growth::TooLarge),
        ("1500Mi", Some("2Gi"), "1Gi", Growth::TooLarge),
        ("2Gi", None, "1Gi", Growth::TooLarge),
    ] {
        assert_eq!(claim(asks, has).growth(wanted), growth, "{asks} {has:?} {wanted}");
    }
}

#[test]
fn what_is_told_has_a_way_out_that_works() {
    let small = claim("1Gi", Some("1Gi"));
    let why = refused(std::slice::from_ref(&small), &small, "2Gi", &forbids_growth("standard"));
    assert_eq!(
        why.message,
        "spec.storage.size: 2Gi is refused for the claim data-demo-0, whose volume has 1Gi: the StorageClass \"standard\" does not let volumes grow \
         (allowVolumeExpansion). Set it back to 1Gi, or remove the cause: the operator tries again"
    );
    assert_eq!((small.growth("1Gi"), told(&[small], "1Gi")), (Growth::Nothing, None));
    let large = [claim("2Gi", Some("2Gi")), claim("3Gi", Some("3Gi"))];
    assert_eq!(
        told(&large, "1Gi").unwrap().message,
        "spec.storage.size: is 1Gi, and the volume of the claim data-demo-0 has 2Gi; a volume cannot shrink: set it to 3Gi"
    );
    let mut waits = claim("2Gi", Some("1Gi"));
    assert_eq!(told(std::slice::from_ref(&waits), "2Gi"), None);
    waits.failure = Some("the disk is at its limit".into());
    let message = told(&[waits], "2Gi").unwrap().message;
    assert!(
        message.contains("the disk is at its limit") && message.contains("Set it back to 1Gi"),
        "{message}"
    );
}

#[test]
fn a_size_that_cannot_be_had_holds_up_nothing_else() {
    let refusal = refused(&[], &claim("1Gi", Some("1Gi")), "2Gi", "forbidden");
    let invalid = Problem {
        reason: Reason::InvalidSpec,
        message: "spec.storage.size: is not a size; write it like 10Gi".into(),
    };
    for problem in [refusal, invalid] {
        let mut observed = with(&problem);
        let decision = settle(&mut observed, 1);
        let reason = problem.reason.as_ref().to_owned();
        let told = ("False".to_owned(), reason.clone(), problem.message.clone());
        assert_eq!(said(&decision, conditions::READY), told);
        assert_eq!(said(&decision, conditions::PROGRESSING), told);
        assert_eq!(
            said(&decision, conditions::STALLED),
            ("True".into(), reason, problem.message.clone())
        );
        assert_eq!(said(&decision, conditions::AVAILABLE).0, "True");
        assert!(decision.steps.contains(&Step::Cluster(ClusterAction::Apply)));
        // A new configuration reaches the members.
        observed.update_revision = Some("b".into());
        let drained = settle(&mut observed, 2);
        assert!(!steps(&drained).is_empty(), "{:?}", drained.steps);
        assert_eq!(
            said(&drained, conditions::PROGRESSING).1,
            Reason::RollingRestart.as_ref()
        );
    }
}

#[test]
fn setting_the_size_back_makes_the_ring_ready_in_the_next_pass() {
    let refusal = refused(&[], &claim("1Gi", Some("1Gi")), "2Gi", "forbidden");
    let mut observed = with(&refusal);
    let status = settle(&mut observed, 1).status;
    // Another operator begins with what is recorded, until the spec is changed.
    assert_eq!(recorded(&observed.cluster), Some(refusal));
    observed.cluster.status = Some(not_observed(&status, Some(2), at(1)));
    assert_eq!(recorded(&observed.cluster), None);
    observed.volumes = None;
    let decision = decide(&observed, at(2));
    assert_eq!(condition(&decision, conditions::READY).status, "True");
    assert_eq!(condition(&decision, conditions::STALLED).status, "False");
}

#[test]
fn a_member_that_is_away_is_told_before_a_size() {
    let mut observed = with(&refused(&[], &claim("1Gi", Some("1Gi")), "2Gi", "forbidden"));
    unreachable(&mut observed, 1);
    pod(&mut observed, 1).ready = false;
    let decision = settle(&mut observed, 40);
    assert_eq!(
        condition(&decision, conditions::READY).reason,
        Reason::MembersAbsent.as_ref()
    );
    assert_eq!(
        condition(&decision, conditions::STALLED).reason,
        Reason::VolumeSizeRefused.as_ref()
    );
}

#[test]
fn a_size_that_is_no_size_is_an_invalid_spec_also_while_members_run() {
    let invalid = Problem {
        reason: Reason::InvalidSpec,
        message: "spec.storage.size: is not a size; write it like 10Gi".into(),
    };
    assert_eq!(settle(&mut with(&invalid), 1).status.phase, Phase::Invalid);
    // Before there is a StatefulSet, nothing can be made of it.
    let mut observed = new();
    observed.problems.push(invalid);
    assert!(
        !decide(&observed, at(0))
            .steps
            .contains(&Step::Cluster(ClusterAction::Apply))
    );
}

#[test]
fn the_way_out_is_one() {
    let claims = [claim("2Gi", Some("2Gi")), claim("1Gi", Some("1Gi"))];
    let why = refused(&claims, &claims[1], "2Gi", "quota").message;
    assert!(!why.contains("back") && why.contains("Remove the cause"), "{why}");
    let alone = refused(&claims[1..], &claims[1], "2Gi", "quota").message;
    assert!(alone.contains("Set it back to 1Gi"), "{alone}");
    // At 3Gi the other one would be refused again.
    let two = [claim("3Gi", Some("3Gi")), claim("1Gi", Some("1Gi"))];
    let why = refused(&two, &two[0], "5Gi", "quota").message;
    assert!(!why.contains("back"), "{why}");
    let new = [claim("2Gi", None)];
    let why = told(&new, "1Gi").unwrap().message;
    assert!(
        why.contains("no volume yet") && why.contains("create it again"),
        "{why}"
    );
}
