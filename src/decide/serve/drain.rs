//! A member that is to stop is out of both Services, and its clients finish. `docs/ring.md`, "Restarts".

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::endpoints;
use crate::api::status::{MemberState, conditions};
use crate::decide::findings::Findings;
use crate::decide::observed::{Member, Observed};
use crate::decide::roles::Roles;

/// How long the clients of a member that is to stop have to finish.
pub const DRAIN: SignedDuration = SignedDuration::from_secs(30);

/// How long it takes at most until no new connection comes to a member whose label is gone.
const ENDPOINTS: SignedDuration = SignedDuration::from_secs(3);

/// The pod was made from another template than the present one, and this version made that. While the present template is not known, a pod that was
/// taken out of the Service for it counts as such.
pub fn is_outdated(observed: &Observed, member: &Member) -> bool {
    let Some(pod) = &member.pod else { return false };
    if !observed.cluster.spec.unknown.is_empty() {
        return false;
    }
    match &observed.update_revision {
        Some(wanted) => pod.revision.as_ref().is_some_and(|revision| revision != wanted),
        None => was(observed, member, MemberState::Draining),
    }
}

/// It is out of the Service to be restarted.
pub fn is_draining(findings: &Findings, member: &Member) -> bool {
    is_outdated(findings.observed, member) && begun(findings).is_some_and(|begun| begun.ordinal == member.ordinal)
}

/// It had begun to drain and still does, whether it answers this time or not.
pub fn goes_on_draining(findings: &Findings, member: &Member) -> bool {
    let observed = findings.observed;
    let leaves = || findings.roles.is_leaving(member.ordinal) && was(observed, member, MemberState::Leaving);
    let drains = || is_draining(findings, member) && was(observed, member, MemberState::Draining);
    leaves() || drains()
}

fn was(observed: &Observed, member: &Member, state: MemberState) -> bool {
    observed.was(member.ordinal, state)
}

/// A member that is out of the Service: its clients are gone, or had their time to go.
pub fn has_finished(observed: &Observed, member: &Member, now: Timestamp) -> bool {
    let since = observed
        .recorded(member.ordinal)
        .filter(|status| matches!(status.state, MemberState::Leaving | MemberState::Draining))
        .and_then(|status| status.since.as_ref());
    let idle = member.server().is_some_and(|server| server.client_sessions == 0);
    let for_ = |since: &Time| now.duration_since(since.0);
    let done = |since| for_(since) >= DRAIN || idle && for_(since) >= ENDPOINTS;
    !member.has_label() && since.is_some_and(done)
}

/// The member whose restart has begun: it is out of the Service, while all others are in. If another one fails, its pod is not Ready any more, or a link
/// fails, it goes back.
pub(super) fn begun<'a>(findings: &Findings<'a>) -> Option<&'a Member> {
    let observed = findings.observed;
    candidates(&findings.roles).find(|member| {
        // It does not answer, so its links cannot be seen.
        let is_silent = || member.with_data().is_none() && was(observed, member, MemberState::Draining);
        let links = || findings.ring_is_closed || ring_was_closed(observed) || is_silent();
        let roles = &findings.roles;
        // A member may lack its label for another reason, and its restart has not begun then.
        let has_begun = || was(observed, member, MemberState::Draining) || waited_for(roles, member).next().is_none();
        let goes_on = |other: &Member| {
            is_ready(other) || endpoints::obstacle(roles, other).is_none() || is_not_waited_for(roles, member, other)
        };
        !has_its_label(roles, member)
            && others_serve(roles, member)
            && has_begun()
            && others(observed, member).all(goes_on)
            && (has_no_clients(roles, member) || links())
    })
}

/// Fenced, and not to be read from either.
pub(super) fn has_no_clients(roles: &Roles, member: &Member) -> bool {
    let fenced = member.server().is_some_and(|server| server.super_read_only);
    fenced && (!roles.is_reader(member.ordinal) || roles.is_ordered_fenced(member.ordinal))
}

/// Every other member does what it is there for. A member that leaves the ring does not count.
pub(super) fn others_serve(roles: &Roles, member: &Member) -> bool {
    others(roles.observed, member).all(|other| is_in_service(roles, other))
        && roles.observed.members.iter().all(|any| any.conflict().is_none())
}

/// The members for which the restart of this one does not begin: clients do not reach them although they are to have some, or will perhaps not reach them
/// soon, because a container beside mysqld fails again and again.
pub fn waited_for<'a>(roles: &Roles<'a>, member: &Member) -> impl Iterator<Item = &'a Member> {
    let is_behind = |other: &Member| endpoints::obstacle(roles, other).is_none() && is_steady(other);
    others(roles.observed, member).filter(move |other| !is_behind(other) && !is_not_waited_for(roles, member, other))
}

/// A pod that is not there, or ends, is no matter of its containers.
fn is_ready(member: &Member) -> bool {
    member.pod.as_ref().is_none_or(|pod| pod.ready && !pod.terminating)
}

fn is_steady(member: &Member) -> bool {
    member.pod.as_ref().is_none_or(|pod| pod.restarted.is_none())
}

/// What keeps clients from a member, as far as its containers do; the worse is later.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Trouble {
    Nothing,
    /// Clients reach it, and a container beside mysqld fails again and again.
    FailsAgain,
    NotReady,
}

fn trouble(member: &Member) -> Trouble {
    match &member.pod {
        Some(pod) if pod.terminating => Trouble::Nothing,
        Some(pod) if !pod.ready => Trouble::NotReady,
        Some(pod) if pod.restarted.is_some() => Trouble::FailsAgain,
        _ => Trouble::Nothing,
    }
}

/// The other one's own restart is what may mend its trouble, because its template is an old one. But this member's restart comes before: its own trouble is
/// as bad, or the other one is the writer, whose turn comes last.
fn is_not_waited_for(roles: &Roles, member: &Member, other: &Member) -> bool {
    let theirs = trouble(other);
    let goes_first = trouble(member) >= theirs || roles.writer == Some(other.ordinal);
    theirs != Trouble::Nothing && is_outdated(roles.observed, other) && goes_first
}

pub(super) fn others<'a>(observed: &'a Observed, member: &Member) -> impl Iterator<Item = &'a Member> {
    let members = observed.cluster.spec.members;
    observed
        .others(member.ordinal)
        .filter(move |other| other.ordinal < members)
}

fn is_in_service(roles: &Roles, member: &Member) -> bool {
    let recorded = roles.observed.recorded(member.ordinal);
    let served = || recorded.is_some_and(|before| before.state.serves());
    match member.server() {
        // It may be too far behind to be read from, for a while. The writer always serves reads.
        Some(_) if roles.is_reader(member.ordinal) => served(),
        Some(server) => member.has_label() && !server.super_read_only,
        // One missing answer proves nothing; two do.
        None => has_its_label(roles, member) && served(),
    }
}

fn has_its_label(roles: &Roles, member: &Member) -> bool {
    match roles.is_reader(member.ordinal) {
        true => member.pod.as_ref().is_some_and(|pod| pod.reads),
        false => member.has_label(),
    }
}

/// In the pass before this one.
fn ring_was_closed(observed: &Observed) -> bool {
    let status = observed.cluster.status.as_ref();
    status.is_some_and(|status| {
        let mut conditions = status.conditions.iter();
        conditions.any(|condition| condition.type_ == conditions::RING_CLOSED && condition.status == "True")
    })
}

/// Members to restart, the highest ordinal first. The one writer is not restarted: when only it is left another one becomes the writer.
pub(super) fn candidates<'a>(roles: &Roles<'a>) -> impl Iterator<Item = &'a Member> {
    let (observed, writer) = (roles.observed, roles.writer);
    let single = observed.cluster.has_single_writer();
    outdated(observed)
        .filter(|member| member.ordinal < observed.cluster.spec.members)
        .filter(move |member| !single || writer.is_some_and(|writer| writer != member.ordinal))
}

/// Members with an old template, the highest ordinal first. None while something in the spec waits for a person, and no member whose agent
/// reports what this version does not know.
pub fn outdated(observed: &Observed) -> impl Iterator<Item = &Member> {
    let members = if observed.problems.is_empty() {
        observed.members.as_slice()
    } else {
        &[]
    };
    let due = |member: &&Member| is_outdated(observed, member) && !member.is_of_a_newer_agent();
    members.iter().rev().filter(due)
}
