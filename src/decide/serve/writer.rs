//! One member that takes writes (`spec.writes: SingleWriter`): who it is, and when it may open. `docs/ring.md`, "One writer".

use std::cmp::Reverse;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::drain::is_outdated;
use super::fencing;
use super::lag::lag;
use super::opening::is_sound;
use crate::api::status::WriterStatus;
use crate::decide::observed::{Member, Observed};
use crate::decide::report::states::ring_is_whole;
use crate::decide::ring::health::Health;

/// Who takes over in peace is no further behind, in seconds: nobody writes until it has caught up.
const CLOSE: i64 = 1;

/// Who is the writer from this pass on. It stays the one until it fails or has to go, and does not become it again by itself.
pub fn chosen(observed: &Observed, now: Timestamp) -> Option<WriterStatus> {
    if !observed.cluster.has_single_writer() || observed.epoch() == 0 {
        return None;
    }
    let present = observed
        .cluster
        .status
        .as_ref()
        .and_then(|status| status.writer.clone());
    let member = observed.writer().and_then(|writer| observed.member(writer));
    let (why, candidate) = match member.map(|member| (member, reason_to_move(observed, member))) {
        Some((_, None)) => return present,
        Some((member, Some(Reason::Failure(why)))) => (why, best(observed, Some(member), |_| true)),
        Some((member, Some(Reason::Plan(why)))) => {
            let close = |candidate: &Member| lag(observed, candidate.ordinal).is_some_and(|seconds| seconds <= CLOSE);
            (why, best(observed, Some(member), close))
        }
        None => ("the first".into(), best(observed, None, |_| true)),
    };
    let next = candidate.map(|candidate| WriterStatus {
        name: candidate.name(observed.name()),
        since: Time(now),
        why,
    });
    next.or(present)
}

enum Reason {
    /// It takes no writes, or is about to stop.
    Failure(String),
    /// It could go on, but has to be restarted or to leave.
    Plan(String),
}

fn reason_to_move(observed: &Observed, member: &Member) -> Option<Reason> {
    let name = member.name(observed.name());
    let failure = |why: String| Some(Reason::Failure(format!("{name}: {why}")));
    let plan = |why: &str| Some(Reason::Plan(format!("{name}: {why}")));
    if observed.is_bypassed(member.ordinal) {
        return failure("it is not in the ring".into());
    }
    if member.pod.as_ref().is_some_and(|pod| pod.terminating) {
        return failure("its pod is being deleted".into());
    }
    match Health::of(member, observed) {
        Health::NoPod(why) | Health::Starting(why) | Health::Failed(why) => return failure(why),
        Health::Suspect(_) | Health::Alive(_) => return None,
        Health::Reached => {}
    }
    if fencing::is_ordered(observed, member.ordinal) {
        return failure("a person wants it fenced".into());
    }
    let (server, _) = member.with_data()?;
    if server.super_read_only && !is_sound(observed, member) {
        return failure("it is fenced, and cannot be opened yet".into());
    }
    if observed.is_leaving(member) {
        return plan("it leaves the ring");
    }
    let last_to_restart = || {
        observed
            .others(member.ordinal)
            .all(|other| !is_outdated(observed, other))
    };
    if observed.problems.is_empty() && is_outdated(observed, member) && ring_is_whole(observed) && last_to_restart() {
        return plan("it is to be restarted");
    }
    None
}

/// Of those that could: one that is open already, that need not be restarted, that holds most.
fn best<'a>(
    observed: &'a Observed,
    present: Option<&Member>,
    is_eligible: impl Fn(&Member) -> bool,
) -> Option<&'a Member> {
    let others = observed
        .members
        .iter()
        .filter(|member| present.is_none_or(|present| present.ordinal != member.ordinal));
    others
        .filter(|member| is_sound(observed, member) && is_eligible(member))
        .max_by_key(|member| {
            let server = member.server();
            (
                server.is_some_and(|server| !server.super_read_only),
                !is_outdated(observed, member),
                server.map(|server| server.held().count()),
                Reverse(member.ordinal),
            )
        })
}

/// Somebody is to take the writes, and nobody does yet: what that waits for comes soon.
pub fn is_awaited(observed: &Observed) -> bool {
    let writer = observed.writer().and_then(|writer| observed.member(writer)?.server());
    writer.is_some_and(|server| server.super_read_only)
}
