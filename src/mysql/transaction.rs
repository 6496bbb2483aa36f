//! A transaction as a binary log has it, and a position in a server's binary logs.

use jiff::Timestamp;
use mysql_common::constants::SqlMode;
use serde::{Deserialize, Serialize};

use super::row_events::RowEvent;

/// Rows of one transaction that are kept. Of a larger transaction these are the first ones, see [`Transaction::is_larger`].
pub const MAX_CHANGES: usize = 5000;

/// A position in a server's binary logs: file and offset.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BinlogPosition {
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
    /// Body of the format description event of the binary log that it was read from.
    pub format: Vec<u8>,
    /// Rows that it changed: [`MAX_CHANGES`] at most, and as many bytes as the reader asked for.
    pub changes: Vec<Change>,
    /// Bytes of their images.
    pub bytes: usize,
    /// It changed more than is kept.
    pub is_larger: bool,
    /// A statement that was logged as such, as all DDL is.
    pub statement: Option<String>,
    /// The schema that the statement was run in.
    pub schema: String,
    /// The `sql_mode` that the statement was run under, if it is known.
    pub mode: Option<SqlMode>,
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
    /// The same in bytes; `None` where its images do not have all columns as they are.
    pub event: Option<RowEvent>,
}

/// One column of a row image.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
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
    /// A value that cannot be used as a key: floating point, JSON.
    Other(String),
}
