//! A member that needs what its upstream has purged: it catches up from another first, or is drained and then made a copy anew.

use crate::mysql::gtid::GtidSet;
use crate::names::{self, ANNOTATION_FENCE};

use super::history::is_drained;
use super::links::{LinkNeed, need, start_at};
use super::observed::{Channel, Member, Observed, Receiver, Server};
use super::rebuild::donor;
use super::step::Step;

/// The step that brings the member nearer to the ring, or what is waited for.
///
/// # Errors
/// What is waited for, for people.
pub fn way_out(observed: &Observed, member: &Member, server: &Server, missing: &GtidSet) -> Result<Step, String> {
    if let Some(helper) = helper(observed, member, server, missing) {
        return replicate(observed, (member.ordinal, server), helper)
            .unwrap_or_else(|| Err(format!("it catches up from {} first", name(observed, helper.0))));
    }
    if !server.super_read_only {
        return Err(format!(
            "it takes writes, so it is not rebuilt by itself; annotate this resource with {ANNOTATION_FENCE}={} to let it be rebuilt",
            member.name(observed.name())
        ));
    }
    if let Some(away) = others(observed, member).find(|other| other.with_data().is_none()) {
        return Err(format!(
            "it waits for {}, which may have what it needs or take what only it has",
            away.name(observed.name())
        ));
    }
    if !is_drained(observed, member)
        && let Some((drainer, drain)) = drainer(observed, member, server)
    {
        let busy = || Err(format!("{} drains it first", name(observed, drainer.0)));
        return drain.unwrap_or_else(busy);
    }
    let copy = donor(observed, member.ordinal)?;
    let source = observed.member(copy).and_then(Member::server);
    if !source.is_some_and(|source| source.executed.contains(missing)) {
        return Err(format!(
            "{}, which it would be a copy of, lacks it too",
            name(observed, copy)
        ));
    }
    let held = others(observed, member).filter_map(|other| Some(&other.with_data()?.0.executed));
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
    let sources = others(observed, member).filter_map(|other| Some((other.ordinal, other.with_data()?.0)));
    let mut able =
        sources.filter(|(_, source)| server.executed.contains(&source.purged) && source.executed.contains(missing));
    able.next()
}

/// A member of the ring that can replicate from this one, or does so already; and what is due for that, if anything is.
fn drainer<'a>(
    observed: &'a Observed,
    member: &Member,
    server: &Server,
) -> Option<(Source<'a>, Option<Result<Step, String>>)> {
    let drainers = others(observed, member).filter_map(|other| Some((other.ordinal, other.with_data()?.0)));
    let gave_up = |channel: &Channel| channel.receiver == Receiver::Off && channel.receiver_error.is_some();
    let mut able = drainers.filter(|(_, drainer)| match channel(drainer, member.ordinal) {
        Some(channel) => !gave_up(channel),
        None => drainer.executed.contains(&server.purged),
    });
    let drainer = able.next()?;
    Some((drainer, replicate(observed, drainer, (member.ordinal, server))))
}

/// What is due so that one replicates from the other beside its link; `None` when it does, or stands at a conflict.
fn replicate(observed: &Observed, downstream: Source, source: Source) -> Option<Result<Step, String>> {
    let ((ordinal, downstream), (upstream, source)) = (downstream, source);
    let server_uuid = downstream.uuid.clone();
    match channel(downstream, upstream) {
        Some(channel) if channel.stopped_by_hand() => Some(Ok(Step::Start {
            ordinal,
            server_uuid,
            upstream,
        })),
        Some(_) => None,
        None => start_at(observed, ordinal, downstream, source).map(|start| {
            Ok(Step::Attach {
                ordinal,
                server_uuid,
                upstream,
                start,
            })
        }),
    }
}

fn channel(server: &Server, upstream: u8) -> Option<&Channel> {
    let name = names::channel(upstream);
    server.channels.iter().find(|channel| channel.name == name)
}

/// The other members of the ring.
fn others<'a>(observed: &'a Observed, member: &Member) -> impl Iterator<Item = &'a Member> + use<'a> {
    let ring = observed.ring();
    observed
        .others(member.ordinal)
        .filter(move |other| ring.contains(other.ordinal))
}

fn name(observed: &Observed, ordinal: u8) -> String {
    names::member(observed.name(), ordinal)
}
