//! Rows of tables as JSON, read from a member up to a length.

use mysql_async::{Conn, Row};

use crate::mysql::io::connection::{SqlError, ask, optional, required};
use crate::mysql::rows::{RowKey, Table};

/// Bytes of a row, as JSON, and of all rows that are in the way of a transaction: JSON has a third more than a binary log has of BLOBs, and more of texts.
pub(super) const MOST_OF_IMAGES: usize = 40 << 20;

/// Whether rows are only read, or locked as well, for changes in the same transaction.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Reads {
    Look,
    Lock,
}

impl Reads {
    fn clause(self) -> &'static str {
        match self {
            Self::Look => "",
            Self::Lock => " FOR UPDATE",
        }
    }
}

/// The row that a condition finds, as JSON.
pub(super) async fn image(
    conn: &mut Conn,
    table: &Table,
    condition: &str,
    reads: Reads,
) -> Result<Option<serde_json::Value>, SqlError> {
    let text = text(conn, table, condition, reads).await?;
    text.map(|text| json(table, &text)).transpose()
}

/// The same as text.
pub(super) async fn text(
    conn: &mut Conn,
    table: &Table,
    condition: &str,
    reads: Reads,
) -> Result<Option<String>, SqlError> {
    let query = format!(
        "SELECT {} AS image FROM {} WHERE {condition}{}",
        as_text(table),
        table.quoted(),
        reads.clause()
    );
    let rows = ask(conn, &query).await?;
    rows.first().map(|row| text_of(table, row)).transpose()
}

/// The SQL expression for a row as text, or NULL. MySQL makes NULL of what is longer than `max_allowed_packet`, too.
fn as_text(table: &Table) -> String {
    let image = table.as_json();
    format!("IF(LENGTH({image}) > {MOST_OF_IMAGES}, NULL, CAST({image} AS CHAR))")
}

/// A row that is there and cannot be read is not one that is not there.
fn text_of(table: &Table, row: &Row) -> Result<String, SqlError> {
    let too_long = || {
        SqlError::Outdated(format!(
            "a row of {} has more than {} MiB as JSON, or more than max_allowed_packet",
            table.quoted(),
            MOST_OF_IMAGES >> 20
        ))
    };
    optional(row, "image")?.ok_or_else(too_long)
}

pub(super) fn json(table: &Table, text: &str) -> Result<serde_json::Value, SqlError> {
    serde_json::from_str(text)
        .map_err(|error| SqlError::Outdated(format!("a row of {} as JSON: {error}", table.quoted())))
}

/// Keys of the rows that a condition finds, with the rows as JSON.
pub(super) async fn excluding(
    conn: &mut Conn,
    table: &Table,
    condition: &str,
    reads: Reads,
) -> Result<Vec<(RowKey, String)>, SqlError> {
    let selected = table.selected_key().map_err(SqlError::Outdated)?;
    let query = format!(
        "SELECT {}, {} AS image FROM {} WHERE {condition}{}",
        selected.join(", "),
        as_text(table),
        table.quoted(),
        reads.clause()
    );
    let mut found = Vec::new();
    for row in ask(conn, &query).await? {
        let texts = (0..selected.len()).map(|n| required(&row, &format!("k{n}")));
        let key = table.read_key(texts.collect::<Result<_, _>>()?);
        found.push((key.map_err(SqlError::Outdated)?, text_of(table, &row)?));
    }
    Ok(found)
}
