//! May a member take writes? As far as it alone is concerned, and beside the others. `docs/ring.md`, "One writer".

use std::collections::HashSet;

use super::voters;
use crate::decide::findings::{Data, Finding, Findings};
use crate::decide::observed::{Member, Observed, Server};
use crate::mysql::gtid::GtidSet;
use crate::names;
use crate::wire::agent::Phase;

/// Could take writes now, as far as it alone is concerned.
pub fn is_sound(findings: &Findings, finding: &Finding) -> bool {
    let Some(data) = &finding.data else {
        return false;
    };
    let (fenced, lineage) = (data.server.super_read_only, &data.lineage);
    findings.roles.takes_part(data.ordinal())
        && data.member.pod.as_ref().is_some_and(|pod| !pod.terminating)
        && lineage.lost.as_ref().map_or(!fenced, GtidSet::is_empty)
        && (!fenced || data.is_linked() && lineage.has_caught_up)
}

/// Whether the writer may take writes now: no other member does, and it has executed all that can be had.
///
/// # Errors
/// What it waits for.
pub fn may_open(findings: &Findings, data: &Data) -> Result<(), String> {
    let (observed, member, server) = (findings.observed, data.member, data.server);
    if !observed.cluster.has_single_writer() {
        return Ok(());
    }
    // What one that was only late has executed would be left out.
    if observed.looked_late && observed.members.iter().any(|member| member.server().is_none()) {
        return Err("this operator was late itself when it looked, for want of a processor".into());
    }
    let lease = voters::lease(observed);
    let lease_seen = member.report().and_then(|report| report.lease);
    if !lease_seen.is_some_and(|lease| lease.writer == member.ordinal && lease.held) {
        return Err("its agent does not know yet that it is the writer".into());
    }
    let may_write = |other: &&Member| !takes_no_writes(other) && !other.last_seen_fenced;
    for other in observed.others(member.ordinal).filter(may_write) {
        let name = other.name(observed.name());
        if other.server().is_some() {
            return Err(format!("{name} still takes writes and is fenced first"));
        }
        // Also the one who is to open may have confirmed the other one.
        if other.since_contact < lease || member.since_confirmed < lease {
            return Err(held_by(observed, &name, &[]));
        }
        if let Some(voters) = voters::who_may_have_confirmed(observed, other) {
            return Err(held_by(observed, &name, &voters));
        }
    }
    // An applier that stands at a conflict would be waited for in vain.
    for channel in server.channels.iter().filter(|channel| channel.is_applying()) {
        if !server.executed.contains(&channel.retrieved) {
            return Err("it has yet to apply what it has received".into());
        }
    }
    match upstreams(findings, member.ordinal).find(|upstream| !server.executed.contains(&upstream.executed)) {
        Some(_) => Err("it has yet to get what others have executed".into()),
        None => Ok(()),
    }
}

/// What the writer waits for while a member that does not answer may have a lease. `voters`: those that may go on renewing it. The way out names those
/// of them that do not answer.
fn held_by(observed: &Observed, name: &str, voters: &[u8]) -> String {
    let is_silent = |ordinal: &&u8| observed.member(**ordinal).is_none_or(|voter| voter.report().is_none());
    let silent = voters.iter().filter(is_silent);
    let silent: Vec<String> = silent.map(|ordinal| names::member(observed.name(), *ordinal)).collect();
    if silent.is_empty() {
        return format!("{name} does not answer, and may take writes until its lease has ended");
    }
    format!(
        "{name} does not answer, and may take writes as long as {} may confirm it. If the node of such a voter is gone for good, and only then, delete \
         the voter's pod (not that of {name}): kubectl delete pod --force -n {} {}",
        silent.join(", "),
        observed.namespace(),
        silent.join(" "),
    )
}

/// Known to take no writes from clients: fenced, or its mysqld is down and will start fenced.
pub fn takes_no_writes(member: &Member) -> bool {
    let down = member.report().is_some_and(|report| match &report.phase {
        Phase::Initialising | Phase::Starting | Phase::Restarting { .. } => true,
        // CLONE needs super_read_only off; read_only keeps clients out: they have no right to get around it.
        Phase::Cloning { .. } => true,
        Phase::Stopping { fenced } => *fenced,
        Phase::Running | Phase::Unknown => false,
    });
    down || member.server().is_some_and(|server| server.super_read_only)
}

/// [`Member::last_seen_fenced`] after another look: no answer changes nothing, because a mysqld starts fenced and only the operator opens it.
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
fn upstreams<'a>(findings: &Findings<'a>, ordinal: u8) -> impl Iterator<Item = &'a Server> {
    let before = move |downstream: u8| {
        let upstream = findings.roles.ring.upstream(downstream)?;
        let finding = findings.member(downstream)?;
        let arrives = finding.link_replicates || finding.link_is_interrupted;
        (upstream != ordinal && arrives).then_some(upstream)
    };
    std::iter::successors(before(ordinal), move |upstream| before(*upstream))
        .filter_map(|upstream| findings.observed.member(upstream)?.server())
}
