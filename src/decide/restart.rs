//! A new image or configuration reaches the members one at a time. `docs/ring.md`, "Restarts".

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::agent::report::Phase;
use crate::api::status::MemberState;

use super::health::Health;
use super::observed::{Member, Observed};
use super::states::{conflict, ring_is_whole};
use super::step::Step;

/// How long the clients of a member that is to stop have to finish.
pub const GOODBYE: SignedDuration = SignedDuration::from_secs(30);
/// How long it takes at most until no new connection comes to a member whose label is gone.
const ENDPOINTS: SignedDuration = SignedDuration::from_secs(3);

/// The pod was made from another template than the present one.
pub fn is_outdated(observed: &Observed, member: &Member) -> bool {
    let (Some(wanted), Some(pod)) = (&observed.update_revision, &member.pod) else {
        return false;
    };
    pod.revision.as_ref().is_some_and(|revision| revision != wanted)
}

/// A member with an old template whose mysqld does not run: it has nothing to lose by being replaced, and may need the new template to
/// run at all.
pub fn replace(observed: &Observed) -> Option<Step> {
    let silent = |member: &&Member| member.report().is_none_or(|report| report.phase != Phase::Running);
    let down = |member: &&Member| Health::of(member, observed).is_certainly_down() && silent(member);
    let member = outdated(observed).find(down)?;
    step(member, "it has an old template and does not run")
}

/// The member whose turn it is, once its clients have finished and while all members answer: one that does not may be open, and nothing says
/// that its restart had begun.
pub fn restart(observed: &Observed, now: Timestamp) -> Option<Step> {
    let all_answer = observed.members.iter().all(|member| member.server().is_some());
    let member = begun(observed).filter(|_| all_answer)?;
    // Who is fenced has no clients, except for those who read from a reader.
    let fenced = member.server().is_some_and(|server| server.super_read_only);
    let idle = fenced && !observed.is_reader(member.ordinal);
    (idle || has_said_goodbye(observed, member, now))
        .then(|| step(member, "a new image or configuration"))
        .flatten()
}

/// The member whose turn it is: its restart has begun, or may begin because the ring is whole.
pub fn next(observed: &Observed) -> Option<&Member> {
    let first = || candidates(observed).next().filter(|_| ring_is_whole(observed));
    begun(observed).or_else(first)
}

/// It is this member's turn: no new client is to come to it, nor is it to be opened.
pub fn is_next(observed: &Observed, member: &Member) -> bool {
    is_outdated(observed, member) && next(observed).is_some_and(|next| next.ordinal == member.ordinal)
}

/// It is out of the Service to be restarted.
pub fn is_draining(observed: &Observed, member: &Member) -> bool {
    is_outdated(observed, member) && begun(observed).is_some_and(|begun| begun.ordinal == member.ordinal)
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

/// The member whose restart has begun: it is out of the Service and all others are in. The operator may have died since, or it may as well be
/// restarted now. If anybody else is away it is needed more than its new template is.
fn begun(observed: &Observed) -> Option<&Member> {
    candidates(observed).find(|member| {
        conflict(member).is_none()
            && !is_in_service(observed, member)
            && observed
                .others(member.ordinal)
                .all(|other| is_in_service(observed, other))
    })
}

fn is_in_service(observed: &Observed, member: &Member) -> bool {
    match observed.is_reader(member.ordinal) {
        true => member.pod.as_ref().is_some_and(|pod| pod.reads),
        // One answer that is missing tells nothing.
        false => member.has_label() && member.server().is_none_or(|server| !server.super_read_only),
    }
}

/// Members to restart, the highest ordinal first. The one writer is not restarted: when only it is left another one becomes the writer.
fn candidates(observed: &Observed) -> impl Iterator<Item = &Member> {
    let single = observed.cluster.has_single_writer();
    outdated(observed)
        .filter(|member| !observed.is_leaving(member))
        .filter(move |member| !single || observed.is_reader(member.ordinal))
}

/// None while something in the spec waits for a person.
fn outdated(observed: &Observed) -> impl Iterator<Item = &Member> {
    let members = if observed.problems.is_empty() {
        observed.members.as_slice()
    } else {
        &[]
    };
    members.iter().rev().filter(|member| is_outdated(observed, member))
}

fn step(member: &Member, why: &str) -> Option<Step> {
    let pod = member.pod.as_ref().filter(|pod| !pod.terminating)?;
    Some(Step::Restart {
        ordinal: member.ordinal,
        pod_uid: pod.uid.clone(),
        why: why.into(),
    })
}
