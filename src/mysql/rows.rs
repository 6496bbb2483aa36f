//! Rows by their primary key: from a row image in a binary log to the text that finds the row on any member.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::quote::{identifier, literal};
use super::transaction::Cell;

/// The primary key of one row. It says the same on every member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RowKey {
    /// Schema of the table.
    pub schema: String,
    /// Table.
    pub table: String,
    /// Columns of the primary key with their values, in the order of the key.
    pub columns: Vec<(String, Cell)>,
}

impl RowKey {
    /// Eight hexadecimal digits that stand for this row (FNV-1a): short enough to be typed into an annotation.
    pub fn id(&self) -> String {
        let hash = self.to_string().bytes().fold(0x811c_9dc5_u32, |hash, byte| {
            (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
        });
        format!("{hash:08x}")
    }
}

impl fmt::Display for RowKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{} (", self.schema, self.table)?;
        for (n, (name, cell)) in self.columns.iter().enumerate() {
            let comma = if n > 0 { ", " } else { "" };
            write!(f, "{comma}{name}={}", readable(cell))?;
        }
        write!(f, ")")
    }
}

/// What has to be known of a table to find its rows.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Table {
    /// Schema of the table.
    pub schema: String,
    /// Table.
    pub name: String,
    /// All columns, in the order of a row image.
    pub columns: Vec<Column>,
    /// Unique indexes over whole columns, as places in `columns`; the primary key first.
    pub unique: Vec<Vec<usize>>,
    /// Whether the first of `unique` is a primary key.
    pub has_primary_key: bool,
}

/// One column of a table.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// `DATA_TYPE` in information_schema.
    pub data_type: String,
    /// Character set, where it has one.
    pub character_set: Option<String>,
    /// Its values are computed from those of others.
    pub generated: bool,
}

impl Table {
    /// `schema`.`table`.
    pub fn quoted(&self) -> String {
        format!("{}.{}", identifier(&self.schema), identifier(&self.name))
    }

    /// The key of a row image.
    ///
    /// # Errors
    /// Why the row has no key that finds it on every member.
    pub fn key(&self, row: &[Cell]) -> Result<RowKey, String> {
        if row.len() != self.columns.len() {
            return Err(format!(
                "{}.{} has {} columns here and {} in the transaction",
                self.schema,
                self.name,
                self.columns.len(),
                row.len()
            ));
        }
        let primary = self.unique.first().filter(|_| self.has_primary_key);
        let primary = primary.ok_or_else(|| format!("{}.{} has no primary key", self.schema, self.name))?;
        let key = RowKey {
            schema: self.schema.clone(),
            table: self.name.clone(),
            columns: primary
                .iter()
                .map(|place| (self.columns[*place].name.clone(), row[*place].clone()))
                .collect(),
        };
        self.finds(&key).map(|_| key)
    }

    /// The WHERE that finds the row with this key.
    ///
    /// # Errors
    /// Why there is none.
    pub fn finds(&self, key: &RowKey) -> Result<String, String> {
        let conditions: Result<Vec<String>, String> = key
            .columns
            .iter()
            .map(|(name, cell)| {
                let column = self.columns.iter().find(|column| column.name == *name);
                let column = column.ok_or_else(|| format!("{}.{} has no column {name}", self.schema, self.name))?;
                equals(column, cell)
            })
            .collect();
        Ok(conditions?.join(" AND "))
    }

    /// The WHERE for rows that this row cannot be beside, by another unique index than the primary key. Without those with a NULL, which
    /// excludes nothing, and those whose values cannot be compared.
    pub fn excluded_by(&self, row: &[Cell]) -> Vec<String> {
        let index = |places: &Vec<usize>| {
            let conditions: Result<Vec<String>, String> = places
                .iter()
                .map(|place| match row.get(*place) {
                    Some(cell) => equals(&self.columns[*place], cell),
                    None => Err("the row is shorter".into()),
                })
                .collect();
            conditions.ok().map(|conditions| conditions.join(" AND "))
        };
        self.unique
            .iter()
            .skip(usize::from(self.has_primary_key))
            .filter_map(index)
            .collect()
    }

    /// The expression for a row as JSON, in MySQL's own words.
    pub fn as_json(&self) -> String {
        let pairs = self
            .columns
            .iter()
            .map(|column| format!("{}, {}", literal(&column.name), identifier(&column.name)));
        format!("JSON_OBJECT({})", pairs.collect::<Vec<_>>().join(", "))
    }

    /// The columns that an INSERT may name.
    pub fn stored_columns(&self) -> String {
        let stored = self.columns.iter().filter(|column| !column.generated);
        stored
            .map(|column| identifier(&column.name))
            .collect::<Vec<_>>()
            .join(", ")
    }

    /// A row image for people.
    pub fn describe(&self, row: &[Cell]) -> Value {
        let pairs = self.columns.iter().zip(row).map(|(column, cell)| {
            let value = match cell {
                Cell::Null => Value::Null,
                cell => Value::String(readable(cell)),
            };
            (column.name.clone(), value)
        });
        Value::Object(pairs.collect::<Map<_, _>>())
    }
}

fn equals(column: &Column, cell: &Cell) -> Result<String, String> {
    let name = identifier(&column.name);
    let number = |text: &str| match !text.is_empty()
        && text.bytes().all(|byte| byte.is_ascii_digit() || b"-.".contains(&byte))
    {
        true => Ok(text.to_owned()),
        false => Err(format!("{text:?} is not a number")),
    };
    let ascii = |hex: &str| match decoded(hex).map(String::from_utf8) {
        Some(Ok(text)) => number(&text),
        _ => Err(format!("{hex:?} is not a number")),
    };
    let value = match (column.data_type.as_str(), cell) {
        ("timestamp", Cell::Number(seconds)) => format!("FROM_UNIXTIME({})", number(seconds)?),
        ("timestamp", Cell::Bytes(hex)) => format!("FROM_UNIXTIME({})", ascii(hex)?),
        ("decimal" | "year", Cell::Bytes(hex)) => ascii(hex)?,
        ("tinyint" | "smallint" | "mediumint" | "int" | "bigint" | "enum", Cell::Number(text)) => number(text)?,
        ("date" | "datetime" | "time", Cell::Time(text)) => literal(text),
        ("binary" | "varbinary" | "tinyblob" | "blob" | "mediumblob" | "longblob", Cell::Bytes(hex)) => {
            hexadecimal(hex)?
        }
        ("char" | "varchar" | "tinytext" | "text" | "mediumtext" | "longtext", Cell::Bytes(hex)) => {
            let set = column.character_set.as_deref().unwrap_or("binary");
            let plain = set.bytes().all(|byte| byte.is_ascii_alphanumeric());
            let introducer = if plain { set } else { "binary" };
            format!("_{introducer} {}", hexadecimal(hex)?)
        }
        (data_type, _) => return Err(format!("a key of type {data_type} is not compared ({})", column.name)),
    };
    Ok(format!("{name} = {value}"))
}

fn hexadecimal(hex: &str) -> Result<String, String> {
    decoded(hex)
        .map(|_| format!("X'{hex}'"))
        .ok_or_else(|| format!("{hex:?} is not hexadecimal"))
}

fn decoded(hex: &str) -> Option<Vec<u8>> {
    let pairs = hex.as_bytes().chunks(2);
    pairs
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok().filter(|pair| pair.len() == 2)?, 16).ok())
        .collect()
}

fn readable(cell: &Cell) -> String {
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
mod tests {
    use super::*;

    fn column(name: &str, data_type: &str, character_set: Option<&str>) -> Column {
        Column {
            name: name.into(),
            data_type: data_type.into(),
            character_set: character_set.map(Into::into),
            generated: false,
        }
    }

    fn orders() -> Table {
        Table {
            schema: "shop".into(),
            name: "orders".into(),
            columns: vec![
                column("id", "bigint", None),
                column("code", "varchar", Some("latin1")),
                column("price", "double", None),
            ],
            unique: vec![vec![0], vec![1]],
            has_primary_key: true,
        }
    }

    fn row() -> Vec<Cell> {
        vec![
            Cell::Number("-7".into()),
            Cell::Bytes("E427".into()),
            Cell::Other("1.5".into()),
        ]
    }

    #[test]
    fn a_row_is_found_by_its_key_and_by_what_it_excludes() {
        let key = orders().key(&row()).unwrap();
        assert_eq!(key.to_string(), "shop.orders (id=-7)");
        assert_eq!(orders().finds(&key).unwrap(), "`id` = -7");
        assert_eq!(orders().excluded_by(&row()), ["`code` = _latin1 X'E427'"]);
        let without = vec![Cell::Number("1".into()), Cell::Null, Cell::Null];
        assert!(orders().excluded_by(&without).is_empty(), "NULL excludes nothing");
    }

    #[test]
    fn an_id_is_the_same_for_the_same_row_only() {
        let id = |number: &str| {
            let mut row = row();
            row[0] = Cell::Number(number.into());
            orders().key(&row).unwrap().id()
        };
        assert_eq!(id("7"), id("7"));
        assert_ne!(id("7"), id("8"));
        assert_eq!(id("7").len(), 8);
    }

    #[test]
    fn what_was_written_into_the_record_by_somebody_else_does_not_become_sql() {
        for cell in [
            Cell::Number("1 OR 1=1".into()),
            Cell::Number(String::new()),
            Cell::Bytes("00') OR (1=1".into()),
            Cell::Bytes("0".into()),
        ] {
            for (name, data_type) in [
                ("id", "bigint"),
                ("code", "varchar"),
                ("t", "timestamp"),
                ("d", "decimal"),
            ] {
                let column = column(name, data_type, None);
                assert!(equals(&column, &cell).is_err(), "{cell:?} as {data_type}");
            }
        }
        let time = equals(&column("at", "datetime", None), &Cell::Time("2026-01-01' OR '1".into())).unwrap();
        assert_eq!(time, r"`at` = '2026-01-01\' OR \'1'");
    }

    #[test]
    fn what_cannot_be_a_key_is_said() {
        let mut table = orders();
        table.unique = vec![vec![2]];
        assert!(table.key(&row()).unwrap_err().contains("double"));
        table.has_primary_key = false;
        assert!(table.key(&row()).unwrap_err().contains("no primary key"));
        assert!(orders().key(&row()[..2]).unwrap_err().contains("3 columns here and 2"));
    }
}
