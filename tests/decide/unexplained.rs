//! What Kubernetes' controllers say of a pod that is not there, or does not run, is in status.

use multimaster::api::reasons::{EventReason, Reason};
use multimaster::api::status::conditions;
use multimaster::decide::observed::{Member, Observed, Probe, Problem};
use multimaster::decide::report::fitted::fitted;
use multimaster::decide::report::unexplained::{MOST_SHOWN, Said, Subject, explanation, note, subject};
use strum::IntoEnumIterator;

use crate::fixture::{at, condition, member_status, new, pod, settle, whole};

const QUOTA: &str =
    "create Pod demo-1 in StatefulSet demo failed error: pods \"demo-1\" is forbidden: exceeded quota: all";

fn said(reason: &str, message: &str, seconds: i64) -> Said {
    Said {
        reason: reason.into(),
        message: message.into(),
        at: at(seconds),
    }
}

/// Member 1 has no pod since second 10.
fn without_a_pod() -> Observed {
    let mut observed = whole();
    let member = &mut observed.members[1];
    (member.pod, member.agent, member.server) = (None, Probe::NoAddress, Probe::NoAddress);
    settle(&mut observed, 10);
    observed
}

fn asked(observed: &Observed, seconds: i64) -> Option<Subject> {
    subject(&observed.members[1], observed.recorded(1), at(seconds))
}

fn explained(observed: &Observed, subject: Subject, events: &[Said]) -> Option<String> {
    explanation(subject, events, "demo-1", observed.recorded(1))
}

#[test]
fn nobody_is_asked_about_a_member_that_is_well_or_away_for_a_moment() {
    let observed = whole();
    for ordinal in 0..3 {
        let member = &observed.members[usize::from(ordinal)];
        assert_eq!(subject(member, observed.recorded(ordinal), at(1000)), None);
    }
    let observed = without_a_pod();
    assert_eq!(asked(&observed, 14), None);
    assert_eq!(asked(&observed, 15), Some(Subject::StatefulSet));
}

#[test]
fn each_way_to_be_away_has_its_object() {
    let mut observed = whole();
    observed.members[1].server = Probe::NoAddress;
    observed.members[1].agent = Probe::NoAddress;
    pod(&mut observed, 1).running = false;
    settle(&mut observed, 10);
    assert_eq!(asked(&observed, 20), Some(Subject::Pod));
    pod(&mut observed, 1).scheduled = false;
    assert_eq!(asked(&observed, 20), Some(Subject::Claim));
    pod(&mut observed, 1).terminating = true;
    assert_eq!(asked(&observed, 20), None);
    let pod = pod(&mut observed, 1);
    (pod.terminating, pod.scheduled) = (false, true);
    pod.problem = Some(Problem {
        reason: Reason::ImageUnavailable,
        message: "it has a reason".into(),
    });
    assert_eq!(asked(&observed, 20), None);
}

#[test]
fn the_last_event_about_this_pod_explains() {
    let observed = without_a_pod();
    let explained = |events: &[Said]| explained(&observed, Subject::StatefulSet, events);
    let of = |pod: &str, seconds| said("FailedCreate", &QUOTA.replace("demo-1", pod), seconds);
    let old = said(
        "FailedCreate",
        "create Pod demo-1 in StatefulSet demo failed error: old",
        11,
    );
    assert_eq!(
        explained(&[old.clone(), of("demo-1", 12), of("demo-2", 13)]).as_deref(),
        Some(QUOTA)
    );
    // Kubernetes shows one of several that are alike.
    assert!(explained(&[of("demo-2", 13)]).unwrap().contains("exceeded quota"));
    // An event of another reason, or from before the pod went away.
    assert_eq!(explained(&[said("SuccessfulCreate", QUOTA, 12)]), None);
    assert_eq!(explained(&[of("demo-1", -60)]), None);
    let long = explained(&[said("FailedCreate", &"ж".repeat(1000), 12)]).unwrap();
    assert!(long.len() <= MOST_SHOWN && long.ends_with("ж ..."), "{long}");
}

#[test]
fn a_pod_that_cannot_be_made_is_explained_in_status_and_ready() {
    let mut observed = without_a_pod();
    note(&mut observed.members[1], "demo-1", Subject::StatefulSet, QUOTA.into());
    let decision = settle(&mut observed, 20);
    let message = member_status(&decision, 1).message.clone().unwrap();
    assert_eq!(
        message,
        format!("there is no pod, because Kubernetes cannot make it: {QUOTA}")
    );
    assert!(condition(&decision, conditions::READY).message.contains(QUOTA));
    // A ring that is being founded, too.
    let mut observed = new();
    for ordinal in 0..3 {
        let member: &mut Member = &mut observed.members[ordinal];
        (member.pod, member.agent, member.server) = (None, Probe::NoAddress, Probe::NoAddress);
        note(member, "demo", Subject::StatefulSet, QUOTA.into());
    }
    let decision = settle(&mut observed, 20);
    assert!(condition(&decision, conditions::READY).message.contains(QUOTA));
}

#[test]
fn a_volume_that_cannot_be_made_is_explained_beside_the_scheduler() {
    let mut observed = whole();
    observed.members[1].server = Probe::NoAddress;
    observed.members[1].agent = Probe::NoAddress;
    let waiting = pod(&mut observed, 1);
    (waiting.running, waiting.ready, waiting.serving, waiting.scheduled) = (false, false, false, false);
    waiting.problem = Some(Problem {
        reason: Reason::MembersAbsent,
        message: "demo-1 is not scheduled: unbound claims".into(),
    });
    settle(&mut observed, 10);
    let events = [said("ProvisioningFailed", "the disks are used up", 12)];
    let why = explained(&observed, Subject::Claim, &events).unwrap();
    note(&mut observed.members[1], "demo-1", Subject::Claim, why);
    let decision = settle(&mut observed, 20);
    assert_eq!(
        condition(&decision, conditions::READY).message,
        "demo-1 is not scheduled: unbound claims; its volume: the disks are used up"
    );
}

#[test]
fn an_event_fits() {
    assert_eq!(fitted("short".into(), 1024), "short");
    assert_eq!(fitted("x".repeat(1024), 1024).len(), 1024);
    // Every length, so that the cut is before, in and after a character of several bytes.
    for length in 1000..1100 {
        let cut = fitted(format!("{}{}", "x".repeat(length % 4), "𝄞".repeat(length)), 1024);
        assert!(
            cut.len() <= 1024 && cut.len() > 1016 && cut.ends_with("𝄞 ..."),
            "{}",
            cut.len()
        );
    }
    assert!(EventReason::iter().all(|reason| reason.as_ref().len() <= 128));
}
