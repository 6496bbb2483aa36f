//! What the transaction at which an applier stopped wants, and what is in its way.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::ops::ControlFlow;
use std::time::Duration;

use jiff::Timestamp;
use mysql_async::Conn;

use crate::decide::conflicts::ConflictingRow;
use crate::mysql::io::binlog::{self};
use crate::mysql::io::connection::{SqlError, ask, column};
use crate::mysql::io::table;
use crate::mysql::quote::identifier;
use crate::mysql::rows::{RowKey, Table};
use crate::mysql::transaction::{Cell, Change, MAX_CHANGES, Place, Transaction};

use super::by_hand::{InTheWay, Mending};
use super::references::{self, TableName};
use super::session::Session;

/// Of the search for a transaction in its upstream's binary log.
const DEADLINE: Duration = Duration::from_secs(20);

/// What was found out about a transaction.
#[derive(Default)]
pub(super) struct Finding {
    /// The rows that are in its way, and its own.
    pub(super) rows: Vec<ConflictingRow>,
    /// Why only a person can settle it, and what to do.
    pub(super) for_a_person: Option<String>,
    /// All tables that it changes.
    pub(super) tables: Vec<TableName>,
    /// It creates what is there already, with the same definition.
    pub(super) identical: bool,
    pub(super) committed: Option<Timestamp>,
}

impl Finding {
    pub(super) fn for_a_person(why: String) -> Self {
        Self {
            for_a_person: Some(why),
            ..Self::default()
        }
    }
}

/// What becomes of one row in a transaction.
struct Effect<'a> {
    was_there: bool,
    after: Option<&'a [Cell]>,
}

/// Reads the transaction where the downstream's applier stopped, and holds it against the member's rows.
pub(super) async fn find(
    at: &mut Session,
    log: Conn,
    mut source: Conn,
    (channel, place): (&str, &Place),
    gtid: &str,
) -> Result<Finding, SqlError> {
    let mut found = None;
    binlog::read(log, place, DEADLINE, |transaction| {
        if transaction.gtid == gtid {
            found = Some(transaction);
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    })
    .await?;
    let Some(transaction) = found else {
        return Ok(Finding::for_a_person(
            "the upstream's binary log does not have it".into(),
        ));
    };
    let finding = match &transaction.statement {
        Some(statement) => match is_identical(at, &mut source, statement, &transaction.schema).await? {
            true => Finding {
                identical: true,
                ..Finding::default()
            },
            false => Finding::for_a_person(format!("it is a statement that failed here: {statement}")),
        },
        None if transaction.is_larger => Finding::for_a_person(format!("it changes more than {MAX_CHANGES} rows")),
        None => changes(at, channel, &transaction).await?,
    };
    Ok(Finding {
        committed: transaction.committed,
        ..finding
    })
}

/// What is in the way of a transaction that changes rows, and whether it may be taken.
async fn changes(at: &mut Session, channel: &str, transaction: &Transaction) -> Result<Finding, SqlError> {
    let mut tables: Vec<TableName> = Vec::new();
    for change in &transaction.changes {
        let name = (change.schema.clone(), change.table.clone());
        if !tables.contains(&name) {
            tables.push(name);
        }
    }
    // Of all that it changes: a row that is not in its way is written at the members behind as well.
    let not_taken = references::why_not_taken(&references::of(&mut at.aside, &tables).await?);
    let mut finding = match (in_the_way(at, transaction).await?, not_taken) {
        (Ok(in_the_way), not_taken) => Finding {
            for_a_person: not_taken.map(|why| {
                let way_out = in_the_way.way_out(&at.name, channel, at.was_fenced);
                format!("{why}. {way_out}")
            }),
            rows: in_the_way.rows,
            ..Finding::default()
        },
        (Err(why), Some(not_taken)) => Finding::for_a_person(format!("{why}; {not_taken}")),
        (Err(why), None) => Finding::for_a_person(why),
    };
    finding.tables = tables;
    Ok(finding)
}

/// The rows of the transaction that exclude rows at the member; or why they cannot be told.
async fn in_the_way(at: &mut Session, transaction: &Transaction) -> Result<Result<InTheWay, String>, SqlError> {
    let mut tables: BTreeMap<(&str, &str), Table> = BTreeMap::new();
    let mut effects: Vec<(RowKey, Effect<'_>)> = Vec::new();
    for change in &transaction.changes {
        let name = (change.schema.as_str(), change.table.as_str());
        let table = match tables.entry(name) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => new.insert(table::read(&mut at.aside, name.0, name.1).await?),
        };
        if let Err(why) = add(&mut effects, table, change) {
            return Ok(Err(why));
        }
    }
    let mut found: Vec<ConflictingRow> = Vec::new();
    let mut mending: Vec<Mending> = Vec::new();
    for (key, effect) in &effects {
        let table = &tables[&(key.schema.as_str(), key.table.as_str())];
        let condition = match table.finds(key) {
            Ok(condition) => condition,
            Err(why) => return Ok(Err(why)),
        };
        let mine = image(&mut at.aside, table, &condition).await?;
        if mine.is_some() != effect.was_there {
            mending.push(match effect.was_there {
                true => Mending::Insert(key.to_string()),
                false => Mending::Delete(format!("DELETE FROM {} WHERE {condition}", table.quoted())),
            });
            found.push(ConflictingRow {
                id: key.id(),
                key: key.clone(),
                mine,
                theirs: effect.after.map(|row| table.describe(row)),
            });
        }
        for condition in table.excluded_by(effect.after.unwrap_or_default()) {
            let others = keys(&mut at.aside, table, &condition).await?;
            for (other, mine) in others
                .into_iter()
                .filter(|(other, _)| !effects.iter().any(|(key, _)| key == other))
            {
                mending.push(Mending::Change(other.to_string()));
                found.push(ConflictingRow {
                    id: other.id(),
                    key: other,
                    mine: Some(mine),
                    theirs: None,
                });
                // Its own row is the other half: one of the two is to be everywhere.
                if !found.iter().any(|row| row.key == *key) {
                    found.push(ConflictingRow {
                        id: key.id(),
                        key: key.clone(),
                        mine: None,
                        theirs: effect.after.map(|row| table.describe(row)),
                    });
                }
            }
        }
    }
    Ok(Ok(InTheWay { rows: found, mending }))
}

/// Adds one change to what the transaction does to each row.
fn add<'a>(effects: &mut Vec<(RowKey, Effect<'a>)>, table: &Table, change: &'a Change) -> Result<(), String> {
    let mut set = |row: &[Cell], was_there: bool, after: Option<&'a [Cell]>| {
        let key = table.key(row)?;
        match effects.iter_mut().find(|(known, _)| *known == key) {
            Some((_, effect)) => effect.after = after,
            None => effects.push((key, Effect { was_there, after })),
        }
        Ok::<(), String>(())
    };
    match (&change.before, &change.after) {
        (Some(before), Some(after)) if table.key(before)? != table.key(after)? => {
            set(before, true, None)?;
            set(after, false, Some(after))
        }
        (Some(before), after) => set(before, true, after.as_deref()),
        (None, Some(after)) => set(after, false, Some(after)),
        (None, None) => Ok(()),
    }
}

/// The row that a condition finds, as JSON.
pub(super) async fn image(
    conn: &mut Conn,
    table: &Table,
    condition: &str,
) -> Result<Option<serde_json::Value>, SqlError> {
    let query = format!(
        "SELECT CAST({} AS CHAR) AS image FROM {} WHERE {condition}",
        table.as_json(),
        table.quoted()
    );
    let rows = ask(conn, &query).await?;
    let text = rows.first().and_then(|row| column::<String>(row, "image"));
    let json = text.map(|text| serde_json::from_str(&text)).transpose();
    json.map_err(|error| SqlError::Outdated(format!("a row of {} as JSON: {error}", table.quoted())))
}

/// Keys of the rows that a condition finds, with the rows as JSON. Only keys of whole numbers and of text are read back.
async fn keys(conn: &mut Conn, table: &Table, condition: &str) -> Result<Vec<(RowKey, serde_json::Value)>, SqlError> {
    let Some(primary) = table.unique.first().filter(|_| table.has_primary_key) else {
        return Ok(Vec::new());
    };
    let columns: Vec<&crate::mysql::rows::Column> = primary.iter().map(|place| &table.columns[*place]).collect();
    let selected = columns.iter().enumerate().map(|(n, column)| {
        let name = identifier(&column.name);
        match column.character_set {
            Some(_) => format!("HEX({name}) AS k{n}"),
            None => format!("CAST({name} AS CHAR) AS k{n}"),
        }
    });
    let query = format!(
        "SELECT {}, CAST({} AS CHAR) AS image FROM {} WHERE {condition}",
        selected.collect::<Vec<_>>().join(", "),
        table.as_json(),
        table.quoted()
    );
    let mut found = Vec::new();
    for row in ask(conn, &query).await? {
        let cells = columns.iter().enumerate().map(|(n, definition)| {
            let text = column::<String>(&row, &format!("k{n}")).unwrap_or_default();
            let cell = match definition.character_set {
                Some(_) => Cell::Bytes(text),
                None => Cell::Number(text),
            };
            (definition.name.clone(), cell)
        });
        let key = RowKey {
            schema: table.schema.clone(),
            table: table.name.clone(),
            columns: cells.collect(),
        };
        let image = column::<String>(&row, "image").unwrap_or_default();
        let image = serde_json::from_str(&image).map_err(|error| SqlError::Outdated(error.to_string()))?;
        found.push((key, image));
    }
    Ok(found)
}

/// A CREATE of a table or a schema that is there already, the same on both sides.
async fn is_identical(at: &mut Session, source: &mut Conn, statement: &str, schema: &str) -> Result<bool, SqlError> {
    let Some((kind, name)) = created(statement, schema) else {
        return Ok(false);
    };
    let show = format!("SHOW CREATE {kind} {name}");
    let mut definitions = Vec::new();
    for conn in [&mut at.aside, source] {
        match ask(conn, &show).await {
            Ok(rows) => definitions.push(
                rows.first()
                    .and_then(|row| row.get::<String, _>(1))
                    .map(without_counter),
            ),
            Err(SqlError::Mysql(mysql_async::Error::Server(_))) => return Ok(false),
            Err(error) => return Err(error),
        }
    }
    Ok(definitions[0].is_some() && definitions[0] == definitions[1])
}

/// `CREATE TABLE [IF NOT EXISTS] name`: kind and quoted name.
fn created(statement: &str, schema: &str) -> Option<(&'static str, String)> {
    let mut words = statement
        .split(|c: char| c.is_whitespace() || c == '(')
        .filter(|word| !word.is_empty());
    if !words.next()?.eq_ignore_ascii_case("CREATE") {
        return None;
    }
    let kind = match words.next()?.to_uppercase().as_str() {
        "TABLE" => "TABLE",
        "DATABASE" | "SCHEMA" => "DATABASE",
        _ => return None,
    };
    let mut name = words.next()?;
    if name.eq_ignore_ascii_case("IF") {
        name = words.nth(2)?;
    }
    let parts: Vec<String> = name.split('.').map(|part| identifier(part.trim_matches('`'))).collect();
    let name = match (kind, parts.as_slice()) {
        ("TABLE", [table]) => format!("{}.{table}", identifier(schema)),
        ("TABLE", [schema, table]) => format!("{schema}.{table}"),
        ("DATABASE", [schema]) => schema.clone(),
        _ => return None,
    };
    Some((kind, name))
}

/// A definition without `AUTO_INCREMENT=n`, which is no part of it.
fn without_counter(definition: String) -> String {
    let words = definition
        .split(' ')
        .filter(|word| !word.starts_with("AUTO_INCREMENT="));
    words.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::{created, without_counter};

    #[test]
    fn what_a_statement_creates() {
        for (statement, expected) in [
            ("CREATE TABLE t (id INT)", Some(("TABLE", "`shop`.`t`"))),
            (
                "create table if not exists `other`.`t`(id INT)",
                Some(("TABLE", "`other`.`t`")),
            ),
            ("CREATE DATABASE a", Some(("DATABASE", "`a`"))),
            ("CREATE SCHEMA IF NOT EXISTS `a`", Some(("DATABASE", "`a`"))),
            ("CREATE USER u", None),
            ("ALTER TABLE t ADD c INT", None),
            ("CREATE TEMPORARY TABLE t (id INT)", None),
        ] {
            let found = created(statement, "shop");
            assert_eq!(
                found.as_ref().map(|(kind, name)| (*kind, name.as_str())),
                expected,
                "{statement}"
            );
        }
    }

    #[test]
    fn a_counter_is_no_part_of_a_definition() {
        let definition = "CREATE TABLE `t` (\n  `id` int\n) ENGINE=InnoDB AUTO_INCREMENT=11 DEFAULT CHARSET=utf8mb4";
        assert_eq!(
            without_counter(definition.into()),
            "CREATE TABLE `t` (\n  `id` int\n) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4"
        );
    }
}
