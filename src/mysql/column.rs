//! Values of one column: as a binary log has them, as a key has them, and as SQL.
//!
//! A key has the same form whether it was read from a binary log or from a table, so that two keys of one row are equal.

use super::quote::{identifier, literal};
use super::transaction::Cell;

/// One column of a table.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// `DATA_TYPE` in information_schema.
    pub data_type: String,
    /// The most bytes of a text or of binary data.
    pub octets: u64,
    /// Digits of a second, where it has a time.
    pub fraction: u64,
    /// Character set, where it has one.
    pub character_set: Option<String>,
    /// Collation, where it has one.
    pub collation: Option<String>,
    /// Whether it is a number without a sign.
    pub unsigned: bool,
    /// Whether its values are computed from other columns.
    pub generated: bool,
}

impl Column {
    /// A value from a binary log in the form that a key has. The binary log leaves out trailing zero bytes of BINARY, and has the bits of BIT and
    /// SET as bytes.
    ///
    /// # Errors
    /// The value is not one of this type.
    pub fn canonical(&self, cell: &Cell) -> Result<Cell, String> {
        let number = |bytes: Option<Vec<u8>>| {
            let bytes = bytes.filter(|bytes| bytes.len() <= 8);
            let bytes = bytes.ok_or_else(|| format!("{cell:?} is not a {}", self.data_type))?;
            let number = bytes.iter().fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
            Ok::<_, String>(Cell::Number(number.to_string()))
        };
        Ok(match (self.data_type.as_str(), cell) {
            ("binary", Cell::Bytes(hex)) => {
                let digits = usize::try_from(self.octets).unwrap_or_default() * 2;
                Cell::Bytes(format!("{hex:0<digits$}"))
            }
            // The first byte of a BIT has the highest bits, the first byte of a SET the lowest.
            ("bit", Cell::Bytes(hex)) => number(decoded(hex))?,
            ("set", Cell::Bytes(hex)) => number(decoded(hex).map(|bytes| bytes.into_iter().rev().collect()))?,
            ("float", Cell::Other(text)) => Cell::Other(float(text.parse::<f32>())?),
            ("double", Cell::Other(text)) => Cell::Other(float(text.parse::<f64>())?),
            // The reader of mysql_common 0.37 takes three bytes with a sign for a number without one.
            ("mediumint", Cell::Number(text)) if !self.unsigned => {
                let number: i32 = text.parse().map_err(|_| format!("{text:?} is not a number"))?;
                let number = if number >= 1 << 23 { number - (1 << 24) } else { number };
                Cell::Number(number.to_string())
            }
            // The reader adds 1900 to the byte of the year 0000.
            ("year", Cell::Bytes(hex)) if ascii(hex).as_deref() == Some("1900") => Cell::Bytes(encoded("0000")),
            ("decimal", Cell::Bytes(hex)) => {
                let text = ascii(hex).ok_or_else(|| format!("{hex:?} is not a number"))?;
                let (sign, digits) = text
                    .strip_prefix('-')
                    .map_or(("", text.as_str()), |digits| ("-", digits));
                let digits = digits.trim_start_matches('0');
                let zero = if digits.is_empty() || digits.starts_with('.') {
                    "0"
                } else {
                    ""
                };
                Cell::Bytes(encoded(&format!("{sign}{zero}{digits}")))
            }
            _ => cell.clone(),
        })
    }

    /// A value as SQL that a comparison with the column finds.
    ///
    /// # Errors
    /// The value cannot be compared, or is not one of this type.
    pub fn sql(&self, cell: &Cell) -> Result<String, String> {
        let ascii = |hex: &str| number(&ascii(hex).ok_or_else(|| format!("{hex:?} is not a number"))?);
        let from_unix = |seconds: String| match seconds.as_str() {
            "0" => "'0000-00-00 00:00:00'".into(),
            seconds => format!("FROM_UNIXTIME({seconds})"),
        };
        Ok(match (self.data_type.as_str(), &self.canonical(cell)?) {
            ("timestamp", Cell::Number(seconds)) => from_unix(number(seconds)?),
            ("timestamp", Cell::Bytes(hex)) => from_unix(ascii(hex)?),
            ("decimal" | "year", Cell::Bytes(hex)) => ascii(hex)?,
            ("tinyint" | "smallint" | "mediumint" | "int" | "bigint" | "enum" | "set" | "bit", Cell::Number(text)) => {
                number(text)?
            }
            ("float", Cell::Other(text)) => format!("CAST({} AS FLOAT)", number(text)?),
            ("double", Cell::Other(text)) => number(text)?,
            ("date" | "datetime" | "time", Cell::Time(text)) => literal(text),
            ("binary" | "varbinary" | "tinyblob" | "blob" | "mediumblob" | "longblob", Cell::Bytes(hex)) => {
                hexadecimal(hex)?
            }
            ("char" | "varchar" | "tinytext" | "text" | "mediumtext" | "longtext", Cell::Bytes(hex)) => {
                format!("_{} {}", plain(self.character_set.as_deref()), hexadecimal(hex)?)
            }
            (data_type, _) => return Err(format!("a key of type {data_type} is not compared ({})", self.name)),
        })
    }

    /// A value as SQL that has the type of the column, for an expression that is computed from it.
    ///
    /// # Errors
    /// As [`Column::sql`], and for ENUM, SET and BIT, which SQL has no values of.
    pub fn typed(&self, cell: &Cell) -> Result<String, String> {
        if *cell == Cell::Null {
            return Ok("NULL".into());
        }
        Ok(match (self.data_type.as_str(), cell) {
            ("json", Cell::Other(text)) => match serde_json::from_str::<serde_json::Value>(text) {
                Ok(_) => format!("CAST({} AS JSON)", literal(text)),
                // A date, for example: the text is the reader's error.
                Err(_) => return Err(format!("the JSON has no literal ({text})")),
            },
            ("enum" | "set" | "bit", _) => return Err(format!("a {} has no literal", self.data_type)),
            ("date", _) => format!("CAST({} AS DATE)", self.sql(cell)?),
            ("time", _) => format!("CAST({} AS TIME({}))", self.sql(cell)?, self.fraction),
            ("datetime" | "timestamp", _) => format!("CAST({} AS DATETIME({}))", self.sql(cell)?, self.fraction),
            _ => match &self.collation {
                Some(collation) => format!("{} COLLATE {}", self.sql(cell)?, plain(Some(collation))),
                None => self.sql(cell)?,
            },
        })
    }

    /// The SQL of what the collation compares of a text, in hexadecimal digits: two texts are one value to an index if it is the same. `None` where
    /// the value itself is compared.
    ///
    /// # Errors
    /// As [`Column::sql`].
    pub fn weights(&self, cell: &Cell) -> Result<Option<String>, String> {
        let collation = self.collation.as_deref().unwrap_or("binary");
        let is_text = matches!(
            self.data_type.as_str(),
            "char" | "varchar" | "tinytext" | "text" | "mediumtext" | "longtext"
        );
        if !is_text || collation == "binary" || collation.ends_with("_0900_bin") {
            return Ok(None);
        }
        let text = format!("{} COLLATE {}", self.sql(cell)?, plain(Some(collation)));
        // All collations but those of UCA 9.0.0 ignore spaces at the end (PAD SPACE).
        Ok(Some(match collation.contains("_0900_") {
            true => format!("HEX(WEIGHT_STRING({text}))"),
            false => format!("HEX(WEIGHT_STRING(RTRIM({text})))"),
        }))
    }

    /// The SQL that selects the column as a text that [`Column::read`] takes.
    pub fn selected(&self) -> String {
        let name = identifier(&self.name);
        match self.data_type.as_str() {
            "enum" | "set" | "bit" => format!("CAST(CAST({name} AS UNSIGNED) AS CHAR)"),
            // As FLOAT it would have six digits only.
            "float" => format!("CAST(CAST({name} AS DOUBLE) AS CHAR)"),
            "timestamp" => format!("CAST(UNIX_TIMESTAMP({name}) AS CHAR)"),
            "binary" | "varbinary" | "tinyblob" | "blob" | "mediumblob" | "longblob" => format!("HEX({name})"),
            _ if self.character_set.is_some() => format!("HEX({name})"),
            _ => format!("CAST({name} AS CHAR)"),
        }
    }

    /// A value that was selected, in the form that a key has.
    ///
    /// # Errors
    /// The text is not a value of this type.
    pub fn read(&self, text: String) -> Result<Cell, String> {
        let cell = match self.data_type.as_str() {
            "tinyint" | "smallint" | "mediumint" | "int" | "bigint" | "enum" | "set" | "bit" => Cell::Number(text),
            // From DOUBLE to FLOAT is exact for what was a FLOAT before.
            "float" | "double" => Cell::Other(text),
            "year" | "decimal" => Cell::Bytes(encoded(&text)),
            "timestamp" => Cell::Bytes(encoded(&with_six_digits(&text))),
            "date" => Cell::Time(text),
            "datetime" => {
                let text = with_six_digits(&text);
                Cell::Time(text.strip_suffix(" 00:00:00").unwrap_or(&text).to_owned())
            }
            "time" => {
                let text = with_six_digits(&text);
                let (sign, text) = text.strip_prefix('-').map_or(("", text.as_str()), |text| ("-", text));
                Cell::Time(format!(
                    "{sign}{text:0>width$}",
                    width = text.len().max("000:00:00".len() + fraction(text))
                ))
            }
            _ => Cell::Bytes(text),
        };
        self.canonical(&cell)
    }

    /// A value cut to the first characters of a text, or the first bytes of binary data, as an index over a prefix has it. A text in a character set
    /// whose characters this does not know stays whole.
    pub fn cut(&self, cell: Cell, length: u64) -> Cell {
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        let Cell::Bytes(hex) = &cell else { return cell };
        match self.character_set.as_deref() {
            None | Some("latin1" | "ascii" | "binary") => {
                Cell::Bytes(hex.chars().take(length.saturating_mul(2)).collect())
            }
            Some("utf8mb4" | "utf8mb3") => match decoded(hex).map(String::from_utf8) {
                Some(Ok(text)) => Cell::Bytes(encoded(&text.chars().take(length).collect::<String>())),
                _ => cell,
            },
            Some(_) => cell,
        }
    }
}

/// A number of a binary log or a record, checked: it becomes SQL.
fn number(text: &str) -> Result<String, String> {
    match text.parse::<f64>().is_ok() && text.bytes().all(|byte| byte.is_ascii_digit() || b"-.e".contains(&byte)) {
        true => Ok(text.to_owned()),
        false => Err(format!("{text:?} is not a number")),
    }
}

fn float<F: std::fmt::LowerExp, E: std::fmt::Display>(number: Result<F, E>) -> Result<String, String> {
    match number {
        Ok(number) => Ok(format!("{number:e}")),
        Err(error) => Err(error.to_string()),
    }
}

/// A second with all six digits of its fraction, or with none.
fn with_six_digits(text: &str) -> String {
    match text.split_once('.') {
        Some((whole, fraction)) if fraction.bytes().any(|digit| digit != b'0') => format!("{whole}.{fraction:0<6}"),
        Some((whole, _)) => whole.to_owned(),
        None => text.to_owned(),
    }
}

/// Length of the fraction of a second, point included.
fn fraction(text: &str) -> usize {
    text.find('.').map_or(0, |point| text.len() - point)
}

/// The name of a character set or collation, checked: it becomes SQL.
fn plain(name: Option<&str>) -> &str {
    name.filter(|name| name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_'))
        .unwrap_or("binary")
}

fn hexadecimal(hex: &str) -> Result<String, String> {
    decoded(hex)
        .map(|_| format!("X'{hex}'"))
        .ok_or_else(|| format!("{hex:?} is not hexadecimal"))
}

fn encoded(text: &str) -> String {
    text.bytes().map(|byte| format!("{byte:02X}")).collect()
}

fn ascii(hex: &str) -> Option<String> {
    String::from_utf8(decoded(hex)?).ok().filter(|text| text.is_ascii())
}

fn decoded(hex: &str) -> Option<Vec<u8>> {
    let pairs = hex.as_bytes().chunks(2);
    pairs
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok().filter(|pair| pair.len() == 2)?, 16).ok())
        .collect()
}

/// A value for people.
pub(super) fn readable(cell: &Cell) -> String {
    match cell {
        Cell::Null => "NULL".into(),
        Cell::Number(text) | Cell::Time(text) | Cell::Other(text) => text.clone(),
        Cell::Bytes(hex) => match decoded(hex).map(String::from_utf8) {
            Some(Ok(text)) if !text.contains(char::is_control) => text,
            _ => format!("0x{hex}"),
        },
    }
}

#[cfg(test)]
mod tests;
