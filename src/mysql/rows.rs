//! Rows by their keys: from a row image in a binary log to the WHERE that finds the row on any member.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::column::{Column, readable};
use super::quote::{identifier, literal};
use super::transaction::Cell;

/// The primary key of one row. It is the same on every member.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct RowKey {
    /// Schema of the table.
    pub schema: String,
    /// Table.
    pub table: String,
    /// Columns of the primary key with their values, in the order of the key.
    pub columns: Vec<(String, Cell)>,
}

impl RowKey {
    /// Eight hexadecimal digits for this row (FNV-1a), short enough to type into an annotation.
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

/// The definition of a table, as far as finding its rows needs it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Table {
    /// Schema of the table.
    pub schema: String,
    /// Table.
    pub name: String,
    /// All columns, in the order of a row image.
    pub columns: Vec<Column>,
    /// Primary key.
    pub primary: Option<Unique>,
    /// The other unique indexes.
    pub unique: Vec<Unique>,
}

/// A unique index.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Unique {
    /// Its name.
    pub name: String,
    /// What it is over.
    pub parts: Vec<Part>,
}

/// A part of an index.
#[derive(Clone, Debug, PartialEq)]
pub enum Part {
    /// A column, by its place in [`Table::columns`].
    Column(usize),
    /// So many first characters of a text, or bytes of binary data.
    Prefix(usize, u64),
    /// An expression.
    Expression(String),
}

/// How the rows are found that exclude a row.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Excluded {
    /// A WHERE for each unique index.
    pub conditions: Vec<String>,
    /// Unique indexes that rows cannot be found by, and why.
    pub unknown: Vec<String>,
}

impl Table {
    /// `schema`.`table`.
    pub fn quoted(&self) -> String {
        format!("{}.{}", identifier(&self.schema), identifier(&self.name))
    }

    /// Columns of the primary key; for those of which it has a prefix, the length of the prefix.
    fn key_columns(&self) -> Result<Vec<(&Column, Option<u64>)>, String> {
        let primary = self.primary.as_ref();
        let primary = primary.ok_or_else(|| format!("{}.{} has no primary key", self.schema, self.name))?;
        let columns = primary.parts.iter().map(|part| match part {
            Part::Column(place) => Some((self.columns.get(*place)?, None)),
            Part::Prefix(place, length) => Some((self.columns.get(*place)?, Some(*length))),
            Part::Expression(_) => None,
        });
        let columns: Option<Vec<_>> = columns.collect();
        columns.ok_or_else(|| format!("the primary key of {}.{} is over an expression", self.schema, self.name))
    }

    /// The key of a row image.
    ///
    /// # Errors
    /// The reason why the row has no key that finds it on every member.
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
        let of = |column: &Column| {
            let named = self
                .columns
                .iter()
                .zip(row)
                .find(|(known, _)| known.name == column.name);
            column.canonical(named.map_or(&Cell::Null, |(_, cell)| cell))
        };
        self.key_of(of)
    }

    /// The key of a row that was selected by [`Table::selected_key`]; `texts` in the order of the key.
    ///
    /// # Errors
    /// As [`Table::key`].
    pub fn read_key(&self, texts: Vec<String>) -> Result<RowKey, String> {
        let mut texts = texts.into_iter();
        self.key_of(|column| column.read(texts.next().unwrap_or_default()))
    }

    fn key_of(&self, mut of: impl FnMut(&Column) -> Result<Cell, String>) -> Result<RowKey, String> {
        let columns = self.key_columns()?.into_iter().map(|(column, prefix)| {
            let cell = of(column)?;
            let cell = match prefix {
                Some(length) => column.cut(cell, length),
                None => cell,
            };
            Ok((column.name.clone(), cell))
        });
        let key = RowKey {
            schema: self.schema.clone(),
            table: self.name.clone(),
            columns: columns.collect::<Result<_, String>>()?,
        };
        self.finds(&key).map(|_| key)
    }

    /// The SQL of the weights of a key's columns; `None` for a column that has none, see [`Column::weights`].
    ///
    /// # Errors
    /// As [`Table::finds`].
    pub fn weights(&self, key: &RowKey) -> Result<Vec<Option<String>>, String> {
        let columns = key.columns.iter().map(|(name, cell)| {
            let column = self.columns.iter().find(|column| column.name == *name);
            column.map_or(Ok(None), |column| column.weights(cell))
        });
        columns.collect()
    }

    /// The SQL that selects the columns of the primary key for [`Table::read_key`], as `k0`, `k1` and so on.
    ///
    /// # Errors
    /// The table has no key that finds a row.
    pub fn selected_key(&self) -> Result<Vec<String>, String> {
        let columns = self.key_columns()?.into_iter().enumerate();
        Ok(columns
            .map(|(n, (column, _))| format!("{} AS k{n}", column.selected()))
            .collect())
    }

    /// The WHERE that finds the row with this key.
    ///
    /// # Errors
    /// The reason why the key's columns cannot be compared.
    pub fn finds(&self, key: &RowKey) -> Result<String, String> {
        let of_index = self.key_columns().unwrap_or_default();
        let conditions: Result<Vec<String>, String> = key
            .columns
            .iter()
            .map(|(name, cell)| {
                let column = self.columns.iter().find(|column| column.name == *name);
                let column = column.ok_or_else(|| format!("{}.{} has no column {name}", self.schema, self.name))?;
                let prefix = of_index.iter().find(|(known, _)| known.name == *name);
                match prefix {
                    Some((_, Some(length))) => starts_like(column, cell, *length),
                    _ => Ok(format!("{} = {}", identifier(name), column.sql(cell)?)),
                }
            })
            .collect();
        Ok(conditions?.join(" AND "))
    }

    /// How the rows are found that exclude this row through a unique index other than the primary key. An index with a NULL in this row excludes
    /// nothing.
    pub fn excluded_by(&self, row: &[Cell]) -> Excluded {
        let mut excluded = Excluded::default();
        for index in self.unique.iter().filter(|_| !row.is_empty()) {
            let is_null = |part: &Part| match part {
                Part::Column(place) | Part::Prefix(place, _) => row.get(*place) == Some(&Cell::Null),
                Part::Expression(_) => false,
            };
            if index.parts.iter().any(is_null) {
                continue;
            }
            let conditions = index.parts.iter().map(|part| self.same(part, row));
            match conditions.collect::<Result<Vec<_>, String>>() {
                Ok(conditions) => excluded.conditions.push(conditions.join(" AND ")),
                Err(why) => excluded
                    .unknown
                    .push(format!("{} of {}.{}: {why}", index.name, self.schema, self.name)),
            }
        }
        excluded
    }

    /// The condition for rows that have the same value in a part of an index.
    fn same(&self, part: &Part, row: &[Cell]) -> Result<String, String> {
        let at = |place: usize| {
            let cell = self.columns.get(place).zip(row.get(place));
            cell.ok_or_else(|| "the row is shorter".to_owned())
        };
        match part {
            Part::Column(place) => {
                let (column, cell) = at(*place)?;
                Ok(format!("{} = {}", identifier(&column.name), column.sql(cell)?))
            }
            Part::Prefix(place, length) => {
                let (column, cell) = at(*place)?;
                starts_like(column, cell, *length)
            }
            Part::Expression(expression) if expression.to_lowercase().ends_with(" array)") => {
                Err("it is over the elements of an array".into())
            }
            // The server computes it from the values of the row, as it computes it for the index.
            Part::Expression(expression) => {
                let named = self.columns.iter().zip(row);
                let named = named.filter(|(column, _)| expression.contains(&identifier(&column.name)));
                let values = named.map(|(column, cell)| {
                    let value = column.typed(cell)?;
                    Ok(format!("{value} AS {}", identifier(&column.name)))
                });
                let values = values.collect::<Result<Vec<_>, String>>()?.join(", ");
                Ok(format!(
                    "({expression}) = (SELECT {expression} FROM (SELECT {values}) AS image)"
                ))
            }
        }
    }

    /// The SQL expression for a row as JSON. MySQL 9.7.4 cuts JSON off that has a text in another character set than utf8mb4, utf16 for example.
    pub fn as_json(&self) -> String {
        let pairs = self.columns.iter().map(|column| {
            let (key, value) = (literal(&column.name), identifier(&column.name));
            match (column.data_type.as_str(), column.character_set.as_deref()) {
                // Error 1210: JSON takes no VECTOR.
                ("vector", _) => format!("{key}, HEX({value})"),
                (_, None | Some("utf8mb4")) => format!("{key}, {value}"),
                (_, Some(_)) => format!("{key}, CONVERT({value} USING utf8mb4)"),
            }
        });
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

    /// A row image as JSON, for people.
    pub fn describe(&self, row: &[Cell]) -> Value {
        let pairs = self.columns.iter().zip(row).map(|(column, cell)| {
            let value = match cell {
                Cell::Null => Value::Null,
                cell => Value::String(readable(&column.canonical(cell).unwrap_or_else(|_| cell.clone()))),
            };
            (column.name.clone(), value)
        });
        Value::Object(pairs.collect::<Map<_, _>>())
    }
}

/// The condition for rows whose first characters or bytes are those of a value. The range lets the server use the index, which a function does not.
fn starts_like(column: &Column, cell: &Cell, length: u64) -> Result<String, String> {
    let (name, start) = (
        identifier(&column.name),
        format!("LEFT({}, {length})", column.sql(cell)?),
    );
    let greatest = match column.character_set.as_deref() {
        None | Some("binary") => "X'FF'",
        Some("utf8mb4") => "_utf8mb4 X'F48FBFBF'",
        Some("utf8mb3") => "_utf8mb3 X'EFBFBF'",
        Some(set) => return Err(format!("a prefix of text in {set} is not looked for")),
    };
    Ok(format!(
        "{name} BETWEEN {start} AND CONCAT({start}, REPEAT({greatest}, 4)) AND LEFT({name}, {length}) = {start}"
    ))
}

#[cfg(test)]
mod tests;
