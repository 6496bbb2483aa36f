//! A conflict as `multimaster.conflicts` has it.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::images;
use crate::mysql::gtid::GtidSet;
use crate::mysql::rows::RowKey;
use crate::mysql::transaction::BinlogPosition;
use crate::names::GTID_TAG;

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
    pub kept: Option<BinlogPosition>,
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
    /// [`RowKey::id`] of the key as the collation compares it: the same for `a` and `A`, if the collation takes them for one.
    pub id: String,
    /// Which row.
    pub key: RowKey,
    /// The row at the observer, as JSON for people; `None`: there was none.
    pub mine: Option<serde_json::Value>,
    /// The row that the transaction leaves behind; `None`: it deletes it.
    pub theirs: Option<serde_json::Value>,
}

impl Record {
    /// It is not settled.
    pub fn is_open(&self) -> bool {
        self.stage != Stage::Settled
    }

    /// The record says that its transaction is executed.
    pub fn is_executed(&self) -> bool {
        matches!(self.stage, Stage::Taken | Stage::Settled)
    }

    /// What an examination of the transaction makes of a conflict that waits; whether that is something else than before.
    pub fn examined(&mut self, rows: Vec<ConflictingRow>, for_a_person: Option<String>, is_identical: bool) -> bool {
        let stage = if is_identical { Stage::Identical } else { Stage::Waiting };
        let earlier = (brief(&self.rows), self.for_a_person.take(), self.stage);
        let is_new = earlier != (brief(&rows), for_a_person.clone(), stage);
        (self.rows, self.for_a_person, self.stage) = (rows, for_a_person, stage);
        is_new
    }

    /// No other record has this observer and GTID.
    pub fn name(&self) -> (&str, &str) {
        (&self.observer, &self.gtid)
    }

    /// As a pass has it: with digests in place of large images.
    pub fn brief(self) -> Self {
        Self {
            rows: brief(&self.rows),
            ..self
        }
    }

    /// The large images of its rows, by their SHA-256.
    pub fn large_images(&self) -> BTreeMap<String, String> {
        let images = self.rows.iter().flat_map(|row| [&row.mine, &row.theirs]).flatten();
        images.filter_map(images::large).collect()
    }

    /// If they share a row: whether each was written before its member knew of the other. Every member has executed what was settled, so of a
    /// settled conflict only what was known then says so.
    pub(super) fn meets(&self, other: &Self) -> bool {
        let knew = |one: &Self, other: &Self| holds(&one.known, &other.gtid);
        match (self.is_open(), other.is_open()) {
            (true, true) => true,
            (false, true) => knew(self, other),
            (true, false) => knew(other, self),
            (false, false) => knew(self, other) || knew(other, self),
        }
    }
}

fn brief(rows: &[ConflictingRow]) -> Vec<ConflictingRow> {
    let row = |row: &ConflictingRow| ConflictingRow {
        mine: row.mine.as_ref().map(images::brief),
        theirs: row.theirs.as_ref().map(images::brief),
        ..row.clone()
    };
    rows.iter().map(row).collect()
}

/// Server UUID under which a transaction was written.
pub fn writer_of(gtid: &str) -> &str {
    gtid.split(':').next().unwrap_or_default()
}

/// The transaction with this GTID is in the set.
pub fn holds(set: &GtidSet, gtid: &str) -> bool {
    gtid.parse().is_ok_and(|gtid| set.contains(&gtid))
}

/// Written by the operator itself, to re-assert a row.
pub fn is_ours(gtid: &str) -> bool {
    gtid.split(':').nth(1) == Some(GTID_TAG)
}

/// What `multimaster.conflicts` holds at one member, beside the records that were read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unread {
    /// Records that are open, and that this version cannot read.
    pub records: Vec<UnreadRecord>,
    /// How many more are open than are read at once.
    pub more: u64,
    /// Why the table cannot be read at all.
    pub table: Option<String>,
}

/// An open record that this version cannot read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnreadRecord {
    /// As [`Record::observer`].
    pub observer: String,
    /// As [`Record::gtid`].
    pub gtid: String,
    /// What is wrong with it.
    pub why: String,
}
