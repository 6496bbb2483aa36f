//! One member that takes writes (`spec.writes: SingleWriter`): which one it is. `docs/ring.md`, "One writer".

use std::cmp::Reverse;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::drain::{is_outdated, waited_for};
use super::endpoints::would_be_behind;
use super::opening::is_sound;
use crate::api::status::WriterStatus;
use crate::decide::findings::Finding;
use crate::decide::observed::Member;
use crate::decide::ring::health::Health;
use crate::decide::roles::Roles;
use crate::decide::view::View;

/// In a planned move the next writer is no further behind than this, in seconds: no member takes writes until it has caught up.
const CLOSE: i64 = 1;

/// The writer from this pass on, where there is to be one. It stays the writer until it fails or has to go, and does not become it again by
/// itself.
pub fn chosen(view: &View, now: Timestamp) -> Option<WriterStatus> {
    let (observed, roles) = (view.observed, view.roles());
    let present = observed
        .cluster
        .status
        .as_ref()
        .and_then(|status| status.writer.clone());
    let finding = roles.writer.and_then(|writer| view.findings.member(writer));
    let (why, candidate) = match finding.map(|finding| (finding.member, reason_to_move(view, finding))) {
        Some((_, None)) => return present,
        Some((member, Some(Reason::Failure(why)))) => (why, best(view, Some(member), |_| true)),
        Some((member, Some(Reason::Plan(why)))) => {
            let close = |candidate: &Finding| candidate.lag.is_some_and(|seconds| seconds <= CLOSE);
            (why, best(view, Some(member), close))
        }
        None => ("the first".into(), best(view, None, |_| true)),
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

fn reason_to_move(view: &View, finding: &Finding) -> Option<Reason> {
    let (observed, roles, member) = (view.observed, view.roles(), finding.member);
    let name = member.name(observed.name());
    let failure = |why: String| Some(Reason::Failure(format!("{name}: {why}")));
    let plan = |why: &str| Some(Reason::Plan(format!("{name}: {why}")));
    if roles.is_bypassed(member.ordinal) {
        return failure("it is not in the ring".into());
    }
    if member.pod.as_ref().is_some_and(|pod| pod.terminating) {
        return failure("its pod is being deleted".into());
    }
    match &finding.health {
        Health::NoPod(why) | Health::Starting(why) | Health::Failed(why) => return failure(why.clone()),
        Health::Suspect(_) | Health::Alive(_) => return None,
        Health::Reached => {}
    }
    if roles.is_ordered_fenced(member.ordinal) {
        return failure("a person wants it fenced".into());
    }
    let data = finding.data.as_ref()?;
    if data.server.super_read_only && !is_sound(&view.findings, finding) {
        return failure("it is fenced, and cannot be opened yet".into());
    }
    if roles.is_leaving(member.ordinal) {
        return plan("it leaves the ring");
    }
    let last_to_restart = || {
        observed
            .others(member.ordinal)
            .all(|other| !is_outdated(observed, other))
    };
    let may_be_restarted = || last_to_restart() && waited_for(roles, member).next().is_none();
    if observed.problems.is_empty() && is_outdated(observed, member) && view.ring_is_whole && may_be_restarted() {
        return plan("it is to be restarted");
    }
    None
}

/// Of those that could: one that is open already, whose applier does not wait for a lock, that clients would reach, that need not be
/// restarted, that holds most.
fn best<'a>(view: &View<'a>, present: Option<&Member>, is_eligible: impl Fn(&Finding) -> bool) -> Option<&'a Member> {
    let others = view
        .findings
        .members()
        .iter()
        .filter(|finding| present.is_none_or(|present| present.ordinal != finding.member.ordinal));
    let is_interrupted = |member: &Member| {
        let finding = view.findings.member(member.ordinal);
        finding.is_some_and(|finding| finding.link_is_interrupted)
    };
    let able = others.filter(|finding| is_sound(&view.findings, finding) && is_eligible(finding));
    let members = able.map(|finding| finding.member);
    members.max_by_key(|member| {
        let server = member.server();
        (
            server.is_some_and(|server| !server.super_read_only),
            !is_interrupted(member),
            would_be_behind(view.observed, member),
            !is_outdated(view.observed, member),
            server.map(|server| server.held().count()),
            Reverse(member.ordinal),
        )
    })
}

/// A member is to take the writes, and does not yet: what that waits for comes soon.
pub fn is_awaited(roles: &Roles) -> bool {
    let writer = roles.writer.and_then(|writer| roles.observed.member(writer)?.server());
    writer.is_some_and(|server| server.super_read_only)
}
