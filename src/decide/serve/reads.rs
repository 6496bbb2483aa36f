//! Which members serve reads behind `<cluster>-reads`: every member that takes part and is not too far behind.

use crate::api::status::MemberState;

use super::opening;
use crate::decide::findings::Finding;
use crate::decide::observed::Member;
use crate::decide::ring::health::Health;
use crate::decide::roles::Roles;
use crate::decide::step::{PodAction, Step};
use crate::decide::view::View;

/// Labels that are to come or to go.
pub fn steps(view: &View) -> Vec<Step> {
    let members = &view.observed.members;
    let wanted: Vec<Result<(), Obstacle>> = view
        .findings
        .members()
        .iter()
        .map(|finding| may_read(view, finding))
        .collect();
    let able = || {
        let findings = view.findings.members().iter();
        findings.filter(|finding| wanted[usize::from(finding.member.ordinal)].is_ok())
    };
    let close = able().filter(|finding| is_close(view.roles(), finding));
    let mut reading: Vec<u8> = close.map(|finding| finding.member.ordinal).collect();
    if reading.is_empty() {
        // A limit that no member keeps leaves the one that is nearest to it: late answers are better than none.
        let nearest = able().min_by_key(|finding| finding.lag.unwrap_or(i64::MAX));
        reading.extend(nearest.map(|finding| finding.member.ordinal));
    }
    let comes = |member: &Member| {
        let pod = member.pod.as_ref().filter(|pod| !pod.terminating && !pod.reads)?;
        reading
            .contains(&member.ordinal)
            .then(|| Step::pod(member.ordinal, &pod.uid, PodAction::ServeReads))
    };
    let goes = |member: &Member| {
        let pod = member.pod.as_ref().filter(|pod| pod.reads)?;
        let why = match &wanted[usize::from(member.ordinal)] {
            Ok(()) if reading.contains(&member.ordinal) => return None,
            Ok(()) => too_far(view, member.ordinal),
            Err(Obstacle::Fact(why)) => why.clone(),
            Err(Obstacle::NoAnswer(why)) if !reading.is_empty() => why.clone(),
            Err(Obstacle::NoAnswer(_) | Obstacle::Doubt) => return None,
        };
        Some(Step::pod(member.ordinal, &pod.uid, PodAction::WithdrawReads { why }))
    };
    let coming = members.iter().filter_map(comes);
    coming.chain(members.iter().filter_map(goes)).collect()
}

/// Why a member does not serve reads.
enum Obstacle {
    /// What was seen.
    Fact(String),
    /// It failed: enough if another one serves reads.
    NoAnswer(String),
    /// Nothing is known. Whatever is the case stays.
    Doubt,
}

fn may_read(view: &View, finding: &Finding) -> Result<(), Obstacle> {
    let (roles, ordinal) = (view.roles(), finding.member.ordinal);
    let fact = |why: &str| Err(Obstacle::Fact(why.into()));
    if finding.member.outsider.is_some() {
        return fact("its volume is not this cluster's");
    }
    if roles.is_bypassed(ordinal) {
        return fact("it is not in the ring");
    }
    if roles.is_leaving(ordinal) {
        return fact("it leaves the ring");
    }
    if roles.is_ordered_fenced(ordinal) {
        return fact("a person wants it fenced");
    }
    if view.is_next_restart(ordinal) {
        return fact("it is to be restarted");
    }
    match &finding.health {
        Health::Starting(why) | Health::NoPod(why) => return fact(why),
        Health::Failed(why) => return Err(Obstacle::NoAnswer(why.clone())),
        Health::Alive(_) | Health::Suspect(_) => return Err(Obstacle::Doubt),
        Health::Reached if finding.member.is_of_a_newer_agent() => return Err(Obstacle::Doubt),
        Health::Reached => {}
    }
    match view.state(ordinal) {
        MemberState::Open | MemberState::Serving | MemberState::Reading | MemberState::Halted => Ok(()),
        // The next writer, which waits for the old one.
        _ if opening::is_sound(&view.findings, finding) && view.observed.cluster.has_single_writer() => Ok(()),
        _ => fact("it is fenced and does not follow the others yet"),
    }
}

fn is_close(roles: &Roles, finding: &Finding) -> bool {
    let Some(most) = roles.observed.cluster.spec.max_lag_seconds else {
        return true;
    };
    match finding.lag {
        Some(seconds) => seconds <= i64::from(most),
        // One missing answer proves nothing.
        None => finding.member.pod.as_ref().is_some_and(|pod| pod.reads) && one_does_not_answer(roles),
    }
}

fn one_does_not_answer(roles: &Roles) -> bool {
    let mut members = roles.observed.members.iter();
    members.any(|member| roles.ring.contains(member.ordinal) && member.server().is_none())
}

fn too_far(view: &View, ordinal: u8) -> String {
    let most = view.observed.cluster.spec.max_lag_seconds.unwrap_or_default();
    match view.findings.member(ordinal).and_then(|finding| finding.lag) {
        Some(seconds) => format!("it is {seconds} s behind, and spec.maxLagSeconds is {most}"),
        None => "it cannot be seen how far it is behind".into(),
    }
}
