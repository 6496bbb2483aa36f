//! A member that needs what its upstream has purged: it catches up from another first, or is drained and then made a copy anew.

use crate::mysql::gtid::GtidSet;
use crate::names::{self, ANNOTATION_FENCE};

use super::lineage::is_drained;
use super::links::{LinkNeed, need, start_at};
use super::rebuild::donor;
use crate::decide::observed::{Member, Observed, Server};
use crate::decide::step::Step;

/// The step that brings the member nearer to the ring, or what is waited for.
///
/// # Errors
/// What is waited for, for people.
pub fn way_out(observed: &Observed, member: &Member, server: &Server, missing: &GtidSet) -> Result<Step, String> {
    if let Some(helper) = helper(observed, member, server, missing) {
        return replicate(observed, (member.ordinal, server), helper)
            .ok_or_else(|| format!("it catches up from {} first", name(observed, helper.0)));
    }
    if !server.super_read_only {
        return Err(format!(
            "it takes writes, so it is not rebuilt by itself; annotate this resource with {ANNOTATION_FENCE}={} to let it be rebuilt",
            member.name(observed.name())
        ));
    }
    if let Some(away) = observed
        .others_in_ring(member.ordinal)
        .find(|other| other.with_data().is_none())
    {
        return Err(format!(
            "it waits for {}, which may have what it needs or take what only it has",
            away.name(observed.name())
        ));
    }
    if !is_drained(observed, member)
        && let Some((drainer, drain)) = drainer(observed, member, server)
    {
        return drain.ok_or_else(|| format!("{} drains it first", name(observed, drainer)));
    }
    let copy = donor(observed, member.ordinal)?;
    let source = observed.member(copy).and_then(Member::server);
    if !source.is_some_and(|source| source.executed.contains(missing)) {
        return Err(format!(
            "{}, which it would be a copy of, lacks it too",
            name(observed, copy)
        ));
    }
    let held = sources(observed, member).map(|(_, source)| &source.executed);
    Ok(Step::GiveUp {
        ordinal: member.ordinal,
        server_uuid: server.uuid.clone(),
        held_elsewhere: held.fold(GtidSet::default(), |all, set| all.union(set)),
    })
}

/// What only this member has flows to another before the member is rebuilt: that channel is not left over.
pub fn is_being_drained(observed: &Observed, ordinal: u8) -> bool {
    let Some(member) = observed.member(ordinal) else {
        return false;
    };
    let Some((server, _)) = member.with_data().filter(|(server, _)| server.super_read_only) else {
        return false;
    };
    match need(observed, ordinal, server) {
        LinkNeed::Purged(missing) => {
            helper(observed, member, server, &missing).is_none() && !is_drained(observed, member)
        }
        _ => false,
    }
}

type Source<'a> = (u8, &'a Server);

/// Another member of the ring that still has what the upstream has purged.
fn helper<'a>(observed: &'a Observed, member: &Member, server: &Server, missing: &GtidSet) -> Option<Source<'a>> {
    let mut able = sources(observed, member)
        .filter(|(_, source)| server.executed.contains(&source.purged) && source.executed.contains(missing));
    able.next()
}

/// A member of the ring that can replicate from this one, or does so already; and what is due for that, if anything is.
fn drainer(observed: &Observed, member: &Member, server: &Server) -> Option<(u8, Option<Step>)> {
    let mut able = sources(observed, member).filter(|(_, drainer)| match drainer.channel_from(member.ordinal) {
        Some(channel) => channel.gave_up().is_none(),
        None => drainer.executed.contains(&server.purged),
    });
    let drainer = able.next()?;
    Some((drainer.0, replicate(observed, drainer, (member.ordinal, server))))
}

/// What is due so that one replicates from the other beside its link; `None` when it does, or stands at a conflict.
fn replicate(observed: &Observed, downstream: Source, source: Source) -> Option<Step> {
    let ((ordinal, downstream), (upstream, source)) = (downstream, source);
    let server_uuid = downstream.uuid.clone();
    match downstream.channel_from(upstream) {
        Some(channel) => channel.stopped_by_hand().then_some(Step::Start {
            ordinal,
            server_uuid,
            upstream,
        }),
        None => start_at(observed, ordinal, downstream, source).map(|start| Step::Attach {
            ordinal,
            server_uuid,
            upstream,
            start,
        }),
    }
}

/// The other members of the ring that hold data.
fn sources<'a>(observed: &'a Observed, member: &Member) -> impl Iterator<Item = Source<'a>> {
    observed
        .others_in_ring(member.ordinal)
        .filter_map(|other| Some((other.ordinal, other.with_data()?.0)))
}

fn name(observed: &Observed, ordinal: u8) -> String {
    names::member(observed.name(), ordinal)
}
