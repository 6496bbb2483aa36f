//! The message about conflicts.

use std::collections::HashSet;

use super::orders::{self, SETTLED, is_heard, ordered, says_settled};
use super::record::{ConflictingRow, Record, Stage};
use super::sides::{Sides, origin, writer};
use super::unread;
use crate::decide::observed::{Channel, Member, Observed, SqlError};
use crate::names::{self, ANNOTATION_SETTLE};

/// So many conflicts are listed: the message of a condition has a limit, and an API server that refuses it refuses all of status.
const MOST_LISTED: usize = 10;

/// The message about open conflicts, if there are any. Those that wait for a person come first.
pub fn message(observed: &Observed, sides: &Sides) -> Option<String> {
    let mut open: Vec<&Record> = sides.open().collect();
    open.sort_by_cached_key(|record| record.for_a_person.is_none() && sides.winner(record).is_some());
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
        .map(|record| unread::message_of(observed, record));
    let recorded = open.iter().map(|record| of_record(observed, sides, record));
    let mut listed: Vec<String> = unread.chain(recorded).chain(unrecorded).take(MOST_LISTED).collect();
    match count(observed, sides).saturating_sub(listed.len()) {
        0 => {}
        more => listed.push(format!("and {more} more, see the table multimaster.conflicts")),
    }
    if !listed.is_empty() {
        listed.extend(unknown(observed, &open));
    }
    if unread::more(observed) > 0 {
        listed.push("so many or so long ones are open that no new one is settled before others are".into());
    }
    (!listed.is_empty()).then(|| listed.join("; "))
}

/// Orders of a person for what is no open conflict.
fn unknown(observed: &Observed, open: &[&Record]) -> Option<String> {
    // It may be the id of one that was not read.
    if unread::more(observed) > 0 || !unread::open(observed).is_empty() {
        return None;
    }
    let orders = ordered(observed).ok()?;
    let ids: HashSet<&str> = open
        .iter()
        .flat_map(|record| &record.rows)
        .map(|row| row.id.as_str())
        .collect();
    let unknown = orders.keys().filter(|id| !ids.contains(id.as_str()));
    // A person has typed them.
    let unknown: Vec<String> = unknown
        .take(MOST_LISTED)
        .map(|id| id.chars().take(20).collect())
        .collect();
    (!unknown.is_empty()).then(|| {
        format!(
            "annotation {ANNOTATION_SETTLE}: {} is the id of no open conflict",
            unknown.join(", ")
        )
    })
}

fn of_record(observed: &Observed, sides: &Sides, record: &Record) -> String {
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
    let wrong = sides.misnamed(observed, record).map_or_else(String::new, |wrong| {
        let wrong = name(Some(wrong));
        format!("; annotation {ANNOTATION_SETTLE} names {wrong}, which wrote none of its rows")
    });
    let orders = ordered(observed).unwrap_or_default();
    let order = if says_settled(&orders, record) && !is_heard(record) {
        let what = match record.stage {
            Stage::Taken => "its rows are compared first",
            _ => "its transaction is not executed yet",
        };
        format!("; annotation {ANNOTATION_SETTLE} says {SETTLED}, and {what}")
    } else if orders::disagree(&orders, record) {
        format!("; annotation {ANNOTATION_SETTLE} names several members for the rows of this one transaction")
    } else {
        String::new()
    };
    let asks = |row: &ConflictingRow, member: &str| {
        format!(
            "name the winner: kubectl annotate mmc {} --overwrite {ANNOTATION_SETTLE}={}={member}",
            observed.name(),
            row.id
        )
    };
    let what = format!(
        "{observer} and {} both wrote {}{more}{wrong}{order}",
        name(origin(observed, record)),
        rows.join(", ")
    );
    match (&record.for_a_person, sides.winner(record), record.rows.first()) {
        // All sides are executed: what is left is whose row is to be everywhere.
        (Some(why), _, Some(row)) if record.stage == Stage::Taken => {
            format!(
                "{what}, and it is for a person to mend: {why}; {}, or {}={SETTLED} if its rows are right as they are",
                asks(row, &observer),
                row.id
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
pub fn count(observed: &Observed, sides: &Sides) -> usize {
    let more = usize::try_from(unread::more(observed)).unwrap_or(usize::MAX);
    let seen = unrecorded(observed).count() + sides.open().count() + unread::open(observed).len();
    seen.saturating_add(more)
}
