//! Columns in SQL: a whole value for the checksum, and a key that can be read, sent to another member, and shown to people.

use crate::mysql::quote::{identifier, literal};

/// Letters of a key that people are shown.
const SHOWN: usize = 40;

/// What is done with the values of a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    /// Integers, DECIMAL and YEAR. The text is a literal.
    Number,
    /// FLOAT and DOUBLE. Their text has too few digits.
    Inexact,
    /// BIT, ENUM, SET. MySQL orders them by a number and shows a text.
    Numbered,
    /// Dates and times.
    Time,
    /// CHAR and VARCHAR of any character set.
    Text,
    /// BINARY and VARBINARY.
    Bytes,
    /// TEXT. It may be longer than CONCAT can join.
    LongText,
    /// BLOB, JSON, geometry, VECTOR, and every type of a later version. They may be as long as TEXT.
    Long,
}

impl Kind {
    /// From `information_schema.COLUMNS.DATA_TYPE`.
    fn of(data_type: &str) -> Self {
        match data_type {
            "tinyint" | "smallint" | "mediumint" | "int" | "bigint" | "decimal" | "year" => Self::Number,
            "float" | "double" => Self::Inexact,
            "bit" | "enum" | "set" => Self::Numbered,
            "date" | "time" | "datetime" | "timestamp" => Self::Time,
            "char" | "varchar" => Self::Text,
            "binary" | "varbinary" => Self::Bytes,
            "tinytext" | "text" | "mediumtext" | "longtext" => Self::LongText,
            _ => Self::Long,
        }
    }
}

/// A column.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Column {
    name: String,
    kind: Kind,
}

impl Column {
    /// Its name, and its type as `information_schema.COLUMNS.DATA_TYPE` has it.
    pub fn new(name: String, data_type: &str) -> Self {
        Self {
            name,
            kind: Kind::of(data_type),
        }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn quoted(&self) -> String {
        identifier(&self.name)
    }

    /// An expression for the whole value. A length in front, or a hash of fixed length, keeps it apart from NULL and from the columns beside it. It is
    /// NULL if the value is longer than the server can join (`max_allowed_packet`), so that the row has no hash.
    pub(super) fn in_row(&self) -> String {
        let name = identifier(&self.name);
        let value = match self.kind {
            Kind::LongText | Kind::Long => format!("SHA2({name}, 256)"),
            // This function alone gives all bits of a number. As texts, -1e300 and the number next to it are equal.
            Kind::Inexact => format!("ST_AsWKB(POINT({name}, 0))"),
            _ => {
                let bytes = format!("CAST({name} AS BINARY)");
                format!("CONCAT(LENGTH({bytes}), ':', {bytes})")
            }
        };
        format!("IF({name} IS NULL, 'N', {value})")
    }

    /// An expression for the value as ASCII text. [`Column::literal`] makes the value from it again.
    pub(super) fn as_key(&self) -> String {
        let name = identifier(&self.name);
        match self.kind {
            Kind::Number | Kind::Time => format!("CAST({name} AS CHAR)"),
            Kind::Inexact => format!("CAST(CAST({name} AS DOUBLE) AS CHAR)"),
            Kind::Numbered => format!("CAST({name} + 0 AS CHAR)"),
            Kind::Text | Kind::LongText => format!("HEX(CONVERT({name} USING utf8mb4))"),
            Kind::Bytes | Kind::Long => format!("HEX({name})"),
        }
    }

    /// The literal of a key. In a comparison MySQL uses the column's collation, not the literal's.
    pub(super) fn literal(&self, key: &str) -> String {
        match self.kind {
            Kind::Number | Kind::Inexact | Kind::Numbered => key.into(),
            Kind::Time => literal(key),
            Kind::Text | Kind::LongText => format!("_utf8mb4 x'{key}'"),
            Kind::Bytes | Kind::Long => format!("x'{key}'"),
        }
    }

    /// The key as people are shown it.
    pub(super) fn shown(&self, key: &str) -> String {
        match self.kind {
            Kind::Text | Kind::LongText => literal(&shortened(&text_of(key))),
            Kind::Bytes | Kind::Long => format!("0x{}", shortened(key)),
            _ => self.literal(key),
        }
    }
}

fn shortened(text: &str) -> String {
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.into(),
    }
}

/// The text behind hexadecimal UTF-8.
fn text_of(hex: &str) -> String {
    let digits = |pair: &[u8]| {
        std::str::from_utf8(pair)
            .ok()
            .and_then(|pair| u8::from_str_radix(pair, 16).ok())
    };
    let bytes: Vec<u8> = hex.as_bytes().chunks(2).filter_map(digits).collect();
    String::from_utf8_lossy(&bytes).into_owned()
}
