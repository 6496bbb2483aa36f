//! A member that needs what its upstream has purged: it catches up from another first, or is drained and then made a copy anew.

use crate::mysql::gtid::GtidSet;
use crate::names::{self, ANNOTATION_FENCE};

use super::links::{LinkNeed, leads_astray, may_be_retried, start_at};
use super::rebuild::donor;
use crate::decide::findings::{Data, Findings};
use crate::decide::step::{Action, Step};

/// The step that brings the member nearer to the ring, or what is waited for. `missing` is what its upstream has purged.
///
/// # Errors
/// What is waited for, for people.
pub fn way_out(findings: &Findings, data: &Data, missing: &GtidSet) -> Result<Step, String> {
    let (ordinal, server) = (data.ordinal(), data.server);
    let name = |ordinal| names::member(findings.observed.name(), ordinal);
    if let Some(helper) = helper(findings, data, missing) {
        return replicate(findings, data, helper)
            .ok_or_else(|| format!("it catches up from {} first", name(helper.ordinal())));
    }
    if !server.super_read_only {
        return Err(format!(
            "it takes writes, so it is not rebuilt by itself; annotate this resource with {ANNOTATION_FENCE}={} to let it be rebuilt",
            name(ordinal)
        ));
    }
    if let Some(away) = findings
        .roles
        .others_in_ring(ordinal)
        .find(|other| other.with_data().is_none())
    {
        return Err(format!(
            "it waits for {}, which may have what it needs or take what only it has",
            name(away.ordinal)
        ));
    }
    if !is_drained(findings, data)
        && let Some((drainer, drain)) = drainer(findings, data)
    {
        return drain.ok_or_else(|| format!("{} drains it first", name(drainer.ordinal())));
    }
    let copy = donor(findings, ordinal)?;
    let source = findings.member(copy).and_then(|source| source.data.as_ref());
    if !source.is_some_and(|source| source.server.executed.contains(missing)) {
        return Err(format!("{}, which it would be a copy of, lacks it too", name(copy)));
    }
    let held = findings
        .others_with_data_in_ring(ordinal)
        .map(|source| &source.server.executed);
    let held_elsewhere = GtidSet::union_all(held);
    Ok(Step::member(ordinal, &server.uuid, Action::Reclone { held_elsewhere }))
}

/// What only this member has flows to another before the member is rebuilt: that channel is not left over.
pub fn is_being_drained(findings: &Findings, ordinal: u8) -> bool {
    let data = findings.member(ordinal).and_then(|finding| finding.data.as_ref());
    let Some(data) = data.filter(|data| data.server.super_read_only) else {
        return false;
    };
    match &data.need {
        LinkNeed::Purged(missing) => helper(findings, data, missing).is_none() && !is_drained(findings, data),
        _ => false,
    }
}

fn is_drained(findings: &Findings, data: &Data) -> bool {
    findings
        .member(data.ordinal())
        .is_some_and(|finding| finding.is_drained)
}

/// Another member of the ring that still has what the upstream has purged.
fn helper<'f, 'a>(findings: &'f Findings<'a>, data: &Data, missing: &GtidSet) -> Option<&'f Data<'a>> {
    findings
        .others_with_data_in_ring(data.ordinal())
        .find(|source| data.server.executed.contains(&source.server.purged) && source.server.executed.contains(missing))
}

/// A member of the ring that can replicate from this one, or does so already; and what is due for that, if anything is.
fn drainer<'f, 'a>(findings: &'f Findings<'a>, data: &Data) -> Option<(&'f Data<'a>, Option<Step>)> {
    let is_able = |drainer: &&Data| match drainer.server.channel_from(data.ordinal()) {
        Some(channel) => channel.gave_up().is_none(),
        None => drainer.server.executed.contains(&data.server.purged),
    };
    let drainer = findings.others_with_data_in_ring(data.ordinal()).find(is_able)?;
    Some((drainer, replicate(findings, drainer, data)))
}

/// What is due so that one replicates from the other beside its link; `None` when it does, or stands at a conflict.
fn replicate(findings: &Findings, downstream: &Data, source: &Data) -> Option<Step> {
    let upstream = source.ordinal();
    let action = match downstream.server.channel_from(upstream) {
        // It is removed first.
        Some(channel) if leads_astray(findings.observed, channel) => return None,
        Some(channel) => {
            let may_be_retried = may_be_retried(findings.observed, downstream.ordinal(), upstream, channel);
            (channel.stopped_by_hand() || may_be_retried).then_some(Action::Start { upstream })?
        }
        None => {
            let start = start_at(&findings.roles, downstream.ordinal(), downstream.server, source.server)?;
            Action::Attach { upstream, start }
        }
    };
    Some(Step::member(downstream.ordinal(), &downstream.server.uuid, action))
}
