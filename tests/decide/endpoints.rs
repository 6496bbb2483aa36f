//! Clients reach only pods that are Ready: what conditions say of that, and where a rolling restart stops.

use multimaster::api::reasons::Reason;
use multimaster::api::status::{MemberState, Phase, conditions};
use multimaster::decide::decide;
use multimaster::decide::observed::Observed;
use multimaster::decide::serve::drain::DRAIN;
use multimaster::decide::step::{PodAction, Step};

use crate::balance::balanced;
use crate::fixture::{
    at, condition, fence, link, member_status, pod, report, server, settle, steps, unreachable, whole,
};
use crate::writer::{single, told};

const WHY: &str = "its pod is not Ready: container exporter is not ready";

/// A sidecar of this member is not ready, so its pod is not.
fn hinder(observed: &mut Observed, ordinal: u8) {
    let pod = pod(observed, ordinal);
    pod.ready = false;
    pod.hindrance = Some("container exporter is not ready".into());
}

fn mend(observed: &mut Observed, ordinal: u8) {
    let pod = pod(observed, ordinal);
    pod.ready = true;
    pod.hindrance = None;
}

fn told_by(observed: &mut Observed, type_: &str) -> (String, String, String) {
    let decision = settle(observed, 60);
    let condition = condition(&decision, type_);
    (
        condition.status.clone(),
        condition.reason.clone(),
        condition.message.clone(),
    )
}

/// The member that leaves the Service, or the reads, to be restarted.
fn next(observed: &Observed, seconds: i64) -> Option<u8> {
    decide(observed, at(seconds)).steps.iter().find_map(|step| match step {
        Step::Pod {
            ordinal,
            action: PodAction::Withdraw { why } | PodAction::WithdrawReads { why },
            ..
        } if why == "it is to be restarted" => Some(*ordinal),
        _ => None,
    })
}

fn is_restarted(observed: &Observed, ordinal: u8, seconds: i64) -> bool {
    let restarts = |step: &Step| matches!(step.on_pod(), Some(PodAction::Restart { .. }));
    let decision = decide(observed, at(seconds));
    let mut steps = decision.steps.iter();
    steps.any(|step| restarts(step) && step.ordinal() == Some(ordinal))
}

/// Its turn has come: it leaves both Services, its clients have their time, and its pod is replaced by one of this template. It has the labels again.
fn restarted(observed: &mut Observed, ordinal: u8, seconds: i64, revision: &str) {
    assert_eq!(next(observed, seconds), Some(ordinal));
    let reads = pod(observed, ordinal).reads;
    let serving = pod(observed, ordinal).serving;
    let out = pod(observed, ordinal);
    (out.serving, out.reads) = (false, false);
    settle(observed, seconds);
    assert_eq!(recorded(observed, ordinal), MemberState::Draining);
    assert!(is_restarted(observed, ordinal, seconds + DRAIN.as_secs()));
    let back = pod(observed, ordinal);
    (back.serving, back.reads) = (serving, reads);
    back.revision = Some(revision.into());
    settle(observed, seconds + DRAIN.as_secs() + 1);
}

fn recorded(observed: &Observed, ordinal: u8) -> MemberState {
    observed.recorded(ordinal).unwrap().state
}

#[test]
fn ready_says_which_member_clients_do_not_reach_and_why() {
    let mut observed = whole();
    hinder(&mut observed, 2);
    let expected = format!("demo-2 is not behind demo and demo-reads: {WHY}");
    let absent = Reason::MembersAbsent.as_ref().to_owned();
    let ready = told_by(&mut observed, conditions::READY);
    assert_eq!(ready, ("False".into(), absent.clone(), expected.clone()));
    let degraded = told_by(&mut observed, conditions::DEGRADED);
    assert_eq!(degraded, ("True".into(), absent, expected));
    let available = told_by(&mut observed, conditions::AVAILABLE);
    assert_eq!(available.2, "writes are taken by demo-0, demo-1");

    let decision = settle(&mut observed, 61);
    let (member, status) = (member_status(&decision, 2), &decision.status);
    assert_eq!(
        (member.state, member.message.as_deref()),
        (MemberState::Serving, Some(WHY))
    );
    assert_eq!(
        (status.serving.as_str(), status.ready_members, status.phase),
        ("2/3", 2, Phase::Degraded)
    );
    // The operator does nothing about it: it is neither fenced nor bypassed, and it keeps its labels.
    assert!(steps(&decision).is_empty(), "{:?}", decision.steps);
    assert!(!member.bypassed);
    let progressing = condition(&decision, conditions::PROGRESSING);
    assert_eq!(progressing.reason, Reason::Stable.as_ref());

    mend(&mut observed, 2);
    let decision = settle(&mut observed, 62);
    assert_eq!(condition(&decision, conditions::READY).status, "True");
    assert_eq!(
        (member_status(&decision, 2).message.clone(), decision.status.phase),
        (None, Phase::Running)
    );
}

#[test]
fn nothing_is_available_that_is_behind_no_service() {
    let mut observed = whole();
    for ordinal in 0..3 {
        hinder(&mut observed, ordinal);
    }
    let available = told_by(&mut observed, conditions::AVAILABLE);
    assert_eq!(
        (available.0.as_str(), available.1.as_str()),
        ("False", Reason::NoMemberServes.as_ref())
    );
    assert!(
        available.2.contains(&format!("demo-0 takes writes, but {WHY}")),
        "{}",
        available.2
    );
    let decision = settle(&mut observed, 61);
    assert_eq!(decision.status.phase, Phase::Unavailable);
    assert!(steps(&decision).is_empty(), "{:?}", decision.steps);
    // A pod that ends is in no Service either.
    let mut observed = whole();
    for ordinal in 0..3 {
        pod(&mut observed, ordinal).terminating = true;
    }
    let available = told_by(&mut observed, conditions::AVAILABLE);
    assert!(available.2.contains("its pod is being deleted"), "{}", available.2);
}

/// A pod that an operator of the version before has made, and whose containers say nothing.
#[test]
fn a_pod_that_is_not_ready_for_no_known_reason_is_told_too() {
    let mut observed = whole();
    pod(&mut observed, 1).ready = false;
    let ready = told_by(&mut observed, conditions::READY);
    assert_eq!(
        ready.2,
        "demo-1 is not behind demo and demo-reads: its pod is not Ready"
    );
}

#[test]
fn a_rolling_restart_stops_at_the_member_that_clients_do_not_reach() {
    let mut observed = whole();
    observed.update_revision = Some("b".into());
    restarted(&mut observed, 2, 60, "b");
    assert_eq!(next(&observed, 92), Some(1), "it is behind the Service again");

    hinder(&mut observed, 2);
    let decision = settle(&mut observed, 92);
    assert_eq!(next(&observed, 93), None);
    assert!(steps(&decision).is_empty(), "{:?}", decision.steps);
    assert_eq!(condition(&decision, conditions::READY).status, "False");
    assert_eq!(condition(&decision, conditions::AVAILABLE).status, "True");
    let progressing = condition(&decision, conditions::PROGRESSING);
    assert_eq!(progressing.reason, Reason::RollingRestart.as_ref());
    assert_eq!(
        progressing.message,
        format!(
            "members to restart: demo-0, demo-1; the next one waits, because demo-2 is not behind demo and demo-reads: {WHY}"
        )
    );
    // As soon as somebody has mended it, the next one has its turn.
    mend(&mut observed, 2);
    settle(&mut observed, 94);
    assert_eq!(next(&observed, 95), Some(1));
}

/// Between its ends the container runs, and without a readiness probe its pod is Ready then.
#[test]
fn a_rolling_restart_stops_at_a_container_that_ends_again_and_again() {
    let mut observed = whole();
    observed.update_revision = Some("b".into());
    restarted(&mut observed, 2, 60, "b");
    pod(&mut observed, 2).restarted = Some("exporter".into());
    let decision = settle(&mut observed, 92);
    assert_eq!(next(&observed, 93), None);
    assert_eq!(condition(&decision, conditions::READY).status, "True");
    let progressing = condition(&decision, conditions::PROGRESSING);
    let why = "the next one waits, because demo-2: container exporter failed, and was started again within the last five minutes";
    assert!(progressing.message.ends_with(why), "{}", progressing.message);
    // With the corrected template it is the next one; two of them do not wait for each other.
    observed.update_revision = Some("c".into());
    pod(&mut observed, 1).restarted = Some("exporter".into());
    settle(&mut observed, 94);
    restarted(&mut observed, 2, 95, "c");
    // Whom clients do not reach goes first; the others wait for it.
    let mut observed = whole();
    observed.update_revision = Some("c".into());
    hinder(&mut observed, 0);
    pod(&mut observed, 1).restarted = Some("exporter".into());
    pod(&mut observed, 2).restarted = Some("exporter".into());
    settle(&mut observed, 60);
    restarted(&mut observed, 0, 61, "c");
}

/// It is out of the reads because it is behind, not because its restart has begun.
#[test]
fn a_member_without_its_label_waits_for_the_others_too() {
    let mut observed = single();
    observed.update_revision = Some("b".into());
    observed.cluster.spec.max_lag_seconds = Some(5);
    pod(&mut observed, 2).revision = Some("b".into());
    pod(&mut observed, 2).restarted = Some("exporter".into());
    link(&mut observed, 1).lag_seconds = Some(30);
    pod(&mut observed, 1).reads = false;
    settle(&mut observed, 60);
    settle(&mut observed, 61);
    assert_eq!(recorded(&observed, 1), MemberState::Reading);
    assert!(!is_restarted(&observed, 1, 200));
    pod(&mut observed, 2).restarted = None;
    settle(&mut observed, 62);
    settle(&mut observed, 63);
    assert_eq!(recorded(&observed, 1), MemberState::Draining);
}

/// A reader that is too far behind is in nobody's way, whatever its pod says.
#[test]
fn a_restart_that_begins_goes_on() {
    let mut observed = single();
    observed.update_revision = Some("b".into());
    observed.cluster.spec.max_lag_seconds = Some(5);
    pod(&mut observed, 2).revision = Some("b".into());
    link(&mut observed, 2).lag_seconds = Some(30);
    pod(&mut observed, 2).reads = false;
    hinder(&mut observed, 2);
    settle(&mut observed, 60);
    restarted(&mut observed, 1, 61, "b");
}

#[test]
fn a_pod_that_ends_is_waited_for_too() {
    let mut observed = whole();
    observed.update_revision = Some("b".into());
    pod(&mut observed, 0).terminating = true;
    pod(&mut observed, 0).revision = Some("b".into());
    settle(&mut observed, 60);
    assert_eq!(next(&observed, 61), None);
    // With an old template it is the next one anyway.
    pod(&mut observed, 0).revision = Some("a".into());
    settle(&mut observed, 62);
    assert_eq!(next(&observed, 63), Some(0));
}

#[test]
fn a_drain_is_broken_off_when_clients_do_not_reach_another_member_any_more() {
    let mut observed = whole();
    observed.update_revision = Some("b".into());
    let out = pod(&mut observed, 2);
    (out.serving, out.reads) = (false, false);
    settle(&mut observed, 60);
    assert_eq!(recorded(&observed, 2), MemberState::Draining);
    hinder(&mut observed, 0);
    let decision = settle(&mut observed, 90);
    let comes = |step: &&Step| matches!(step.on_pod(), Some(PodAction::Serve));
    assert_eq!(decision.steps.iter().find(comes).and_then(Step::ordinal), Some(2));
    assert!(!is_restarted(&observed, 2, 200));
}

/// The person corrects the template: the member with the wrong one has no clients, so it goes first, whatever its ordinal.
#[test]
fn the_way_out_is_the_member_that_clients_do_not_reach() {
    for bad in [0, 1, 2] {
        let mut observed = whole();
        pod(&mut observed, bad).revision = Some("b".into());
        hinder(&mut observed, bad);
        observed.update_revision = Some("c".into());
        settle(&mut observed, 60);
        restarted(&mut observed, bad, 61, "c");
        assert_eq!(next(&observed, 100), None, "the new pod is not Ready yet");
        mend(&mut observed, bad);
        settle(&mut observed, 101);
        let highest = if bad == 2 { 1 } else { 2 };
        assert_eq!(next(&observed, 102), Some(highest));

        // The old template is wanted again.
        let mut observed = whole();
        pod(&mut observed, bad).revision = Some("b".into());
        hinder(&mut observed, bad);
        settle(&mut observed, 60);
        restarted(&mut observed, bad, 61, "a");
    }
}

#[test]
fn members_that_clients_do_not_reach_are_restarted_one_at_a_time_before_the_others() {
    let mut observed = whole();
    for bad in [0, 1] {
        pod(&mut observed, bad).revision = Some("b".into());
        hinder(&mut observed, bad);
    }
    observed.update_revision = Some("c".into());
    settle(&mut observed, 60);
    restarted(&mut observed, 1, 61, "c");
    assert_eq!(
        next(&observed, 100),
        None,
        "nobody knows yet whether the new template is better"
    );
    mend(&mut observed, 1);
    settle(&mut observed, 101);
    restarted(&mut observed, 0, 102, "c");
    mend(&mut observed, 0);
    settle(&mut observed, 140);
    assert_eq!(next(&observed, 141), Some(2));
    // All three.
    let mut observed = whole();
    (0..3).for_each(|bad| hinder(&mut observed, bad));
    observed.update_revision = Some("c".into());
    settle(&mut observed, 60);
    restarted(&mut observed, 2, 61, "c");
    assert_eq!(next(&observed, 100), None);
}

/// For a moment no pod is Ready, on a busy machine: that lets no second member follow the first into a wrong template.
#[test]
fn a_member_that_is_out_for_a_moment_does_not_follow_one_that_stays_out() {
    let mut observed = whole();
    observed.update_revision = Some("b".into());
    pod(&mut observed, 2).revision = Some("b".into());
    hinder(&mut observed, 2);
    pod(&mut observed, 1).ready = false;
    settle(&mut observed, 60);
    assert_eq!(next(&observed, 61), None);
}

#[test]
fn readers_are_waited_for_behind_the_reads() {
    let mut observed = single();
    observed.update_revision = Some("b".into());
    restarted(&mut observed, 2, 60, "b");
    assert_eq!(next(&observed, 92), Some(1));
    hinder(&mut observed, 2);
    settle(&mut observed, 92);
    assert_eq!(next(&observed, 93), None);
    let ready = told_by(&mut observed, conditions::READY);
    assert_eq!(ready.2, format!("demo-2 is not behind demo-reads: {WHY}"));
    assert_eq!(told_by(&mut observed, conditions::AVAILABLE).0, "True");
    // It has just caught up: the label for reads is on its way.
    mend(&mut observed, 2);
    pod(&mut observed, 2).reads = false;
    settle(&mut observed, 94);
    assert_eq!(next(&observed, 95), None);
    assert_eq!(told_by(&mut observed, conditions::READY).0, "False");
    // It breaks no drain off that has begun.
    let mut drained = observed.clone();
    pod(&mut drained, 2).reads = true;
    settle(&mut drained, 94);
    pod(&mut drained, 1).reads = false;
    settle(&mut drained, 95);
    assert_eq!(recorded(&drained, 1), MemberState::Draining);
    pod(&mut drained, 2).reads = false;
    settle(&mut drained, 96);
    assert_eq!(recorded(&drained, 1), MemberState::Draining);
    hinder(&mut drained, 2);
    settle(&mut drained, 97);
    assert_ne!(recorded(&drained, 1), MemberState::Draining);
    // One that is too far behind has none, and is in nobody's way.
    observed.cluster.spec.max_lag_seconds = Some(5);
    link(&mut observed, 2).lag_seconds = Some(30);
    settle(&mut observed, 96);
    assert_eq!(next(&observed, 97), Some(1));
    assert_eq!(told_by(&mut observed, conditions::READY).0, "True");
}

#[test]
fn without_its_writer_behind_the_service_nothing_is_available_and_the_writer_stays() {
    let mut observed = single();
    hinder(&mut observed, 0);
    let available = told_by(&mut observed, conditions::AVAILABLE);
    let expected = format!("no member takes writes through the Service: demo-0 takes writes, but {WHY}");
    assert_eq!(
        available,
        ("False".into(), Reason::NoMemberServes.as_ref().into(), expected)
    );
    let decision = settle(&mut observed, 61);
    assert_eq!(decision.status.writer.as_ref().unwrap().name, "demo-0");
    assert!(steps(&decision).is_empty(), "{:?}", decision.steps);
    // The template is corrected. The writer's turn comes last, so nobody waits for it.
    observed.update_revision = Some("c".into());
    settle(&mut observed, 62);
    restarted(&mut observed, 2, 63, "c");
    assert_eq!(next(&observed, 100), Some(1));
}

/// The role moves so that the last member with an old template can be restarted. It moves to nobody whom clients do not reach.
#[test]
fn the_writer_stays_while_clients_do_not_reach_the_others() {
    let mut observed = single();
    observed.update_revision = Some("b".into());
    for reader in [1, 2] {
        pod(&mut observed, reader).revision = Some("b".into());
    }
    hinder(&mut observed, 1);
    let decision = settle(&mut observed, 60);
    assert_eq!(decision.status.writer.as_ref().unwrap().name, "demo-0");
    let progressing = condition(&decision, conditions::PROGRESSING);
    assert!(
        progressing.message.contains("demo-1 is not behind"),
        "{}",
        progressing.message
    );
    mend(&mut observed, 1);
    let decision = settle(&mut observed, 61);
    assert_eq!(decision.status.writer.as_ref().unwrap().name, "demo-1");
    told(&mut observed, 1);
}

/// The one with the lower ordinal would be next. With a template with which pods do not become Ready it has the wanted one, too.
#[test]
fn the_next_writer_is_one_whom_clients_reach() {
    let next = |hindered: &[u8], with_haproxy: bool| {
        let mut observed = single();
        if with_haproxy {
            let balanced = balanced();
            observed.balancers = balanced.balancers;
            observed.cluster.spec.balancer = balanced.cluster.spec.balancer;
            observed.cluster.status.as_mut().unwrap().balancer = balanced.cluster.status.unwrap().balancer;
        }
        observed.update_revision = Some("b".into());
        pod(&mut observed, 1).revision = Some("b".into());
        hindered.iter().for_each(|ordinal| hinder(&mut observed, *ordinal));
        unreachable(&mut observed, 0);
        observed.members[0].pod = None;
        settle(&mut observed, 60).status.writer.unwrap().name
    };
    assert_eq!(next(&[], false), "demo-1");
    assert_eq!(next(&[1], false), "demo-2");
    assert_eq!(next(&[1, 2], false), "demo-1", "one of them is better than none");
    assert_eq!(next(&[1], true), "demo-1", "HAProxy leads to it all the same");
}

/// Agents of an earlier version may keep the pods of readers unready: their restart with the new agent is what mends that.
#[test]
fn readers_of_the_version_before_are_restarted_although_their_pods_are_not_ready() {
    let mut observed = single();
    observed.update_revision = Some("b".into());
    for reader in [1, 2] {
        report(&mut observed, reader).version = 0;
        pod(&mut observed, reader).ready = false;
    }
    settle(&mut observed, 60);
    restarted(&mut observed, 2, 61, "b");
    pod(&mut observed, 2).ready = true;
    settle(&mut observed, 100);
    restarted(&mut observed, 1, 101, "b");
}

/// HAProxy asks the agents, at the addresses of the pods. The reads have no HAProxy in front.
#[test]
fn haproxy_leads_to_members_whose_pods_are_not_ready() {
    let mut observed = balanced();
    for ordinal in 0..3 {
        hinder(&mut observed, ordinal);
    }
    let available = told_by(&mut observed, conditions::AVAILABLE);
    assert_eq!(
        (available.0.as_str(), available.2.as_str()),
        ("True", "writes are taken by demo-0, demo-1, demo-2")
    );
    let ready = told_by(&mut observed, conditions::READY);
    let about_2 = format!("demo-2 is not behind demo-reads: {WHY}");
    assert!(ready.0 == "False" && ready.2.contains(&about_2), "{ready:?}");

    // A restart waits for the reads, too.
    mend(&mut observed, 0);
    mend(&mut observed, 1);
    pod(&mut observed, 2).revision = Some("b".into());
    observed.update_revision = Some("b".into());
    settle(&mut observed, 61);
    assert_eq!(next(&observed, 62), None);
    mend(&mut observed, 2);
    settle(&mut observed, 63);
    assert_eq!(next(&observed, 64), Some(1));
}

/// A member that is fenced, or away, is told by its state.
#[test]
fn what_a_state_says_is_not_said_twice() {
    let mut observed = whole();
    fence(&mut observed, 1);
    server(&mut observed, 1).super_read_only = true;
    let ready = told_by(&mut observed, conditions::READY);
    assert!(
        ready.2.starts_with("demo-1 is Returning") && !ready.2.contains("behind"),
        "{}",
        ready.2
    );
}
