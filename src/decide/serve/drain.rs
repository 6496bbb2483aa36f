//! A member that is to stop is out of both Services, and its clients finish. `docs/ring.md`, "Restarts".

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::fencing;
use crate::api::status::{MemberState, conditions};
use crate::decide::observed::{Member, Observed};
use crate::decide::ring::links::ring_is_closed;

/// How long the clients of a member that is to stop have to finish.
pub const GOODBYE: SignedDuration = SignedDuration::from_secs(30);

/// How long it takes at most until no new connection comes to a member whose label is gone.
const ENDPOINTS: SignedDuration = SignedDuration::from_secs(3);

/// The pod was made from another template than the present one. While nobody knows which that is, one that was taken out for its sake is.
pub fn is_outdated(observed: &Observed, member: &Member) -> bool {
    let Some(pod) = &member.pod else { return false };
    match &observed.update_revision {
        Some(wanted) => pod.revision.as_ref().is_some_and(|revision| revision != wanted),
        None => was(observed, member, MemberState::Draining),
    }
}

/// It is out of the Service to be restarted.
pub fn is_draining(observed: &Observed, member: &Member) -> bool {
    is_outdated(observed, member) && begun(observed).is_some_and(|begun| begun.ordinal == member.ordinal)
}

/// It had begun to drain and still does, whether it answers this time or not.
pub fn goes_on_draining(observed: &Observed, member: &Member) -> bool {
    let leaves = || observed.is_leaving(member) && was(observed, member, MemberState::Leaving);
    let drains = || is_draining(observed, member) && was(observed, member, MemberState::Draining);
    leaves() || drains()
}

fn was(observed: &Observed, member: &Member, state: MemberState) -> bool {
    observed
        .recorded(member.ordinal)
        .is_some_and(|before| before.state == state)
}

/// A member that is out of the Service: its clients are gone, or had their time to go.
pub fn has_said_goodbye(observed: &Observed, member: &Member, now: Timestamp) -> bool {
    let since = observed
        .recorded(member.ordinal)
        .filter(|status| matches!(status.state, MemberState::Leaving | MemberState::Draining))
        .and_then(|status| status.since.as_ref());
    let idle = member.server().is_some_and(|server| server.client_sessions == 0);
    let for_ = |since: &Time| now.duration_since(since.0);
    let done = |since| for_(since) >= GOODBYE || idle && for_(since) >= ENDPOINTS;
    !member.has_label() && since.is_some_and(done)
}

/// The member whose restart has begun: it is out of the Service, while all others are in. If another one fails, or a link does, it goes back.
pub(super) fn begun(observed: &Observed) -> Option<&Member> {
    candidates(observed).find(|member| {
        // It does not answer itself, so nobody knows of its links.
        let is_silent = || member.with_data().is_none() && was(observed, member, MemberState::Draining);
        let links = || ring_is_closed(observed) || ring_was_closed(observed) || is_silent();
        !has_its_label(observed, member)
            && others_serve(observed, member)
            && (has_no_clients(observed, member) || links())
    })
}

/// Fenced, and not to be read from either.
pub(super) fn has_no_clients(observed: &Observed, member: &Member) -> bool {
    let fenced = member.server().is_some_and(|server| server.super_read_only);
    fenced && (!observed.is_reader(member.ordinal) || fencing::is_ordered(observed, member.ordinal))
}

/// Everybody but this member does what it is there for. Who leaves the ring does not count.
pub(super) fn others_serve(observed: &Observed, member: &Member) -> bool {
    others(observed, member).all(|other| is_in_service(observed, other))
        && observed.members.iter().all(|any| any.conflict().is_none())
}

pub(super) fn others<'a>(observed: &'a Observed, member: &Member) -> impl Iterator<Item = &'a Member> {
    let members = observed.cluster.spec.members;
    observed
        .others(member.ordinal)
        .filter(move |other| other.ordinal < members)
}

fn is_in_service(observed: &Observed, member: &Member) -> bool {
    let recorded = observed.recorded(member.ordinal);
    let served = || recorded.is_some_and(|before| before.state.serves());
    match member.server() {
        // It may be too far behind to be read from, for a while. The writer always serves reads.
        Some(_) if observed.is_reader(member.ordinal) => served(),
        Some(server) => member.has_label() && !server.super_read_only,
        // One answer that is missing tells nothing; two do.
        None => has_its_label(observed, member) && served(),
    }
}

fn has_its_label(observed: &Observed, member: &Member) -> bool {
    match observed.is_reader(member.ordinal) {
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
pub(super) fn candidates(observed: &Observed) -> impl Iterator<Item = &Member> {
    let single = observed.cluster.has_single_writer();
    outdated(observed)
        .filter(|member| member.ordinal < observed.cluster.spec.members)
        .filter(move |member| !single || observed.is_reader(member.ordinal))
}

/// None while something in the spec waits for a person, and none of which nobody knows what it is doing.
pub(super) fn outdated(observed: &Observed) -> impl Iterator<Item = &Member> {
    let members = if observed.problems.is_empty() {
        observed.members.as_slice()
    } else {
        &[]
    };
    let due = |member: &&Member| is_outdated(observed, member) && !member.is_of_a_newer_agent();
    members.iter().rev().filter(due)
}
