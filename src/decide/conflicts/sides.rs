//! Which records are one conflict, which members wrote its sides, and which one wins.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::orders::{self, ordered};
use super::record::{ConflictingRow, Record, Stage, holds, is_ours, writer_of};
use crate::api::ConflictPolicy;
use crate::decide::observed::{Member, Observed};
use crate::mysql::rows::RowKey;
use crate::names::GTID_TAG;

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
    writer(observed, writer_of(&record.gtid))
}

/// Every record once: as its observer has it, if that one can be asked. By observer and GTID.
fn records(observed: &Observed) -> BTreeMap<(&str, &str), &Record> {
    let mut all: BTreeMap<(&str, &str), &Record> = BTreeMap::new();
    for server in observed.members.iter().filter_map(Member::server) {
        for record in &server.conflicts {
            let own = record.observer == server.uuid;
            let entry = all.entry(record.name()).or_insert(record);
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
    /// By place: a number that all open records have which are one conflict, directly or by others in between.
    whole: Vec<usize>,
    /// By place: see [`Sides::winner`].
    winners: Vec<Option<u8>>,
}

impl<'a> Sides<'a> {
    /// Of one observation.
    pub fn of(observed: &'a Observed) -> Self {
        let (names, records): (Vec<_>, Vec<&Record>) = records(observed).into_iter().unzip();
        let groups = groups(&records);
        let whole = whole(&records, &groups);
        let winners = winners(observed, &records, &groups, &whole);
        Self {
            places: names.into_iter().zip(0..).collect(),
            records,
            groups,
            whole,
            winners,
        }
    }

    fn place(&self, record: &Record) -> Option<usize> {
        self.places.get(&record.name()).copied()
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

    /// The open records that are one conflict with this one, directly or by others in between, itself included.
    pub fn whole(&self, record: &Record) -> Vec<&'a Record> {
        let Some(place) = self.place(record) else {
            return Vec::new();
        };
        let all = self.records.iter().zip(&self.whole);
        all.filter(|(other, whole)| **whole == self.whole[place] && other.is_open())
            .map(|(other, _)| *other)
            .collect()
    }

    /// Ordinal of the member whose rows win; `None`: that is not decided.
    pub fn winner(&self, record: &Record) -> Option<u8> {
        self.winners[self.place(record)?]
    }

    /// The member that a person names as the winner, although it wrote no side.
    pub fn misnamed(&self, observed: &Observed, record: &Record) -> Option<u8> {
        orders::winner(&ordered(observed).ok()?, record)
            .filter(|member| !is_side(observed, self.group(record).into_iter(), *member))
    }

    /// Whether the copy that was made before a transaction was taken has the rows that win. Such a copy stays while others are taken.
    pub fn copied_winning_rows(&self, observed: &Observed, record: &Record) -> bool {
        let is_taken = matches!(record.stage, Stage::Taken | Stage::Settling);
        let lost = origin(observed, record) != record.winner;
        is_taken && lost && self.had_winning_rows(observed, record)
    }

    /// Whether the member that stopped had the rows that win. A third member that wrote the same row may not have met the winner's yet.
    pub fn had_winning_rows(&self, observed: &Observed, record: &Record) -> bool {
        let Some(winner) = self.winner(record) else {
            return false;
        };
        let had = |side: &&Record| had_rows(observed, record, side, winner);
        writer(observed, &record.observer) == Some(winner)
            || self.group(record).iter().any(had)
            || self.had_what_had_won(observed, record, winner)
    }

    /// Whether the member that stopped had the rows with which the winner has won an earlier conflict. It had, if it knew the winner's transaction by
    /// then: when that conflict was settled, all members had its rows. It was with a side of this one that was away; the winner itself wrote none.
    fn had_what_had_won(&self, observed: &Observed, record: &Record, winner: u8) -> bool {
        let wrote = |side: &Record| [writer(observed, &side.observer), origin(observed, side)].contains(&Some(winner));
        let whole = self.whole(record);
        if whole.iter().any(|side| wrote(side)) {
            return false;
        }
        let has_all = |side: &Record| {
            let ids: HashSet<&str> = side.rows.iter().map(|row| row.id.as_str()).collect();
            record.rows.iter().all(|row| ids.contains(row.id.as_str()))
        };
        let won = |side: &&Record| {
            !side.is_open() && origin(observed, side) == Some(winner) && self.winner(side) == Some(winner)
        };
        let mut earlier = whole.iter().flat_map(|side| self.group(side)).filter(won);
        earlier.any(|side| has_all(side) && holds(&record.known, &side.gtid))
    }

    /// The winner; as the record says, if it is not one of those observed.
    pub(super) fn winner_of(&self, record: &Record) -> Option<u8> {
        self.winner(record).or(record.winner)
    }

    /// Ids of the rows that are contested between the member with this server UUID, or the winner, and others. A row that neither had, and that was
    /// in no transaction of theirs, is not: other members may have inserted it.
    pub fn contested<'r>(&self, observed: &Observed, uuid: &str, records: &'r [Record]) -> HashSet<&'r str> {
        let mut ids = HashSet::new();
        for record in records {
            let winner = self.winner_of(record);
            // What had to make way for the winner's transaction is contested, whether this member has it or not. Rows of other sides are the same in
            // both.
            let is_winners = winner.is_some() && origin(observed, record) == winner;
            let is_own = record.observer == uuid || winner.is_some() && writer(observed, &record.observer) == winner;
            let rows = record.rows.iter();
            let rows = rows.filter(|row| {
                is_winners && row.mine != row.theirs || is_own && (row.mine.is_some() || row.theirs.is_some())
            });
            ids.extend(rows.map(|row| row.id.as_str()));
        }
        ids
    }
}

/// Whether the member that stopped at `record` had the rows of a member that wrote one of the two sides of `side`.
fn had_rows(observed: &Observed, record: &Record, side: &Record, member: u8) -> bool {
    if origin(observed, side) == Some(member) {
        return holds(&record.known, &side.gtid);
    }
    if writer(observed, &side.observer) != Some(member) {
        return false;
    }
    // What clients of the member had written when it stopped: its row is among it.
    let written = side.known.only(&side.observer);
    let written = written.difference(&written.tagged(GTID_TAG));
    let mut rows = record.rows.iter().zip(&side.rows);
    let is_same = |(own, other): (&ConflictingRow, &ConflictingRow)| own.key == other.key && own.mine == other.mine;
    !written.is_empty() && record.known.contains(&written) || record.rows.len() == side.rows.len() && rows.all(is_same)
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

/// Whether both are about the same row. A record has only the rows that were in the way at its observer.
fn shares_a_row(one: &Record, other: &Record) -> bool {
    let mut rows = one.rows.iter();
    rows.any(|row| {
        other
            .rows
            .iter()
            .any(|other| row.id == other.id || row.key == other.key)
    })
}

/// Everything that is one conflict with a record that may not be one of those observed, or has other rows there.
pub fn related<'a>(observed: &'a Observed, record: &Record) -> Vec<&'a Record> {
    let ids: HashSet<&str> = record.rows.iter().map(|row| row.id.as_str()).collect();
    let keys: HashSet<&RowKey> = record.rows.iter().map(|row| &row.key).collect();
    let shares = |row: &ConflictingRow| ids.contains(row.id.as_str()) || keys.contains(&row.key);
    let is_one = |other: &&Record| other.rows.iter().any(shares) && record.meets(other);
    records(observed).into_values().filter(is_one).collect()
}

/// By place, the member whose rows win.
fn winners(observed: &Observed, records: &[&Record], groups: &[Vec<usize>], whole: &[usize]) -> Vec<Option<u8>> {
    let mut winners = vec![None; records.len()];
    let Ok(orders) = ordered(observed) else { return winners };
    let mut by_age: Vec<usize> = (0..records.len()).collect();
    by_age.sort_unstable_by_key(|place| (records[*place].seen, &records[*place].gtid, &records[*place].observer));
    let mut age = vec![0; records.len()];
    for (number, place) in by_age.iter().enumerate() {
        age[*place] = number;
    }
    let by_name: HashMap<_, usize> = records.iter().map(|record| record.name()).zip(0..).collect();
    let named: Vec<Option<u8>> = (0..records.len())
        .map(|place| {
            let group = groups[place].iter().map(|other| records[*other]);
            orders::winner(&orders, records[place]).filter(|member| is_side(observed, group, *member))
        })
        .collect();
    let is_halt = observed.cluster.spec.conflicts.policy == ConflictPolicy::Halt;
    let mut owners = vec![None; records.len()];
    for (number, place) in by_age.iter().enumerate() {
        let mut older: Vec<usize> = groups[*place]
            .iter()
            .map(|other| age[*other])
            .filter(|age| *age < number)
            .collect();
        older.sort_unstable_by(|one, other| other.cmp(one));
        let older = older.iter().map(|age| by_age[*age]);
        let older: Vec<Older> = older
            .filter_map(|other| {
                Some(Older {
                    record: records[other],
                    winner: winners[other]?,
                    owner: owners[other],
                })
            })
            .collect();
        let observer = || writer(observed, &records[*place].observer);
        // What it has decided about the other side, maybe long ago.
        let decided = |gtid: &str| {
            let own = *by_name.get(&(records[*place].observer.as_str(), gtid))?;
            winners[own].filter(|_| age[own] < number && shares_a_row(records[own], records[*place]))
        };
        owners[*place] = inherited(observed, records[*place], &older, decided).or_else(observer);
        // A person has said something, and what is not known.
        let is_unclear = is_halt && records[*place].winner.is_none() && orders::disagree(&orders, records[*place]);
        if !is_unclear {
            winners[*place] = winner(observed, named[*place], (records[*place], owners[*place]), &older);
        }
    }
    if is_halt {
        return winners;
    }
    // Of three sides, two may have met before, and a record of several rows makes one conflict of theirs.
    let mut named_of = HashMap::new();
    let mut best: HashMap<usize, u8> = HashMap::new();
    for place in (0..records.len()).filter(|place| records[*place].is_open()) {
        if let Some(member) = named[place] {
            named_of.entry(whole[place]).or_insert(member);
        }
        if let Some(member) = winners[place] {
            let best = best.entry(whole[place]).or_insert(member);
            if rank(observed, member) < rank(observed, *best) {
                *best = member;
            }
        }
    }
    let decided = |place: usize| {
        let own = winners[place]?;
        let all = || named_of.get(&whole[place]).or_else(|| best.get(&whole[place]));
        let all = records[place].is_open().then(all).flatten();
        Some(all.copied().unwrap_or(own))
    };
    (0..records.len()).map(decided).collect()
}

/// See [`Sides::whole`].
fn whole(records: &[&Record], groups: &[Vec<usize>]) -> Vec<usize> {
    let mut whole: Vec<usize> = (0..records.len()).collect();
    let mut seen = vec![false; records.len()];
    for start in 0..records.len() {
        let mut next = vec![start];
        while let Some(place) = next.pop() {
            if !records[place].is_open() || std::mem::replace(&mut seen[place], true) {
                continue;
            }
            whole[place] = start;
            next.extend(&groups[place]);
        }
    }
    whole
}

/// Whether a member wrote a side of this conflict that is open.
fn is_side<'a>(observed: &Observed, mut group: impl Iterator<Item = &'a Record>, member: u8) -> bool {
    group.any(|side| {
        let writers = [writer(observed, &side.observer), origin(observed, side)];
        side.is_open() && writers.contains(&Some(member))
    })
}

/// The place of a member in the order of preference.
fn rank(observed: &Observed, ordinal: u8) -> (usize, u8) {
    let prefer = &observed.cluster.spec.conflicts.prefer;
    let place = prefer.iter().position(|preferred| *preferred == ordinal);
    (place.unwrap_or(usize::MAX), ordinal)
}

/// An older side of a conflict, whose winner is known.
struct Older<'a> {
    record: &'a Record,
    winner: u8,
    /// The member that wrote the rows which its observer had.
    owner: Option<u8>,
}

/// `owner`: of the rows that the observer had. `older`: the last of them first.
fn winner(
    observed: &Observed,
    named: Option<u8>,
    (record, owner): (&Record, Option<u8>),
    older: &[Older],
) -> Option<u8> {
    // What was mended by hand and did not end equal can still be settled by naming a winner.
    if record.for_a_person.is_some() && record.stage != Stage::Taken {
        return None;
    }
    match observed.cluster.spec.conflicts.policy {
        _ if named.is_some() => named,
        // What was re-asserted says who has won, also where the member that meets it is preferred.
        _ if is_ours(&record.gtid) && record.winner.is_some() => record.winner,
        ConflictPolicy::Halt => record.winner.or_else(|| older.first().map(|older| older.winner)),
        // It is executed, and since then the observer knows more than it did when it stopped.
        ConflictPolicy::Prefer if record.stage == Stage::Taken && record.winner.is_some() => record.winner,
        ConflictPolicy::Prefer => owner
            .into_iter()
            .chain(origin(observed, record))
            .min_by_key(|member| rank(observed, *member)),
    }
}

/// The row at the observer is its own, unless an earlier side of this conflict has put it there: the member that wrote it then. `decided`: who has
/// won against a transaction that the observer itself has stopped at before.
fn inherited(
    observed: &Observed,
    record: &Record,
    older: &[Older],
    decided: impl Fn(&str) -> Option<u8>,
) -> Option<u8> {
    let own = older.iter().find(|older| older.record.observer == record.observer);
    let put = |older: &Older| {
        if let Some(winner) = decided(&older.record.gtid) {
            return Some(winner);
        }
        let (origin, observer) = (origin(observed, older.record), writer(observed, &older.record.observer));
        // Its observer may have had the rows of another, too.
        let wrote = |member: &u8| origin == Some(*member) || older.owner == Some(*member);
        let members = [Some(older.winner), origin, observer];
        let mut members = members.into_iter().flatten().filter(wrote);
        members.find(|member| had_rows(observed, record, older.record, *member))
    };
    own.map(|older| older.winner).or_else(|| older.iter().find_map(put))
}
