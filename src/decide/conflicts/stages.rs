//! What is to be done next about a conflict: from the stopped applier to equal rows.

use super::record::{Record, Stage, UnreadRecord, holds, is_ours};
use super::sides::{group, open, origin, winner, writer};
use super::unread;
use crate::decide::observed::{Channel, Member, Observed, Server};
use crate::decide::step::{Remedy, Step};
use crate::mysql::gtid::GtidSet;
use crate::names::{self, GTID_TAG};

/// What is to be done next about conflicts.
pub fn next(observed: &Observed) -> Option<Step> {
    let able = || {
        observed
            .members
            .iter()
            .filter_map(|member| Some((member, member.with_data()?.0)))
    };
    let stopped =
        able().flat_map(|(member, server)| server.channels.iter().map(move |channel| (member, server, channel)));
    stopped
        .filter_map(|(member, server, channel)| about_stopped(observed, member, server, channel))
        .next()
        .or_else(|| able().find_map(|(member, server)| resumed(observed, member, server)))
        .or_else(|| compared(observed, |record| record.for_a_person.is_none()))
}

/// Rows to compare that a person has to make equal: looked at once a pass, and nothing waits for it.
pub fn awaited(observed: &Observed) -> Option<Step> {
    compared(observed, |record| {
        record.for_a_person.is_some() && winner(observed, record).is_some()
    })
}

/// A channel whose applier stands at a transaction.
fn about_stopped(observed: &Observed, member: &Member, server: &Server, channel: &Channel) -> Option<Step> {
    channel.conflict()?;
    let (upstream, gtid) = (names::upstream_of(&channel.name)?, channel.blocked.as_ref()?);
    let (ordinal, server_uuid) = (member.ordinal, server.uuid.clone());
    if holds(&server.executed, gtid) {
        return Some(Step::Start {
            ordinal,
            server_uuid,
            upstream,
        });
    }
    let settle = |remedy, winner| Step::Settle {
        ordinal,
        server_uuid: server_uuid.clone(),
        upstream,
        gtid: gtid.clone(),
        remedy,
        winner,
    };
    // It could be done, and not noted; or it was noted in words that only a newer version knows.
    let is_unread = |record: &UnreadRecord| record.observer == server.uuid && record.gtid == *gtid;
    if server.unread.table.is_some() || server.unread.records.iter().any(is_unread) {
        return None;
    }
    if is_ours(gtid) {
        return Some(settle(Remedy::Take, None));
    }
    let Some(record) = server
        .conflicts
        .iter()
        .find(|record| record.observer == server.uuid && record.gtid == *gtid)
    else {
        let can_be_read = observed
            .member(upstream)
            .is_some_and(|source| source.with_data().is_some());
        return can_be_read.then(|| Step::Examine {
            ordinal,
            server_uuid,
            upstream,
            gtid: gtid.clone(),
        });
    };
    if record.stage == Stage::Identical {
        return Some(settle(Remedy::Skip, None));
    }
    // One of those that were not read may be its other side, and decide who wins.
    if unread::more(observed) > 0 {
        return None;
    }
    let winner = winner(observed, record)?;
    let remedy = if Some(winner) == origin(observed, record) {
        Remedy::Take
    } else {
        Remedy::Keep
    };
    Some(settle(remedy, Some(winner)))
}

/// A member that has executed what it stopped at, while the record does not say so: the operator ended in between, or a person mended it.
fn resumed(observed: &Observed, member: &Member, server: &Server) -> Option<Step> {
    let own = server.conflicts.iter().filter(|record| record.observer == server.uuid);
    let mut executed = own.filter(|record| holds(&server.executed, &record.gtid));
    let record = executed.find(|record| matches!(record.stage, Stage::Waiting | Stage::Identical | Stage::Settling))?;
    Some(Step::NoteTaken {
        ordinal: member.ordinal,
        server_uuid: server.uuid.clone(),
        gtid: record.gtid.clone(),
        winner: record.winner.or_else(|| winner(observed, record)),
    })
}

/// Rows to compare on all members of the ring: when each has executed all that the sides wrote in ignorance of each other.
fn compared(observed: &Observed, is_meant: impl Fn(&Record) -> bool) -> Option<Step> {
    let ring = observed.ring();
    let in_ring: Option<Vec<(&Member, &Server)>> = ring
        .ordinals()
        .map(|ordinal| {
            let member = observed.member(ordinal)?;
            Some((member, member.with_data()?.0))
        })
        .collect();
    let in_ring = in_ring?;
    open(observed)
        .into_iter()
        .filter(|record| record.stage == Stage::Taken)
        .filter(|record| is_meant(record))
        .find_map(|record| {
            let group: Vec<&Record> = group(observed, record)
                .into_iter()
                .filter(|other| other.is_open())
                .collect();
            // A side that is not in the ring yet brings more.
            let sides_are_in = group.iter().all(|side| {
                let observer = writer(observed, &side.observer);
                side.stage == Stage::Taken && observer.is_none_or(|observer| ring.contains(observer))
            });
            let mut awaited = group
                .iter()
                .fold(GtidSet::default(), |known, side| known.union(&side.known));
            for (_, server) in &in_ring {
                // What re-asserted rows before.
                awaited = awaited.union(&server.executed.tagged(GTID_TAG));
            }
            let ready = sides_are_in && in_ring.iter().all(|(_, server)| server.executed.contains(&awaited));
            let winner = winner(observed, record);
            let (at, server) = keeper(observed, &group, winner, &in_ring).or(in_ring.first())?;
            ready.then(|| Step::CompareRows {
                ordinal: at.ordinal,
                server_uuid: server.uuid.clone(),
                conflicts: group
                    .iter()
                    .map(|side| (side.observer.clone(), side.gtid.clone()))
                    .collect(),
                reassert: winner.is_some(),
            })
        })
}

/// The member that has copied the winner's rows aside, or at least the winner.
fn keeper<'a, 'b>(
    observed: &Observed,
    group: &[&Record],
    winner: Option<u8>,
    ring: &'b [(&'a Member, &'a Server)],
) -> Option<&'b (&'a Member, &'a Server)> {
    let of = |wanted: &dyn Fn(&Record) -> bool| {
        let mut sides = group.iter().filter(|side| side.kept.is_some() && wanted(side));
        sides.find_map(|side| ring.iter().find(|(_, server)| server.uuid == side.observer))
    };
    of(&|side| writer(observed, &side.observer) == winner)
        .or_else(|| of(&|side| origin(observed, side) != winner))
        .or_else(|| ring.iter().find(|(member, _)| Some(member.ordinal) == winner))
}
