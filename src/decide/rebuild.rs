//! A member with an empty volume: whom to copy it from.

use crate::agent::report::Phase;

use super::observed::{Member, Observed};
use super::step::Step;

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
    if member.and_then(Member::with_data).is_some() {
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
    let busy = observed
        .members
        .iter()
        .any(|member| matches!(member.report().map(|report| &report.phase), Some(Phase::Cloning { .. })));
    if busy {
        return None;
    }
    let staying = observed.members.iter().filter(|member| !observed.is_leaving(member));
    staying.into_iter().find_map(|member| {
        let (server, _) = member.empty()?;
        let donor = donor(observed, member.ordinal).ok()?;
        Some(Step::Clone {
            ordinal: member.ordinal,
            server_uuid: server.uuid.clone(),
            donor,
        })
    })
}
