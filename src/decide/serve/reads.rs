//! Who serves reads behind `<cluster>-reads`: every member that takes part and is not too far behind.

use crate::api::status::MemberState;

use super::fencing;
use super::lag::lag;
use super::opening;
use super::restart;
use crate::decide::observed::{Member, Observed};
use crate::decide::report::states::state;
use crate::decide::ring::health::Health;
use crate::decide::step::Step;

/// Labels that are to come or to go.
pub fn steps(observed: &Observed) -> Vec<Step> {
    let present = |member: &&Member| member.pod.as_ref().is_some_and(|pod| pod.reads);
    let wanted: Vec<Result<(), Obstacle>> = observed
        .members
        .iter()
        .map(|member| may_read(observed, member))
        .collect();
    let able = |member: &Member| wanted[usize::from(member.ordinal)].is_ok();
    let close = |member: &&Member| able(member) && is_close(observed, member);
    // A limit that nobody keeps leaves the one that is nearest to it: late answers are better than none.
    let nearest = || {
        let members = observed.members.iter().filter(|member| able(member));
        members.min_by_key(|member| lag(observed, member.ordinal).unwrap_or(i64::MAX))
    };
    let reading: Vec<u8> = match observed.members.iter().any(|member| close(&member)) {
        true => observed
            .members
            .iter()
            .filter(close)
            .map(|member| member.ordinal)
            .collect(),
        false => nearest().map(|member| member.ordinal).into_iter().collect(),
    };
    let comes = |member: &Member| {
        let pod = member.pod.as_ref().filter(|pod| !pod.terminating && !pod.reads)?;
        reading.contains(&member.ordinal).then(|| Step::ServeReads {
            ordinal: member.ordinal,
            pod_uid: pod.uid.clone(),
        })
    };
    let goes = |member: &Member| {
        let why = match &wanted[usize::from(member.ordinal)] {
            Ok(()) if reading.contains(&member.ordinal) => return None,
            Ok(()) => too_far(observed, member),
            Err(Obstacle::Fact(why)) => why.clone(),
            Err(Obstacle::NoAnswer(why)) if !reading.is_empty() => why.clone(),
            Err(Obstacle::NoAnswer(_) | Obstacle::Doubt) => return None,
        };
        let pod_uid = member.pod.as_ref()?.uid.clone();
        Some(Step::WithdrawReads {
            ordinal: member.ordinal,
            pod_uid,
            why,
        })
    };
    let coming = observed.members.iter().filter_map(comes);
    coming
        .chain(observed.members.iter().filter(present).filter_map(goes))
        .collect()
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

fn may_read(observed: &Observed, member: &Member) -> Result<(), Obstacle> {
    let fact = |why: &str| Err(Obstacle::Fact(why.into()));
    if observed.is_bypassed(member.ordinal) {
        return fact("it is not in the ring");
    }
    if observed.is_leaving(member) {
        return fact("it leaves the ring");
    }
    if fencing::is_ordered(observed, member.ordinal) {
        return fact("a person wants it fenced");
    }
    if restart::is_next(observed, member) {
        return fact("it is to be restarted");
    }
    match Health::of(member, observed) {
        Health::Starting(why) | Health::NoPod(why) => return Err(Obstacle::Fact(why)),
        Health::Failed(why) => return Err(Obstacle::NoAnswer(why)),
        Health::Alive(_) | Health::Suspect(_) => return Err(Obstacle::Doubt),
        Health::Reached if member.is_of_a_newer_agent() => return Err(Obstacle::Doubt),
        Health::Reached => {}
    }
    match state(observed, member).0 {
        MemberState::Open | MemberState::Serving | MemberState::Reading | MemberState::Halted => Ok(()),
        // The next writer, which waits for the old one.
        _ if opening::is_sound(observed, member) && observed.cluster.has_single_writer() => Ok(()),
        _ => fact("it is fenced and does not follow the others yet"),
    }
}

fn is_close(observed: &Observed, member: &Member) -> bool {
    let Some(most) = observed.cluster.spec.max_lag_seconds else {
        return true;
    };
    match lag(observed, member.ordinal) {
        Some(seconds) => seconds <= i64::from(most),
        // One answer that is missing tells nothing of it.
        None => member.pod.as_ref().is_some_and(|pod| pod.reads) && somebody_is_silent(observed),
    }
}

fn somebody_is_silent(observed: &Observed) -> bool {
    let ring = observed.ring();
    let mut members = observed.members.iter();
    members.any(|member| ring.contains(member.ordinal) && member.server().is_none())
}

fn too_far(observed: &Observed, member: &Member) -> String {
    let most = observed.cluster.spec.max_lag_seconds.unwrap_or_default();
    match lag(observed, member.ordinal) {
        Some(seconds) => format!("it is {seconds} s behind, and spec.maxLagSeconds is {most}"),
        None => "nobody knows how far it is behind".into(),
    }
}
