//! Which records are one conflict, which members wrote its sides, and which one wins.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use kube::ResourceExt;

use super::record::{ConflictingRow, Record, Stage};
use crate::api::ConflictPolicy;
use crate::decide::observed::{Member, Observed};
use crate::mysql::rows::RowKey;
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

/// Every record once: as its observer has it, if that one can be asked. By observer and GTID.
fn records(observed: &Observed) -> BTreeMap<(&str, &str), &Record> {
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
    all
}

/// The records of all members, each once: which of them are one conflict, and who wins. All of it takes time linear in the rows, because records of
/// thousands of rows are looked at in every pass.
#[derive(Clone, Debug)]
pub struct Sides<'a> {
    /// By observer and GTID.
    places: BTreeMap<(&'a str, &'a str), usize>,
    records: Vec<&'a Record>,
    /// By place: the places of all records of the same conflict, its own included.
    groups: Vec<Vec<usize>>,
    /// By place: see [`Sides::winner`].
    winners: Vec<Option<u8>>,
}

impl<'a> Sides<'a> {
    /// Of one observation.
    pub fn of(observed: &'a Observed) -> Self {
        let (names, records): (Vec<_>, Vec<&Record>) = records(observed).into_iter().unzip();
        let groups = groups(&records);
        let winners = winners(observed, &records, &groups);
        Self {
            places: names.into_iter().zip(0..).collect(),
            records,
            groups,
            winners,
        }
    }

    fn place(&self, record: &Record) -> Option<usize> {
        let name = (record.observer.as_str(), record.gtid.as_str());
        self.places.get(&name).copied()
    }

    /// Those that are not settled.
    pub fn open(&self) -> impl Iterator<Item = &'a Record> {
        self.records.iter().copied().filter(|record| record.is_open())
    }

    /// Everything that is one conflict with this record, itself included.
    pub fn group(&self, record: &Record) -> Vec<&'a Record> {
        let places = self.place(record).map_or(&[][..], |place| &self.groups[place]);
        places.iter().map(|place| self.records[*place]).collect()
    }

    /// Ordinal of the member whose rows win; `None`: that is not decided.
    pub fn winner(&self, record: &Record) -> Option<u8> {
        self.winners[self.place(record)?]
    }
}

/// By place, the places of the records that are one conflict.
fn groups(records: &[&Record]) -> Vec<Vec<usize>> {
    let mut by_id: HashMap<&str, Vec<usize>> = HashMap::new();
    // The same key has another id in records of an earlier operator, if the collation takes another text for it.
    let mut by_key: HashMap<&RowKey, Vec<usize>> = HashMap::new();
    for (place, record) in records.iter().enumerate() {
        for row in &record.rows {
            for having in [by_id.entry(&row.id).or_default(), by_key.entry(&row.key).or_default()] {
                if having.last() != Some(&place) {
                    having.push(place);
                }
            }
        }
    }
    // Large transactions share many rows: the same records each time.
    let shared: HashSet<Vec<usize>> = by_id.into_values().chain(by_key.into_values()).collect();
    let mut sharing = vec![BTreeSet::new(); records.len()];
    for places in &shared {
        for place in places {
            sharing[*place].extend(places);
        }
    }
    let one = |(place, others): (usize, BTreeSet<usize>)| {
        let is_one = |other: &usize| records[place].meets(records[*other]);
        others.into_iter().filter(is_one).collect()
    };
    sharing.into_iter().enumerate().map(one).collect()
}

/// Everything that is one conflict with a record that may not be one of those observed, or has other rows there.
pub fn related<'a>(observed: &'a Observed, record: &Record) -> Vec<&'a Record> {
    let ids: HashSet<&str> = record.rows.iter().map(|row| row.id.as_str()).collect();
    let keys: HashSet<&RowKey> = record.rows.iter().map(|row| &row.key).collect();
    let shares = |row: &ConflictingRow| ids.contains(row.id.as_str()) || keys.contains(&row.key);
    let is_one = |other: &&Record| other.rows.iter().any(shares) && record.meets(other);
    records(observed).into_values().filter(is_one).collect()
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

/// By place, the member whose rows win.
fn winners(observed: &Observed, records: &[&Record], groups: &[Vec<usize>]) -> Vec<Option<u8>> {
    let mut winners = vec![None; records.len()];
    let Ok(orders) = ordered(observed) else { return winners };
    let age = |place: usize| (records[place].seen, &records[place].gtid, &records[place].observer);
    let mut by_age: Vec<usize> = (0..records.len()).collect();
    by_age.sort_unstable_by_key(|place| age(*place));
    for place in by_age {
        // The row at the observer is its own, unless an earlier side of this conflict has put it there. The last of those follows the others.
        let older = groups[place].iter().filter(|other| age(**other) < age(place));
        let before = older.max_by_key(|other| age(**other));
        winners[place] = winner(
            observed,
            &orders,
            records[place],
            before.and_then(|other| winners[*other]),
        );
    }
    winners
}

/// `before`: who wins the last of its older sides.
fn winner(observed: &Observed, orders: &BTreeMap<String, u8>, record: &Record, before: Option<u8>) -> Option<u8> {
    // What was mended by hand and did not end equal can still be settled by naming a winner.
    if record.for_a_person.is_some() && record.stage != Stage::Taken {
        return None;
    }
    let named = record.rows.iter().find_map(|row| orders.get(&row.id).copied());
    let conflicts = &observed.cluster.spec.conflicts;
    match conflicts.policy {
        _ if named.is_some() => named,
        ConflictPolicy::Halt => record.winner.or(before),
        ConflictPolicy::Prefer => {
            let own = before.or_else(|| writer(observed, &record.observer));
            let rank = |ordinal: &u8| {
                let place = conflicts.prefer.iter().position(|preferred| preferred == ordinal);
                (place.unwrap_or(usize::MAX), *ordinal)
            };
            own.into_iter().chain(origin(observed, record)).min_by_key(rank)
        }
    }
}
