//! What is to be done next about a conflict: from the stopped applier to equal rows.

use std::cell::LazyCell;

use super::orders::{is_heard, ordered, says_settled};
use super::record::{Record, Stage, UnreadRecord, holds, is_ours, writer_of};
use super::sides::{Sides, origin, writer};
use super::unread;
use crate::decide::observed::{Channel, Member, Observed, Server};
use crate::decide::ring::links::leads_astray;
use crate::decide::roles::Roles;
use crate::decide::step::{Action, Remedy, Step};
use crate::mysql::gtid::GtidSet;
use crate::names::{self, GTID_TAG};

/// What is to be done next about conflicts, until all sides are executed.
pub fn next<'a>(roles: &Roles<'a>, sides: &Sides) -> Option<Step> {
    let observed = roles.observed;
    let channels = |(member, server): (&'a Member, &'a Server)| {
        let channels = server.channels.iter();
        channels.map(move |channel| (member, server, channel))
    };
    settled_by_word(observed, sides)
        .or_else(|| {
            let mut channels = able(observed).flat_map(channels);
            channels.find_map(|channel| about_stopped(observed, sides, channel))
        })
        .or_else(|| able(observed).find_map(|(member, server)| resumed(sides, member, server)))
}

/// Members whose data can be read and changed.
fn able(observed: &Observed) -> impl Iterator<Item = (&Member, &Server)> {
    let members = observed.members.iter();
    members.filter_map(|member| Some((member, member.with_data()?.0)))
}

/// A conflict that is settled because a person says so: each record by itself, at its observer. If that server is no more, at any member that has it.
fn settled_by_word(observed: &Observed, sides: &Sides) -> Option<Step> {
    let orders = ordered(observed).ok()?;
    if orders.is_empty() {
        return None;
    }
    let mut heard = sides
        .open()
        .filter(|record| is_heard(record) && says_settled(&orders, record));
    heard.find_map(|record| {
        let lives = |member: &Member| {
            let recorded = observed.recorded(member.ordinal).and_then(|it| it.server_uuid.as_ref());
            recorded == Some(&record.observer)
        };
        let is_gone = !observed.members.iter().any(lives);
        let has_it = |server: &Server| {
            let mut records = server.conflicts.iter();
            let is_its = server.uuid == record.observer || is_gone;
            is_its && records.any(|other| other.name() == record.name() && is_heard(other))
        };
        let (member, server) = able(observed).find(|(_, server)| has_it(server))?;
        let (observer, gtid) = (record.observer.clone(), record.gtid.clone());
        Some(Step::member(
            member.ordinal,
            &server.uuid,
            Action::NoteSettled { observer, gtid },
        ))
    })
}

/// Rows to compare: all sides are executed.
pub fn settled(roles: &Roles, sides: &Sides) -> Option<Step> {
    compared(roles, sides, |record| record.for_a_person.is_none())
}

/// Rows that a person has to make equal: looked at once a pass, and nothing waits for it.
pub fn awaited(roles: &Roles, sides: &Sides) -> Option<Step> {
    compared(roles, sides, |record| {
        record.for_a_person.is_some() && sides.winner(record).is_some()
    })
}

/// Seconds after an applier stopped in which its transaction is examined in every pass, and how often it is examined after that.
const OFTEN: i64 = 60;
const EVERY: i64 = 30;

/// A transaction without known rows that waits for a person: the reason may be past. Nothing waits for it.
pub fn examined_again(observed: &Observed) -> Option<Step> {
    let period = i64::from(observed.cluster.spec.failure_detection.period_seconds);
    // A pass more than it takes, so that each of several has its turn.
    let is_due = |since: &i64| *since < OFTEN || since % EVERY <= 3 * period;
    let mut due = Vec::new();
    for (member, server) in able(observed) {
        for channel in &server.channels {
            let (Some(upstream), Some(gtid)) = (names::upstream_of(&channel.name), &channel.blocked) else {
                continue;
            };
            let waits = server.own_record(gtid).is_some_and(|record| {
                let waits = record.stage == Stage::Waiting && record.for_a_person.is_some();
                waits && record.rows.is_empty() && !is_ours(gtid)
            });
            let source = observed.member(upstream).and_then(Member::with_data);
            if channel.conflict().is_some() && waits && source.is_some() {
                let gtid = gtid.clone();
                let step = Step::member(member.ordinal, &server.uuid, Action::Examine { upstream, gtid });
                due.extend(channel.seconds_since_error.filter(is_due).map(|since| (since, step)));
            }
        }
    }
    // One a pass, each in its turn.
    let turn = due
        .first()
        .map_or(0, |(since, _)| since / EVERY + since / period.max(1));
    let turn = usize::try_from(turn).unwrap_or_default() % due.len().max(1);
    due.into_iter().nth(turn).map(|(_, step)| step)
}

/// A channel whose applier stands at a transaction.
fn about_stopped(
    observed: &Observed,
    sides: &Sides,
    (member, server, channel): (&Member, &Server, &Channel),
) -> Option<Step> {
    channel.conflict()?;
    let (upstream, gtid) = (names::upstream_of(&channel.name)?, channel.blocked.as_ref()?);
    let (ordinal, server_uuid) = (member.ordinal, server.uuid.clone());
    if holds(&server.executed, gtid) {
        // What clients write once the applier goes on, they write in knowledge of it. So the record is first.
        let unnoted = own_unnoted(server).find(|record| record.gtid == *gtid);
        let start = || {
            let action = match leads_astray(observed, channel) {
                true => Action::StartApplier { upstream },
                false => Action::Start { upstream },
            };
            Step::member(ordinal, server_uuid, action)
        };
        return Some(unnoted.map_or_else(start, |record| note_taken(sides, member, record)));
    }
    let settle = |remedy, winner| {
        Step::member(
            ordinal,
            &server_uuid,
            Action::Settle {
                upstream,
                gtid: gtid.clone(),
                remedy,
                winner,
            },
        )
    };
    // It could be done, and not noted; or it was noted in words that only a newer version knows.
    let is_unread = |record: &UnreadRecord| record.observer == server.uuid && record.gtid == *gtid;
    if server.unread.table.is_some() || server.unread.records.iter().any(is_unread) {
        return None;
    }
    // The transaction is read from its upstream. A step that cannot succeed would keep the others waiting.
    observed.member(upstream)?.with_data()?;
    let record = server.own_record(gtid);
    if is_ours(gtid) {
        // It has a record if it could not be taken, or if a client of this member has deleted its row.
        let waits = |record: &Record| record.for_a_person.is_some();
        let winner = |record: &Record| record.winner.or_else(|| sides.winner(record));
        let winner = record.and_then(winner).or_else(|| writer(observed, writer_of(gtid)));
        return (!record.is_some_and(waits)).then(|| settle(Remedy::Take, winner));
    }
    let Some(record) = record else {
        let gtid = gtid.clone();
        return Some(Step::member(ordinal, server_uuid, Action::Examine { upstream, gtid }));
    };
    if record.stage == Stage::Identical {
        return Some(settle(Remedy::Skip, None));
    }
    // One of those that were not read may be its other side, and decide which one wins.
    if unread::more(observed) > 0 {
        return None;
    }
    let winner = sides.winner(record)?;
    // Only the winner writes its row again: of another member it could arrive after what clients of the winner have written since.
    let keeps = winner == ordinal && origin(observed, record) != Some(winner);
    let remedy = if keeps { Remedy::Keep } else { Remedy::Take };
    Some(settle(remedy, Some(winner)))
}

/// A member that has executed what it stopped at, while the record does not say so: the operator ended in between, or a person mended it.
fn resumed(sides: &Sides, member: &Member, server: &Server) -> Option<Step> {
    let record = own_unnoted(server).find(|record| holds(&server.executed, &record.gtid))?;
    Some(note_taken(sides, member, record))
}

/// The member's own records that do not say that their transaction is executed.
fn own_unnoted(server: &Server) -> impl Iterator<Item = &Record> {
    let own = server.conflicts.iter().filter(|record| record.observer == server.uuid);
    own.filter(|record| !record.is_executed())
}

fn note_taken(sides: &Sides, member: &Member, record: &Record) -> Step {
    let (gtid, winner) = (record.gtid.clone(), record.winner.or_else(|| sides.winner(record)));
    Step::member(member.ordinal, &record.observer, Action::NoteTaken { gtid, winner })
}

/// Rows to compare on all members of the ring: when each has executed all that the sides wrote in ignorance of each other.
fn compared(roles: &Roles, sides: &Sides, is_meant: impl Fn(&Record) -> bool) -> Option<Step> {
    let (observed, ring) = (roles.observed, roles.ring);
    let in_ring: Option<Vec<(&Member, &Server)>> = ring
        .ordinals()
        .map(|ordinal| {
            let member = observed.member(ordinal)?;
            Some((member, member.with_data()?.0))
        })
        .collect();
    let in_ring = in_ring?;
    // It waits for what is in flight, and behind an applier that stands something always is.
    let stands = |server: &Server| server.channels.iter().any(|channel| channel.conflict().is_some());
    if in_ring.iter().any(|(_, server)| stands(server)) {
        return None;
    }
    // The same for all records: large sets are added up once.
    let existing = LazyCell::new(|| {
        let held: Vec<GtidSet> = in_ring.iter().map(|(_, server)| server.held()).collect();
        GtidSet::union_all(&held)
    });
    // What re-asserted rows before.
    let reasserted = LazyCell::new(|| {
        let ours: Vec<GtidSet> = in_ring
            .iter()
            .map(|(_, server)| server.executed.tagged(GTID_TAG))
            .collect();
        GtidSet::union_all(&ours)
    });
    sides
        .open()
        .filter(|record| record.stage == Stage::Taken)
        .filter(|record| is_meant(record))
        .find_map(|record| {
            let group: Vec<&Record> = sides
                .group(record)
                .into_iter()
                .filter(|other| other.is_open())
                .collect();
            // A side that is not in the ring yet brings more.
            let sides_are_in = group.iter().all(|side| {
                let mut writers = [writer(observed, &side.observer), origin(observed, side)].into_iter();
                side.stage == Stage::Taken && writers.all(|side| side.is_none_or(|side| ring.contains(side)))
            });
            let awaited = || {
                let known = group.iter().map(|side| &side.known);
                let awaited = GtidSet::union_all(known.chain([&*reasserted]));
                // With every member in the ring, what none of them has is lost with a disk.
                match in_ring.len() == observed.members.len() {
                    true => awaited.intersection(&existing),
                    false => awaited,
                }
            };
            let awaited = sides_are_in.then(awaited)?;
            let ready = in_ring.iter().all(|(_, server)| server.executed.contains(&awaited));
            let winner = sides.winner(record);
            let (at, server) = keeper(observed, sides, &group, winner, &in_ring).or(in_ring.first())?;
            ready.then(|| {
                Step::member(
                    at.ordinal,
                    &server.uuid,
                    Action::CompareRows {
                        conflicts: group
                            .iter()
                            .map(|side| (side.observer.clone(), side.gtid.clone()))
                            .collect(),
                        reassert: winner.is_some(),
                    },
                )
            })
        })
}

/// The member that has copied the winner's rows aside, or at least the winner.
fn keeper<'a, 'b>(
    observed: &Observed,
    sides: &Sides,
    group: &[&Record],
    winner: Option<u8>,
    ring: &'b [(&'a Member, &'a Server)],
) -> Option<&'b (&'a Member, &'a Server)> {
    let of = |wanted: &dyn Fn(&Record) -> bool| {
        let mut sides = group.iter().filter(|side| side.kept.is_some() && wanted(side));
        sides.find_map(|side| ring.iter().find(|(_, server)| server.uuid == side.observer))
    };
    of(&|side| writer(observed, &side.observer) == winner)
        .or_else(|| of(&|side| origin(observed, side) != winner && sides.had_winning_rows(observed, side)))
        .or_else(|| ring.iter().find(|(member, _)| Some(member.ordinal) == winner))
}
