//! May a member take writes? As far as it alone is concerned, and beside the others. `docs/ring.md`, "One writer".

use std::collections::HashSet;

use jiff::SignedDuration;

use super::fencing;
use crate::decide::observed::{Member, Observed, Server};
use crate::decide::ring::lineage::{has_caught_up, is_foreign, lost};
use crate::decide::ring::links::{self, LinkNeed, link_replicates};
use crate::wire::agent::Phase;

/// It is in the ring, and nobody wants it to go or to be fenced.
pub fn takes_part(observed: &Observed, member: &Member) -> bool {
    !observed.is_bypassed(member.ordinal)
        && !observed.is_leaving(member)
        && !fencing::is_ordered(observed, member.ordinal)
}

/// Beyond the lease: a member that fences itself at its end has so long to do it.
const MARGIN: SignedDuration = SignedDuration::from_secs(1);

/// Could take writes now, as far as it alone is concerned.
pub fn is_sound(observed: &Observed, member: &Member) -> bool {
    let Some((server, _)) = member.with_data() else {
        return false;
    };
    let links = || {
        matches!(
            links::need(observed, member.ordinal, server),
            LinkNeed::Nothing | LinkNeed::Patience
        )
    };
    takes_part(observed, member)
        && member.pod.as_ref().is_some_and(|pod| !pod.terminating)
        && !is_foreign(observed, member)
        && lost(observed, member.ordinal, server).map_or(!server.super_read_only, |lost| lost.is_empty())
        && (!server.super_read_only || links() && has_caught_up(observed, member, server))
}

/// Whether the writer may take writes now: no other member does, and it has executed all that can be had.
///
/// # Errors
/// What it waits for.
pub fn may_open(observed: &Observed, member: &Member, server: &Server) -> Result<(), String> {
    if !observed.cluster.has_single_writer() {
        return Ok(());
    }
    let lease = SignedDuration::from_secs(observed.cluster.spec.isolation.lease_seconds.into()) + MARGIN;
    let told = member.report().and_then(|report| report.lease);
    let Some(told) = told.filter(|told| told.writer == member.ordinal && told.held) else {
        return Err("its agent does not know yet that it is the writer".into());
    };
    // Until it was told so it may have confirmed the one before it, which then has a lease that nobody else knows of.
    let confirmed = told
        .silent_milliseconds
        .map(|milliseconds| SignedDuration::from_millis(i64::try_from(milliseconds).unwrap_or(i64::MAX)));
    let may_write = |other: &&Member| !takes_no_writes(other) && !other.last_seen_fenced;
    for other in observed.others(member.ordinal).filter(may_write) {
        let name = other.name(observed.name());
        if other.server().is_some() {
            return Err(format!("{name} still takes writes and is fenced first"));
        }
        if other.unheard < lease || confirmed.is_some_and(|since| since < lease) {
            return Err(format!(
                "{name} does not answer, and may take writes until its lease has ended"
            ));
        }
    }
    for channel in server.channels.iter().filter(|channel| channel.applier_running) {
        if !server.executed.contains(&channel.retrieved) {
            return Err("it has yet to apply what it has received".into());
        }
    }
    match upstreams(observed, member.ordinal).find(|upstream| !server.executed.contains(&upstream.executed)) {
        Some(_) => Err("it has yet to get what others have executed".into()),
        None => Ok(()),
    }
}

/// Known to take no writes from clients: fenced, or its mysqld is down and will start fenced.
fn takes_no_writes(member: &Member) -> bool {
    let down = member.report().is_some_and(|report| match &report.phase {
        Phase::Initialising | Phase::Starting | Phase::Restarting { .. } => true,
        // CLONE needs super_read_only off; read_only keeps clients out, who have no right to get around it.
        Phase::Cloning { .. } => true,
        Phase::Stopping { fenced } => *fenced,
        Phase::Running | Phase::Unknown => false,
    });
    down || member.server().is_some_and(|server| server.super_read_only)
}

/// [`Member::last_seen_fenced`] after another look: no answer tells nothing new, because a mysqld starts fenced and only the operator opens it.
pub fn remains_fenced(member: &Member, before: bool) -> bool {
    takes_no_writes(member) || before && member.server().is_none()
}

/// Notes a look at a member in `fenced`, the ordinals for which [`Member::last_seen_fenced`] holds, and gives it to the member.
pub fn note_fenced(fenced: &mut HashSet<u8>, member: &mut Member) {
    member.last_seen_fenced = remains_fenced(member, fenced.contains(&member.ordinal));
    match member.last_seen_fenced {
        true => fenced.insert(member.ordinal),
        false => fenced.remove(&member.ordinal),
    };
}

/// The servers before this member, for as long as what they have arrives here.
fn upstreams(observed: &Observed, ordinal: u8) -> impl Iterator<Item = &Server> {
    let before = move |downstream: u8| {
        let upstream = observed.ring().upstream(downstream)?;
        (upstream != ordinal && link_replicates(observed, downstream)).then_some(upstream)
    };
    std::iter::successors(before(ordinal), move |upstream| before(*upstream))
        .filter_map(|upstream| observed.member(upstream)?.server())
}
