//! A new image or configuration reaches the members one at a time. `docs/ring.md`, "Restarts".

use jiff::Timestamp;

use super::drain::{begun, candidates, has_no_clients, has_said_goodbye, is_outdated, others, others_serve, outdated};
use crate::decide::observed::{Member, Observed};
use crate::decide::report::states::ring_is_whole;
use crate::decide::ring::health::Health;
use crate::decide::ring::links::ring_is_closed;
use crate::decide::step::Step;
use crate::wire::agent::Phase;

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
    observed.update_revision.as_ref()?;
    let member = begun(observed)?;
    let all_answer = member.server().is_some() && others(observed, member).all(|other| other.server().is_some());
    let has_finished = || ring_is_closed(observed) && has_said_goodbye(observed, member, now);
    (all_answer && (has_no_clients(observed, member) || has_finished()))
        .then(|| step(member, "a new image or configuration"))
        .flatten()
}

/// The member whose turn it is: its restart has begun, or may begin because the ring is whole.
pub fn next(observed: &Observed) -> Option<&Member> {
    // Who leaves and answers is soon gone, and the ring is closed anew then.
    let leaves = || observed.leaving().is_some_and(|leaving| leaving.server().is_some());
    let may_begin = |member: &&Member| ring_is_whole(observed) && !leaves() && others_serve(observed, member);
    begun(observed).or_else(|| candidates(observed).find(may_begin))
}

/// It is this member's turn: no new client is to come to it, nor is it to be opened.
pub fn is_next(observed: &Observed, member: &Member) -> bool {
    is_outdated(observed, member) && next(observed).is_some_and(|next| next.ordinal == member.ordinal)
}

fn step(member: &Member, why: &str) -> Option<Step> {
    let pod = member.pod.as_ref().filter(|pod| !pod.terminating)?;
    Some(Step::Restart {
        ordinal: member.ordinal,
        pod_uid: pod.uid.clone(),
        why: why.into(),
    })
}
