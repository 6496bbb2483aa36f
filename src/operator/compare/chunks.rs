//! Tables in chunks: ranges of the primary key, and the SQL that makes one number of many rows. Pure.

use std::sync::Arc;

use super::columns::Column;
use crate::mysql::quote::identifier;

/// Rows of a chunk, at most.
const MOST_ROWS: u64 = 2_000;
/// Bytes of a chunk, about.
const MOST_BYTES: u64 = 8 * 1024 * 1024;

/// A table whose definition is the same on all members.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Table {
    /// Its database.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// Every column with stored values, invisible columns included.
    pub columns: Vec<Column>,
    /// The columns of the primary key, in its order; empty: the table has none.
    pub key: Vec<Column>,
    /// Average size of a row in bytes as statistics have it; 0: unknown.
    pub row_bytes: u64,
}

impl Table {
    /// Rows of each of its chunks, at most.
    pub fn chunk_rows(&self) -> u64 {
        (MOST_BYTES / self.row_bytes.max(1)).clamp(1, MOST_ROWS)
    }

    fn from(&self) -> String {
        let index = if self.key.is_empty() {
            ""
        } else {
            " FORCE INDEX (PRIMARY)"
        };
        format!("{}.{}{index}", identifier(&self.schema), identifier(&self.name))
    }
}

/// An aggregate of the hash of each row, whatever their order. `hash`: an expression for 64 hexadecimal digits.
pub(super) fn sum(hash: &str) -> String {
    format!("SUM(CAST(CONV(LEFT({hash}, 15), 16, 10) AS UNSIGNED))")
}

/// A primary key: the value of each of its columns, as [`Column`] reads it.
pub type Key = Vec<String>;

/// Rows of a table whose primary key is in a range.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Chunk {
    /// The table.
    pub table: Arc<Table>,
    /// The chunk begins after this key; `None`: with the first row.
    pub after: Option<Key>,
    /// The chunk ends with this key; `None`: with the last row that each member has.
    pub upto: Option<Key>,
}

impl Chunk {
    /// The query answers one row: number of rows, number of hashes (fewer if a row is too long to be hashed), and the sum of the hashes. It is a
    /// sum, because in an exclusive or two equal rows of a table without primary key would cancel out.
    pub fn checksum(&self) -> String {
        let row: Vec<String> = self.table.columns.iter().map(Column::in_row).collect();
        // A table may have no stored column.
        let row = if row.is_empty() { "''".into() } else { row.join(", ") };
        format!(
            "SELECT COUNT(*), COUNT(h), {} FROM (SELECT SHA2(CONCAT({row}), 256) AS h FROM {}{}) AS hashes",
            sum("h"),
            self.table.from(),
            self.condition()
        )
    }

    /// The query for the key of the first row after this many rows of the chunk.
    pub fn key_after(&self, rows: u64) -> String {
        let list = |of: fn(&Column) -> String| self.table.key.iter().map(of).collect::<Vec<_>>().join(", ");
        format!(
            "SELECT {} FROM {}{} ORDER BY {} LIMIT {rows}, 1",
            list(Column::as_key),
            self.table.from(),
            self.condition(),
            list(|column| column.quoted()),
        )
    }

    /// The part of the chunk up to a key, and the rest.
    pub fn split(&self, at: &Key) -> (Self, Self) {
        let lower = Self {
            upto: Some(at.clone()),
            ..self.clone()
        };
        let upper = Self {
            after: Some(at.clone()),
            ..self.clone()
        };
        (lower, upper)
    }

    fn condition(&self) -> String {
        let after = self.after.as_ref().map(|key| self.beyond(key, ">", ">"));
        let upto = self.upto.as_ref().map(|key| self.beyond(key, "<", "<="));
        let bounds: Vec<String> = after.into_iter().chain(upto).collect();
        if bounds.is_empty() {
            return String::new();
        }
        format!(" WHERE {}", bounds.join(" AND "))
    }

    /// `(a > 1 OR (a = 1 AND b > 2))`. MySQL uses an index for this condition, and none for `(a, b) > (1, 2)`.
    fn beyond(&self, key: &Key, operator: &str, last: &str) -> String {
        let columns: Vec<(String, String)> = self
            .table
            .key
            .iter()
            .zip(key)
            .map(|(column, value)| (column.quoted(), column.literal(value)))
            .collect();
        let alternatives: Vec<String> = (0..columns.len())
            .map(|n| {
                let operator = if n + 1 == columns.len() { last } else { operator };
                let equal = columns
                    .iter()
                    .take(n)
                    .map(|(column, value)| format!("{column} = {value}"));
                let beyond = columns
                    .get(n)
                    .map(|(column, value)| format!("{column} {operator} {value}"));
                equal.chain(beyond).collect::<Vec<_>>().join(" AND ")
            })
            .collect();
        format!("({})", alternatives.join(" OR "))
    }

    /// `id > 2000 AND id <= 4000`, for people.
    pub fn keys(&self) -> String {
        let tuple = |parts: Vec<String>| match parts.as_slice() {
            [only] => only.clone(),
            parts => format!("({})", parts.join(", ")),
        };
        let bound = |operator: &str, key: &Key| {
            let columns = self.table.key.iter();
            let values = columns.clone().zip(key).map(|(column, value)| column.shown(value));
            let names = columns.map(|column| column.name().to_owned());
            format!("{} {operator} {}", tuple(names.collect()), tuple(values.collect()))
        };
        match (&self.after, &self.upto) {
            (None, None) => "all rows".into(),
            (Some(after), None) => bound(">", after),
            (None, Some(upto)) => bound("<=", upto),
            (Some(after), Some(upto)) => format!("{} AND {}", bound(">", after), bound("<=", upto)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk(key: &[(&str, &str)], after: Option<&[&str]>, upto: Option<&[&str]>) -> Chunk {
        let column = |(name, type_): &(&str, &str)| Column::new((*name).into(), type_);
        let owned = |key: &[&str]| key.iter().map(|&value| value.to_owned()).collect();
        Chunk {
            table: Arc::new(Table {
                schema: "shop".into(),
                name: "t".into(),
                columns: key.iter().map(column).collect(),
                key: key.iter().map(column).collect(),
                row_bytes: 0,
            }),
            after: after.map(owned),
            upto: upto.map(owned),
        }
    }

    #[test]
    fn the_first_and_the_last_chunk_are_open_ended() {
        let id = [("id", "int")];
        assert_eq!(chunk(&id, None, None).condition(), "");
        assert_eq!(chunk(&id, None, Some(&["7"])).condition(), " WHERE (`id` <= 7)");
        assert_eq!(chunk(&id, Some(&["7"]), None).condition(), " WHERE (`id` > 7)");
        assert_eq!(
            chunk(&id, Some(&["7"]), Some(&["9"])).condition(),
            " WHERE (`id` > 7) AND (`id` <= 9)"
        );
    }

    #[test]
    fn a_key_of_several_columns_is_ordered_by_the_first_that_differs() {
        let keys = [("a", "int"), ("b", "varchar"), ("c", "varbinary")];
        assert_eq!(
            chunk(&keys, Some(&["1", "C3A9", "00FF"]), None).condition(),
            " WHERE (`a` > 1 OR `a` = 1 AND `b` > _utf8mb4 x'C3A9' OR `a` = 1 AND `b` = _utf8mb4 x'C3A9' AND `c` > x'00FF')"
        );
        assert_eq!(
            chunk(&keys, Some(&["1", "C3A9", "00FF"]), Some(&["2", "", ""])).keys(),
            "(a, b, c) > (1, 'é', 0x00FF) AND (a, b, c) <= (2, '', 0x)"
        );
    }

    #[test]
    fn the_key_of_a_chunks_last_row_is_read_in_the_order_of_the_key() {
        assert_eq!(
            chunk(&[("a", "enum"), ("b", "double"), ("c", "date")], None, None).key_after(1999),
            "SELECT CAST(`a` + 0 AS CHAR), CAST(CAST(`b` AS DOUBLE) AS CHAR), CAST(`c` AS CHAR) FROM `shop`.`t` FORCE INDEX (PRIMARY) \
             ORDER BY `a`, `b`, `c` LIMIT 1999, 1"
        );
    }

    #[test]
    fn columns_and_nulls_are_kept_apart() {
        let sql = chunk(&[("a`b", "char"), ("j", "json")], None, None).checksum();
        assert!(
            sql.contains("SHA2(CONCAT(IF(`a``b` IS NULL, 'N', CONCAT(LENGTH(CAST(`a``b` AS BINARY)), ':', CAST(`a``b` AS BINARY))), IF(`j` IS NULL, 'N', SHA2(`j`, 256))), 256)"),
            "{sql}"
        );
    }

    #[test]
    fn chunks_of_long_rows_are_short() {
        let rows = |row_bytes| {
            Table {
                row_bytes,
                ..(*chunk(&[], None, None).table).clone()
            }
            .chunk_rows()
        };
        assert_eq!((rows(0), rows(100), rows(1 << 20), rows(1 << 30)), (2000, 2000, 8, 1));
    }

    #[test]
    fn long_keys_are_shortened_for_people() {
        let long = "61".repeat(100);
        let keys = chunk(&[("k", "varchar")], Some(&[&long]), None).keys();
        assert_eq!(keys, format!("k > '{}…'", "a".repeat(40)));
    }
}
