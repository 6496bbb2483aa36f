//! A new image or configuration reaches the members one at a time. `docs/ring.md`, "Restarts".

use jiff::Timestamp;

use super::drain::{begun, candidates, has_finished, has_no_clients, others, others_serve, outdated, waited_for};
use crate::decide::findings::Findings;
use crate::decide::observed::Member;
use crate::decide::step::{PodAction, Step};
use crate::wire::agent::Phase;

/// A member with an old template whose mysqld does not run: it has nothing to lose by being replaced, and may need the new template to
/// run at all.
pub fn replace(findings: &Findings) -> Option<Step> {
    let does_not_run = |member: &Member| member.report().is_none_or(|report| report.phase != Phase::Running);
    let is_down = |member: &&Member| {
        let finding = findings.member(member.ordinal);
        finding.is_some_and(|finding| finding.health.is_certainly_down()) && does_not_run(member)
    };
    let member = outdated(findings.observed).find(is_down)?;
    step(member, "it has an old template and does not run")
}

/// The member whose turn it is, once its clients have finished and while all members answer: one that does not may be open, and nothing says
/// that its restart had begun.
pub fn restart(findings: &Findings, now: Timestamp) -> Option<Step> {
    let observed = findings.observed;
    observed.update_revision.as_ref()?;
    let member = begun(findings)?;
    let all_answer = member.server().is_some() && others(observed, member).all(|other| other.server().is_some());
    let may_stop = || findings.ring_is_closed && has_finished(observed, member, now);
    (all_answer && (has_no_clients(&findings.roles, member) || may_stop()))
        .then(|| step(member, "a new image or configuration"))
        .flatten()
}

/// The member whose turn it is: its restart has begun, or may begin because the ring is whole.
pub fn next<'a>(findings: &Findings<'a>, ring_is_whole: bool) -> Option<&'a Member> {
    let roles = &findings.roles;
    // A member that leaves and answers is soon gone, and the ring is closed anew then.
    let leaves = || roles.leaving.is_some_and(|leaving| leaving.server().is_some());
    let waits_for_none = |member: &Member| waited_for(roles, member).next().is_none();
    let may_begin =
        |member: &&Member| ring_is_whole && !leaves() && others_serve(roles, member) && waits_for_none(member);
    begun(findings).or_else(|| candidates(roles).find(may_begin))
}

fn step(member: &Member, why: &str) -> Option<Step> {
    let pod = member.pod.as_ref().filter(|pod| !pod.terminating)?;
    Some(Step::pod(
        member.ordinal,
        &pod.uid,
        PodAction::Restart { why: why.into() },
    ))
}
