//! Arithmetic of GTID sets, in MySQL's own text format, tags included.
//!
//! The operator compares sets that it read from different members at different moments. It cannot ask a server for that, because some members may be
//! gone. Everything here is pure and follows the format that mysqld 9.7 accepts and prints:
//! `uuid:1-5:7:tag_a:1-3,uuid2:1`. Line breaks, which mysqld prints after each comma, are accepted and never written.
//!
//! A set can have hundreds of thousands of intervals. Every operation here takes time that grows with their number, times its logarithm at most. Copies of
//! a set share its intervals, and so do results that have all of them.

use std::collections::BTreeMap;
use std::fmt::{self, Write};
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use intervals::{Interval, add, covers, intersect, normalise, subtract};

mod intervals;

/// The largest transaction number: mysqld keeps 2^63-1 as the exclusive end of an interval.
pub const MAX_GNO: u64 = i64::MAX as u64 - 1;
/// Characters of a wrong text that an error repeats. The text may have any length, and the error is written to status.
const MOST_QUOTED: usize = 100;
/// Bytes of a set that a text for people repeats.
const MOST_SHOWN: usize = 300;
/// The longest tag that mysqld accepts.
const MAX_TAG: usize = 32;

/// A set of transactions. Two equal sets are equal values, and are written in the same way. `{}` writes all of it, `{:?}` its
/// [beginning](GtidSet::brief).
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct GtidSet {
    /// Never holds an empty list.
    sets: BTreeMap<Origin, Arc<Vec<Interval>>>,
}

/// A server UUID and a tag: each pair numbers its transactions by itself. The order is that of mysqld: by UUID, untagged first.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Origin {
    uuid: String,
    tag: Option<String>,
}

/// A text that is not a GTID set.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a GTID set: {part:?} {problem}")]
pub struct ParseGtidSetError {
    /// The wrong piece of the text; only its beginning if it is long.
    pub part: String,
    /// What is wrong with it.
    pub problem: &'static str,
}

impl GtidSet {
    /// Whether it holds no transaction.
    pub fn is_empty(&self) -> bool {
        self.sets.is_empty()
    }

    /// Whether every transaction of `other` is in this set (as `GTID_SUBSET(other, self)`).
    pub fn contains(&self, other: &Self) -> bool {
        other.sets.iter().all(|(origin, theirs)| {
            let ours = self.sets.get(origin);
            ours.is_some_and(|ours| Arc::ptr_eq(ours, theirs) || covers(ours, theirs))
        })
    }

    /// The transactions that are in either set.
    pub fn union(&self, other: &Self) -> Self {
        let mut union = self.clone();
        union.add(other);
        union
    }

    /// The transactions that are in any of these sets.
    pub fn union_all<'a>(sets: impl IntoIterator<Item = &'a Self>) -> Self {
        let mut all = Self::default();
        sets.into_iter().for_each(|set| all.add(set));
        all
    }

    /// Adds the transactions of another set. In a loop this is better than [`Self::union`], which copies the growing set each time.
    pub fn add(&mut self, other: &Self) {
        for (origin, theirs) in &other.sets {
            match self.sets.get_mut(origin) {
                Some(ours) if Arc::ptr_eq(ours, theirs) || covers(ours, theirs) => {}
                Some(ours) if covers(theirs, ours) => *ours = theirs.clone(),
                Some(ours) => add(Arc::make_mut(ours), theirs),
                None => {
                    self.sets.insert(origin.clone(), theirs.clone());
                }
            }
        }
    }

    /// The transactions of this set that are not in `other` (as `GTID_SUBTRACT(self, other)`).
    pub fn difference(&self, other: &Self) -> Self {
        self.map(|origin, ours| match other.sets.get(origin) {
            Some(theirs) if Arc::ptr_eq(ours, theirs) => Arc::default(),
            Some(theirs) => Arc::new(subtract(ours, theirs)),
            None => ours.clone(),
        })
    }

    /// The transactions that are in both sets.
    pub fn intersection(&self, other: &Self) -> Self {
        self.map(|origin, ours| match other.sets.get(origin) {
            Some(theirs) if covers(theirs, ours) => ours.clone(),
            Some(theirs) => Arc::new(intersect(ours, theirs)),
            None => Arc::default(),
        })
    }

    /// The transactions with this server UUID and any tag.
    pub fn only(&self, uuid: &str) -> Self {
        let uuid = uuid.to_ascii_lowercase();
        let first = Origin {
            uuid: uuid.clone(),
            tag: None,
        };
        let from_there = self.sets.range(first..);
        let theirs = from_there.take_while(|(origin, _)| origin.uuid == uuid);
        Self {
            sets: theirs.map(|(origin, all)| (origin.clone(), all.clone())).collect(),
        }
    }

    /// The transactions with this tag and any server UUID.
    pub fn tagged(&self, tag: &str) -> Self {
        let theirs = self
            .sets
            .iter()
            .filter(|(origin, _)| origin.tag.as_deref() == Some(tag));
        Self {
            sets: theirs.map(|(origin, all)| (origin.clone(), all.clone())).collect(),
        }
    }

    /// The number of transactions; `u64::MAX` should there be more.
    pub fn count(&self) -> u64 {
        self.sets
            .values()
            .flat_map(|intervals| intervals.iter())
            .fold(0, |sum, i| sum.saturating_add(i.last - i.first + 1))
    }

    /// The set as people read it in status, events and logs: if it is long its beginning, a mark, and its size.
    pub fn brief(&self) -> String {
        let mut shown = Beginning {
            text: String::new(),
            most: MOST_SHOWN,
        };
        if write!(shown, "{self}").is_ok() {
            return shown.text;
        }
        let whole = shown.text.rfind([',', ':']).unwrap_or_default();
        shown.text.truncate(whole);
        let intervals: usize = self.sets.values().map(|intervals| intervals.len()).sum();
        format!(
            "{}… ({} transactions in {intervals} intervals)",
            shown.text,
            self.count()
        )
    }

    /// The whole set as text, if that has at most so many bytes. Of a longer one only so much is written.
    pub fn within(&self, bytes: usize) -> Option<String> {
        let mut whole = Beginning {
            text: String::new(),
            most: bytes,
        };
        write!(whole, "{self}").ok().map(|()| whole.text)
    }

    /// The transactions whose server UUID is one of those that are meant.
    pub fn of(&self, is_meant: impl Fn(&str) -> bool) -> Self {
        let meant = self.sets.iter().filter(|(origin, _)| is_meant(&origin.uuid));
        Self {
            sets: meant.map(|(origin, all)| (origin.clone(), all.clone())).collect(),
        }
    }

    /// The server UUIDs of the set, in order, each once.
    pub fn uuids(&self) -> Vec<&str> {
        let mut uuids: Vec<&str> = self.sets.keys().map(|origin| origin.uuid.as_str()).collect();
        uuids.dedup();
        uuids
    }

    /// Takes intervals over as they are; the caller normalises them.
    fn take_up(&mut self, origin: &Origin, intervals: &mut Vec<Interval>) {
        match self.sets.get_mut(origin) {
            Some(ours) => Arc::make_mut(ours).append(intervals),
            None if intervals.is_empty() => {}
            None => {
                self.sets.insert(origin.clone(), Arc::new(std::mem::take(intervals)));
            }
        }
    }

    fn map(&self, intervals: impl Fn(&Origin, &Arc<Vec<Interval>>) -> Arc<Vec<Interval>>) -> Self {
        let sets = self.sets.iter().filter_map(|(origin, ours)| {
            let left = intervals(origin, ours);
            (!left.is_empty()).then(|| (origin.clone(), left))
        });
        GtidSet { sets: sets.collect() }
    }
}

/// Takes the beginning of a text and refuses the rest, so that what is not shown is not written either.
struct Beginning {
    text: String,
    most: usize,
}

impl fmt::Write for Beginning {
    fn write_str(&mut self, part: &str) -> fmt::Result {
        if self.text.len() + part.len() > self.most {
            return Err(fmt::Error);
        }
        self.text.push_str(part);
        Ok(())
    }
}

impl fmt::Display for GtidSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut uuid = "";
        for (origin, intervals) in &self.sets {
            if origin.uuid != uuid {
                let comma = if uuid.is_empty() { "" } else { "," };
                write!(f, "{comma}{}", origin.uuid)?;
                uuid = &origin.uuid;
            }
            if let Some(tag) = &origin.tag {
                write!(f, ":{tag}")?;
            }
            for Interval { first, last } in intervals.iter() {
                if first == last {
                    write!(f, ":{first}")?;
                } else {
                    write!(f, ":{first}-{last}")?;
                }
            }
        }
        Ok(())
    }
}

impl fmt::Debug for GtidSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.brief())
    }
}

impl FromStr for GtidSet {
    type Err = ParseGtidSetError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut set = GtidSet::default();
        // As in mysqld, one comma too many is no error.
        for entry in text.split(',').map(str::trim).filter(|entry| !entry.is_empty()) {
            let mut pieces = entry.split(':').map(str::trim);
            let uuid = parse_uuid(pieces.next().unwrap_or_default())?;
            let mut origin = Origin { uuid, tag: None };
            let mut intervals = Vec::new();
            for piece in pieces {
                if piece.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') {
                    if intervals.is_empty() && origin.tag.is_some() {
                        return Err(wrong(piece, "follows a tag that has no interval"));
                    }
                    let tag = Some(parse_tag(piece)?);
                    set.take_up(&origin, &mut intervals);
                    origin.tag = tag;
                } else {
                    intervals.push(parse_interval(piece)?);
                }
            }
            // A UUID and a tag are followed by at least one interval.
            if intervals.is_empty() {
                return Err(wrong(entry, "does not end with an interval of transaction numbers"));
            }
            set.take_up(&origin, &mut intervals);
        }
        for intervals in set.sets.values_mut() {
            let intervals = Arc::make_mut(intervals);
            normalise(intervals);
            intervals.shrink_to_fit();
        }
        Ok(set)
    }
}

fn wrong(part: &str, problem: &'static str) -> ParseGtidSetError {
    ParseGtidSetError {
        part: part.chars().take(MOST_QUOTED).collect(),
        problem,
    }
}

fn parse_uuid(text: &str) -> Result<String, ParseGtidSetError> {
    let well_formed = text.len() == 36
        && text.bytes().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        });
    if well_formed {
        Ok(text.to_ascii_lowercase())
    } else {
        Err(wrong(text, "is not a server UUID"))
    }
}

fn parse_tag(text: &str) -> Result<String, ParseGtidSetError> {
    let well_formed = text.len() <= MAX_TAG && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    if well_formed {
        Ok(text.to_ascii_lowercase())
    } else {
        Err(wrong(text, "is not a tag: up to 32 letters, digits or '_'"))
    }
}

fn parse_interval(text: &str) -> Result<Interval, ParseGtidSetError> {
    let number = |digits: &str| -> Result<u64, ParseGtidSetError> {
        let digits = digits.trim();
        // `u64::from_str` alone would accept a sign.
        let gno = if digits.bytes().all(|b| b.is_ascii_digit()) {
            digits.parse().ok()
        } else {
            None
        };
        gno.filter(|gno| (1..=MAX_GNO).contains(gno)).ok_or_else(|| {
            wrong(
                text,
                "is not a transaction number between 1 and 2^63-2, or an interval of them",
            )
        })
    };
    let (first, last) = match text.split_once('-') {
        Some((first, last)) => (number(first)?, number(last)?),
        None => (number(text)?, number(text)?),
    };
    if first > last {
        return Err(wrong(text, "ends before it begins"));
    }
    Ok(Interval { first, last })
}

impl Serialize for GtidSet {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for GtidSet {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests;
