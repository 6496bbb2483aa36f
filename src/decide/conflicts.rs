//! Conflicts: what an applier stopped at, who wins, and when it is settled. `docs/ring.md`, "Conflicts".

use std::collections::BTreeMap;

use jiff::Timestamp;
use kube::ResourceExt;
use serde::{Deserialize, Serialize};

use crate::api::ConflictPolicy;
use crate::mysql::binlog::Place;
use crate::mysql::gtid::GtidSet;
use crate::mysql::rows::RowKey;
use crate::names::{self, ANNOTATION_SETTLE, GTID_TAG};

use super::observed::{Channel, Member, Observed, Server, SqlError};
use super::step::{Remedy, Step};
use super::unread;

/// Conflicts that a condition tells one by one: its message has an end, and an API server that refuses it refuses all of status.
const MOST_TOLD: usize = 10;

/// One transaction that one member could not apply, as `multimaster.conflicts` has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Server UUID of the member whose applier stopped.
    pub observer: String,
    /// GTID of the transaction.
    pub gtid: String,
    /// When the operator saw it.
    pub seen: Timestamp,
    /// How far it has come.
    pub stage: Stage,
    /// The rows that are in the way of each other.
    pub rows: Vec<ConflictingRow>,
    /// Why only a person can settle it.
    pub for_a_person: Option<String>,
    /// Ordinal of the member whose rows win.
    pub winner: Option<u8>,
    /// `gtid_executed` of the observer when it was seen, and again when it was taken: what was written in ignorance of the other side.
    pub known: GtidSet,
    /// Where in the observer's binary logs its own rows were copied aside.
    pub kept: Option<Place>,
}

/// How far a conflict has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// Nothing was done about it.
    Waiting,
    /// The creation of what is there already, with the same definition.
    Identical,
    /// It is about to be taken.
    Settling,
    /// It is executed; rows are to be compared.
    Taken,
    /// The rows are equal on all members.
    Settled,
}

/// A row that two transactions wrote in ways that exclude each other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConflictingRow {
    /// [`RowKey::id`].
    pub id: String,
    /// Which row.
    pub key: RowKey,
    /// The row at the observer, as JSON for people; `None`: there was none.
    pub mine: Option<serde_json::Value>,
    /// The row that the transaction leaves behind; `None`: it deletes it.
    pub theirs: Option<serde_json::Value>,
}

impl Record {
    fn is_open(&self) -> bool {
        self.stage != Stage::Settled
    }

    fn shares_a_row(&self, other: &Self) -> bool {
        self.rows
            .iter()
            .any(|row| other.rows.iter().any(|theirs| theirs.id == row.id))
    }

    /// Each was written before its member knew of the other.
    fn is_one_with(&self, other: &Self) -> bool {
        self.shares_a_row(other)
            && (self.is_open() && other.is_open() || holds(&self.known, &other.gtid) || holds(&other.known, &self.gtid))
    }
}

fn holds(set: &GtidSet, gtid: &str) -> bool {
    gtid.parse().is_ok_and(|gtid| set.contains(&gtid))
}

/// Written by the operator itself, to re-assert a row.
pub fn is_ours(gtid: &str) -> bool {
    gtid.split(':').nth(1) == Some(GTID_TAG)
}

/// Ordinal of the member that wrote under this server UUID.
pub fn writer(observed: &Observed, uuid: &str) -> Option<u8> {
    let status = observed.cluster.status.as_ref()?;
    let mut members = status.member_statuses.iter();
    let place = members.position(|member| {
        member.server_uuid.as_deref() == Some(uuid) || member.former_server_uuids.iter().any(|former| former == uuid)
    })?;
    u8::try_from(place).ok()
}

fn origin(observed: &Observed, record: &Record) -> Option<u8> {
    writer(observed, record.gtid.split(':').next()?)
}

/// Every record once: as its observer has it, if that one can be asked.
fn records(observed: &Observed) -> Vec<&Record> {
    let mut all: BTreeMap<(&str, &str), &Record> = BTreeMap::new();
    for server in observed.members.iter().filter_map(Member::server) {
        for record in &server.conflicts {
            let own = record.observer == server.uuid;
            let entry = all.entry((&record.observer, &record.gtid)).or_insert(record);
            if own {
                *entry = record;
            }
        }
    }
    all.into_values().collect()
}

/// Those that are not settled.
pub fn open(observed: &Observed) -> Vec<&Record> {
    records(observed)
        .into_iter()
        .filter(|record| record.is_open())
        .collect()
}

/// Everything that is one conflict with this record, itself included.
pub fn group<'a>(observed: &'a Observed, record: &'a Record) -> Vec<&'a Record> {
    records(observed)
        .into_iter()
        .filter(|other| record.is_one_with(other))
        .collect()
}

/// Server UUIDs under which the losing sides wrote.
pub fn losers(observed: &Observed, records: &[Record]) -> Vec<String> {
    let sides = records.iter().filter_map(|record| {
        let loses = if origin(observed, record) == record.winner {
            record.observer.as_str()
        } else {
            record.gtid.split(':').next()?
        };
        (writer(observed, loses) != record.winner).then(|| loses.to_owned())
    });
    sides.collect()
}

/// Who wins, as the annotation says: members by the ids of conflicts.
///
/// # Errors
/// What is wrong with the annotation, and the way out.
pub fn ordered(observed: &Observed) -> Result<BTreeMap<String, u8>, String> {
    let Some(text) = observed.cluster.annotations().get(ANNOTATION_SETTLE) else {
        return Ok(BTreeMap::new());
    };
    let orders = text.split(',').map(str::trim).filter(|order| !order.is_empty());
    orders
        .map(|order| {
            let named = order.split_once('=').and_then(|(id, name)| {
                let ordinal = names::ordinal_of(observed.name(), name.trim())?;
                observed.member(ordinal).map(|_| (id.trim().to_owned(), ordinal))
            });
            named.ok_or_else(|| {
                format!(
                    "annotation {ANNOTATION_SETTLE}: {order:?} is not the id of a conflict, '=' and the name of a member \
                     (1f3a9c04={}), so nothing is settled by it",
                    names::member(observed.name(), 0)
                )
            })
        })
        .collect()
}

/// Ordinal of the member whose rows win; `None`: that is not decided.
pub fn winner(observed: &Observed, record: &Record) -> Option<u8> {
    // What was mended by hand and did not end equal can still be settled by naming a winner.
    if record.for_a_person.is_some() && record.stage != Stage::Taken {
        return None;
    }
    let orders = ordered(observed).ok()?;
    let named = record.rows.iter().find_map(|row| orders.get(&row.id).copied());
    let age = |record: &Record| (record.seen, record.gtid.clone(), record.observer.clone());
    let older = group(observed, record)
        .into_iter()
        .filter(|other| age(other) < age(record));
    // The row at the observer is its own, unless an earlier side of this conflict has put it there. The last of those follows the others.
    let before = older.max_by_key(|other| age(other));
    let mut sides: Vec<u8> = before.and_then(|other| winner(observed, other)).into_iter().collect();
    let conflicts = &observed.cluster.spec.conflicts;
    match conflicts.policy {
        _ if named.is_some() => named,
        ConflictPolicy::Halt => record.winner.or(sides.first().copied()),
        ConflictPolicy::Prefer => {
            if sides.is_empty() {
                sides.extend(writer(observed, &record.observer));
            }
            sides.extend(origin(observed, record));
            let rank = |ordinal: &u8| {
                let place = conflicts.prefer.iter().position(|preferred| preferred == ordinal);
                (place.unwrap_or(usize::MAX), *ordinal)
            };
            sides.into_iter().min_by_key(rank)
        }
    }
}

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
        .or_else(|| compared(observed))
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
    let is_unread = |record: &unread::UnreadRecord| record.observer == server.uuid && record.gtid == *gtid;
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
fn compared(observed: &Observed) -> Option<Step> {
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
        .filter(|record| record.for_a_person.is_none() || winner(observed, record).is_some())
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

/// What a person is told of the conflicts, if there are any: of so many that the API server takes it, those that wait for a person first.
pub fn told(observed: &Observed) -> Option<String> {
    let mut open = open(observed);
    open.sort_by_cached_key(|record| record.for_a_person.is_none() && winner(observed, record).is_some());
    let unrecorded = unrecorded(observed).map(|(member, error)| {
        format!(
            "{} stands at a transaction that it cannot apply, error {}: {}",
            member.name(observed.name()),
            error.number,
            error.text
        )
    });
    let unread = unread::open(observed)
        .into_iter()
        .map(|record| unread::told_of(observed, record));
    let recorded = open.iter().map(|record| told_of(observed, record));
    let mut told: Vec<String> = unread.chain(recorded).chain(unrecorded).take(MOST_TOLD).collect();
    match count(observed).saturating_sub(told.len()) {
        0 => {}
        more => told.push(format!("and {more} more, see the table multimaster.conflicts")),
    }
    if unread::more(observed) > 0 {
        told.push("so many are open that no new one is settled before others are".into());
    }
    (!told.is_empty()).then(|| told.join("; "))
}

fn told_of(observed: &Observed, record: &Record) -> String {
    let name =
        |ordinal: Option<u8>| ordinal.map_or("a member".into(), |ordinal| names::member(observed.name(), ordinal));
    let observer = name(writer(observed, &record.observer));
    let rows: Vec<String> = record
        .rows
        .iter()
        .take(3)
        .map(|row| format!("{} id {}", row.key, row.id))
        .collect();
    let more = match record.rows.len() {
        0..=3 => String::new(),
        rows => format!(" and {} more rows", rows - 3),
    };
    let asks = |row: &ConflictingRow, member: &str| {
        format!(
            "who wins? kubectl annotate mmc {} --overwrite {ANNOTATION_SETTLE}={}={member}",
            observed.name(),
            row.id
        )
    };
    let what = format!(
        "{observer} and {} both wrote {}{more}",
        name(origin(observed, record)),
        rows.join(", ")
    );
    match (&record.for_a_person, winner(observed, record), record.rows.first()) {
        // All sides are executed: what is left is whose row is to be everywhere.
        (Some(why), _, Some(row)) if record.stage == Stage::Taken => {
            format!(
                "{what}, and it is for a person to mend: {why}; {}",
                asks(row, &observer)
            )
        }
        (Some(why), _, Some(_)) => format!("{what} ({}), and it is for a person to mend: {why}", record.gtid),
        (Some(why), _, None) => format!(
            "{observer} cannot apply {}, and it is for a person to mend: {why}",
            record.gtid
        ),
        (None, Some(winner), _) => format!("{what}; {} wins", name(Some(winner))),
        (None, None, Some(row)) => format!("{what}; {}", asks(row, &observer)),
        (None, None, None) => format!("{observer} could not apply {}", record.gtid),
    }
}

/// Appliers that stand at a transaction of which their own member has no record yet.
fn unrecorded(observed: &Observed) -> impl Iterator<Item = (&Member, &SqlError)> {
    let servers = observed
        .members
        .iter()
        .filter_map(|member| Some((member, member.server()?)));
    servers.flat_map(|(member, server)| {
        let recorded = |channel: &Channel| {
            let is_own =
                |observer: &str, gtid: &String| observer == server.uuid && Some(gtid) == channel.blocked.as_ref();
            let mut read = server.conflicts.iter().filter(|record| record.is_open());
            let mut unread = server.unread.records.iter();
            read.any(|record| is_own(&record.observer, &record.gtid))
                || unread.any(|record| is_own(&record.observer, &record.gtid))
        };
        let stopped = server.channels.iter().filter(move |channel| !recorded(channel));
        stopped.filter_map(move |channel| Some((member, channel.conflict()?)))
    })
}

/// How many there are: recorded, whether they can be read or not, or not recorded yet.
pub fn count(observed: &Observed) -> usize {
    let more = usize::try_from(unread::more(observed)).unwrap_or(usize::MAX);
    let seen = unrecorded(observed).count() + open(observed).len() + unread::open(observed).len();
    seen.saturating_add(more)
}
