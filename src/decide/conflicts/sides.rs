//! Which records are one conflict, who wrote its sides, and who wins.

use std::collections::BTreeMap;

use kube::ResourceExt;

use super::record::{Record, Stage};
use crate::api::ConflictPolicy;
use crate::decide::observed::{Member, Observed};
use crate::names::{self, ANNOTATION_SETTLE};

/// Ordinal of the member that wrote under this server UUID.
pub fn writer(observed: &Observed, uuid: &str) -> Option<u8> {
    let status = observed.cluster.status.as_ref()?;
    let mut members = status.member_statuses.iter();
    let place = members.position(|member| {
        member.server_uuid.as_deref() == Some(uuid) || member.former_server_uuids.iter().any(|former| former == uuid)
    })?;
    u8::try_from(place).ok()
}

pub(super) fn origin(observed: &Observed, record: &Record) -> Option<u8> {
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
