//! A transaction as a binary log has it, and a place in such a log.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Rows of one transaction that are kept; of a larger one it is only known that it is larger.
pub const MAX_CHANGES: usize = 1000;

/// A place in a server's binary logs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// Name of the binary log.
    pub file: String,
    /// Offset in bytes.
    pub offset: u64,
}

/// One transaction.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Transaction {
    /// Its GTID, tag included.
    pub gtid: String,
    /// When it was committed at the member that took it.
    pub committed: Option<Timestamp>,
    /// The rows that it changed, [`MAX_CHANGES`] at most.
    pub changes: Vec<Change>,
    /// It changed more.
    pub is_larger: bool,
    /// A statement that was logged as such, as all DDL is.
    pub statement: Option<String>,
    /// The schema that the statement was run in.
    pub schema: String,
}

/// One row changed.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// Schema of the table.
    pub schema: String,
    /// Table.
    pub table: String,
    /// The row as it was; `None` for an INSERT.
    pub before: Option<Vec<Cell>>,
    /// The row as it became; `None` for a DELETE.
    pub after: Option<Vec<Cell>>,
}

/// One column of a row image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Cell {
    /// NULL.
    Null,
    /// A number; of a TIMESTAMP the seconds since 1970.
    Number(String),
    /// Text in the column's own character set, or binary. In hexadecimal digits.
    Bytes(String),
    /// A date or a time, as MySQL writes it.
    Time(String),
    /// What cannot be used as a key: floating point, JSON.
    Other(String),
}
