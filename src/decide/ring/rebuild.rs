//! A member with an empty volume: whom to copy it from.

use super::lineage::is_foreign;
use crate::decide::observed::{Member, Observed};
use crate::decide::step::Step;

/// Why an empty member cannot be rebuilt yet, or its donor.
pub fn donor(observed: &Observed, ordinal: u8) -> Result<u8, String> {
    let ring = observed.ring();
    let name = |ordinal| {
        observed
            .member(ordinal)
            .map_or_else(String::new, |member| member.name(observed.name()))
    };
    let Some(downstream) = ring.downstream(ordinal) else {
        return Err("no other member of the ring is left to copy from".into());
    };
    // The future downstream already has everything that the clone's binary logs will not. A copy of anybody else may have what the downstream
    // could then get from nobody.
    let member = observed.member(downstream);
    let ours = |member: &&Member| !is_foreign(observed, member);
    if member.filter(ours).and_then(Member::with_data).is_some() {
        Ok(downstream)
    } else if member.and_then(Member::empty).is_some() {
        Err(format!(
            "waits for {}, its downstream, to be rebuilt first",
            name(downstream)
        ))
    } else {
        Err(format!("waits for {}, its downstream, to copy from", name(downstream)))
    }
}

/// The clone that is due, if any. One at a time: a server can be the donor of one only (error 3634).
pub fn rebuild(observed: &Observed) -> Option<Step> {
    if observed.members.iter().any(Member::is_cloning) {
        return None;
    }
    let staying = observed.members.iter().filter(|member| !observed.is_leaving(member));
    let due = staying.filter_map(|member| {
        let (server, report) = member.empty()?;
        let step = Step::Clone {
            ordinal: member.ordinal,
            server_uuid: server.uuid.clone(),
            donor: donor(observed, member.ordinal).ok()?,
        };
        Some((report.last_clone_error.is_some(), step))
    });
    // One that fails again and again must not keep the others waiting.
    due.min_by_key(|(failed, _)| *failed).map(|(_, step)| step)
}
