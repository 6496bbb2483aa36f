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
    let (Some(upstream), Some(downstream)) = (ring.upstream(ordinal), ring.downstream(ordinal)) else {
        return Err("no other member of the ring is left to copy from".into());
    };
    let settled = |ordinal| observed.member(ordinal).and_then(Member::with_data).is_some();
    // The future downstream as donor already has everything that the clone's binary logs will not.
    if settled(downstream) {
        return Ok(downstream);
    }
    if observed
        .member(downstream)
        .is_none_or(|member| member.empty().is_none())
    {
        return Err(format!("waits for {}, its downstream, to copy from", name(downstream)));
    }
    // The downstream is empty as well and will be cloned later, so it will have what this clone has.
    if settled(upstream) {
        Ok(upstream)
    } else {
        Err(format!(
            "waits for {}, its upstream, to hold data again",
            name(upstream)
        ))
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
