//! A member with an empty volume: which member it is copied from.

use crate::decide::findings::Findings;
use crate::decide::observed::Member;
use crate::decide::step::{Action, Step};
use crate::names;

/// The member that an empty one is copied from.
///
/// # Errors
/// Why it cannot be rebuilt yet.
pub fn donor(findings: &Findings, ordinal: u8) -> Result<u8, String> {
    let Some(downstream) = findings.roles.ring.downstream(ordinal) else {
        return Err("no other member of the ring is left to copy from".into());
    };
    let name = names::member(findings.observed.name(), downstream);
    // The future downstream already has everything that the clone's binary logs will not. A copy of any other member may have what the
    // downstream could then get from none.
    let finding = findings.member(downstream);
    let data = finding.and_then(|finding| finding.data.as_ref());
    if data.is_some() {
        Ok(downstream)
    } else if finding.and_then(|finding| finding.member.empty()).is_some() {
        Err(format!("waits for {name}, its downstream, to be rebuilt first"))
    } else {
        Err(format!("waits for {name}, its downstream, to copy from"))
    }
}

/// The clone that is due, if any. One at a time: a server can be the donor of one only (error 3634).
pub fn rebuild(findings: &Findings) -> Option<Step> {
    let members = &findings.observed.members;
    let may_link = findings.observed.cluster.spec.knows_positioning();
    if members.iter().any(Member::is_cloning) || !may_link {
        return None;
    }
    let staying = members
        .iter()
        .filter(|member| !findings.roles.is_leaving(member.ordinal));
    let due = staying.filter_map(|member| {
        let (server, report) = member.empty()?;
        let donor = donor(findings, member.ordinal).ok()?;
        let step = Step::member(member.ordinal, &server.uuid, Action::Clone { donor });
        Some((report.last_clone_error.is_some(), step))
    });
    // One that fails again and again must not keep the others waiting.
    due.min_by_key(|(failed, _)| *failed).map(|(_, step)| step)
}
