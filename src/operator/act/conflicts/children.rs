//! Compares the rows that reference the rows of a conflict by a foreign key: nobody else would see that an action of a foreign key was carried out
//! at some members only.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use mysql_async::Conn;
use serde_json::Value;

use crate::decide::conflicts::ConflictingRow;
use crate::mysql::io::connection::{SqlError, ask, required};
use crate::mysql::io::table;
use crate::mysql::quote::{identifier, literal};
use crate::mysql::rows::{RowKey, Table};

use super::located::{LocatedRow, locate};
use super::session::{Session, in_step};

/// Rows of one table that one query looks for.
const AT_ONCE: usize = 100;
/// How often rows are looked at that differ. Clients may insert and delete them meanwhile: what differs at every look is no such row.
const LOOKS: usize = 3;
/// How long all of it may take. An operator that renews a writer's lease waits for it.
const MOST: Duration = Duration::from_secs(5);
/// Milliseconds that a query has. Each foreign key has an index, so it reads little else than the rows.
const TIME: u16 = 2_000;
/// How many foreign keys are followed one after the other.
const DEEPEST: usize = 8;
/// Parts that the rows of a query are divided into, so that its answer has a limit.
const PARTS: u16 = 1_024;

/// Rows that reference rows of a conflict, directly or over rows between them, and the query that answers a checksum of their primary keys for
/// each part of them that is not empty.
struct Children {
    /// `schema.table` of the rows, and of those that they reference.
    names: (String, String),
    query: String,
}

impl Children {
    fn are_too_many(&self) -> SqlError {
        let (child, parent) = &self.names;
        SqlError::Outdated(format!(
            "those of {child} that reference {parent} are more than can be read in {} s; compare them, and say that they are right by the word 'settled'",
            MOST.as_secs()
        ))
    }
}

/// What differs between members; `None`: nothing.
pub(super) async fn differing(
    sessions: &mut [Session],
    at: usize,
    rows: &[ConflictingRow],
) -> Result<Option<String>, SqlError> {
    let Some(first) = sessions.get_mut(at) else {
        return Ok(None);
    };
    let mut spent = Duration::ZERO;
    for children in of(&mut first.aside, rows).await? {
        if differ(sessions, &children, &mut spent).await? {
            let (child, parent) = &children.names;
            return Ok(Some(format!(
                "the rows of the conflict are equal, but the rows of {child} that reference {parent} are not the same on all members: insert or \
                 delete them where that is wrong, with sql_log_bin = 0 and foreign_key_checks = 0"
            )));
        }
    }
    Ok(None)
}

/// Whether some part of them differs at every look.
async fn differ(sessions: &mut [Session], children: &Children, spent: &mut Duration) -> Result<bool, SqlError> {
    let mut always = look(sessions, children, spent).await?;
    for _ in 1..LOOKS {
        if always.is_empty() {
            break;
        }
        in_step(sessions).await?;
        always = &always & &look(sessions, children, spent).await?;
    }
    Ok(!always.is_empty())
}

/// The parts that are not the same at all members now.
async fn look(sessions: &mut [Session], children: &Children, spent: &mut Duration) -> Result<BTreeSet<u64>, SqlError> {
    let mut members = Vec::new();
    for session in sessions {
        if *spent > MOST {
            return Err(children.are_too_many());
        }
        let begun = Instant::now();
        members.push(parts(&mut session.aside, children).await?);
        *spent += begun.elapsed();
    }
    Ok(unlike(&members))
}

/// All tables whose rows reference rows of the conflict, with queries that find those rows.
async fn of(conn: &mut Conn, conflicting: &[ConflictingRow]) -> Result<Vec<Children>, SqlError> {
    let located = locate(conn, conflicting.iter()).await?;
    // Only what the conflict can have touched is looked at.
    let mut tables: BTreeMap<String, Vec<&LocatedRow>> = BTreeMap::new();
    for row in &located {
        tables.entry(row.table.quoted()).or_default().push(row);
    }
    let mut all = Vec::new();
    for rows in tables.values() {
        let Some(parent) = rows.first().map(|row| &row.table) else {
            continue;
        };
        for key in references(conn, parent).await? {
            let touched: Vec<&LocatedRow> = rows
                .iter()
                .copied()
                .filter(|row| key.is_touched_by(row, conflicting))
                .collect();
            for rows in touched.chunks(AT_ONCE) {
                let condition = key.of(rows).map_err(SqlError::Outdated)?;
                descend(conn, &key, condition, &mut all).await?;
            }
        }
    }
    Ok(all)
}

/// Adds the rows of a table that the condition finds, and what references them in turn. A foreign key is followed once.
async fn descend(conn: &mut Conn, key: &Reference, condition: String, all: &mut Vec<Children>) -> Result<(), SqlError> {
    let mut seen = BTreeSet::from([key.name.clone()]);
    let mut next = vec![(key.clone(), condition, 1)];
    while let Some((key, condition, depth)) = next.pop() {
        if depth < DEEPEST {
            for below in references(conn, &key.child).await? {
                if seen.insert(below.name.clone()) {
                    let condition = below.of_rows(&condition);
                    next.push((below, condition, depth + 1));
                }
            }
        }
        all.push(Children {
            names: (name(&key.child), name(&key.parent)),
            query: checksums(&key.child, &condition),
        });
    }
    Ok(())
}

/// A foreign key.
#[derive(Clone)]
struct Reference {
    /// Its schema, its table, its own name.
    name: [String; 3],
    parent: Table,
    child: Table,
    /// Columns of the child with those of the parent that they reference.
    columns: Vec<(String, String)>,
}

impl Reference {
    /// Whether the conflict can have had an action of this foreign key carried out: by the deletion of the row, or by another value in what is
    /// referenced.
    fn is_touched_by(&self, row: &LocatedRow, conflicting: &[ConflictingRow]) -> bool {
        let images = conflicting.iter().filter(|other| other.id == row.id);
        images.into_iter().any(|row| match (&row.mine, &row.theirs) {
            // One side has deleted it.
            (_, None) | (None, _) => true,
            (Some(mine), Some(theirs)) => self.columns.iter().any(|(_, parent)| {
                let both = mine.get(parent).zip(theirs.get(parent));
                // Of a large row there is only a digest.
                both.is_none_or(|(mine, theirs)| text(mine) != text(theirs))
            }),
        })
    }

    /// The condition for rows that reference these. Their keys say what those have, if the foreign key is over columns of them; else the rows, as far
    /// as they are there.
    fn of(&self, rows: &[&LocatedRow]) -> Result<String, String> {
        let keys: Option<Vec<RowKey>> = rows.iter().map(|row| self.referencing(row)).collect();
        match keys {
            Some(keys) => {
                let conditions: Result<Vec<String>, String> = keys.iter().map(|key| self.child.finds(key)).collect();
                Ok(format!("({})", conditions?.join(" OR ")))
            }
            None => {
                let conditions: Vec<String> = rows.iter().map(|row| format!("({})", row.condition)).collect();
                Ok(self.of_rows(&conditions.join(" OR ")))
            }
        }
    }

    fn referencing(&self, row: &LocatedRow) -> Option<RowKey> {
        let value = |(child, parent): &(String, String)| {
            let known = row.key.columns.iter().find(|(name, _)| name == parent);
            known.map(|(_, cell)| (child.clone(), cell.clone()))
        };
        Some(RowKey {
            schema: self.child.schema.clone(),
            table: self.child.name.clone(),
            columns: self.columns.iter().map(value).collect::<Option<_>>()?,
        })
    }

    /// The condition for rows that reference those which a condition finds.
    fn of_rows(&self, condition: &str) -> String {
        let list = |of: fn(&(String, String)) -> &String| {
            let names: Vec<String> = self.columns.iter().map(|pair| identifier(of(pair))).collect();
            names.join(", ")
        };
        let (own, theirs) = (list(|(child, _)| child), list(|(_, parent)| parent));
        format!(
            "(({own}) IN (SELECT {theirs} FROM {} WHERE {condition}))",
            self.parent.quoted()
        )
    }
}

/// The foreign keys that reference a table.
async fn references(conn: &mut Conn, parent: &Table) -> Result<Vec<Reference>, SqlError> {
    let query = format!(
        "SELECT TABLE_SCHEMA AS db, TABLE_NAME AS name, CONSTRAINT_NAME AS fk, COLUMN_NAME AS own, REFERENCED_COLUMN_NAME AS theirs \
         FROM information_schema.KEY_COLUMN_USAGE WHERE REFERENCED_TABLE_SCHEMA = {} AND REFERENCED_TABLE_NAME = {} \
         ORDER BY TABLE_SCHEMA, TABLE_NAME, CONSTRAINT_NAME, ORDINAL_POSITION",
        literal(&parent.schema),
        literal(&parent.name)
    );
    let mut keys: BTreeMap<[String; 3], Vec<(String, String)>> = BTreeMap::new();
    for row in ask(conn, &query).await? {
        let key = [required(&row, "db")?, required(&row, "name")?, required(&row, "fk")?];
        let columns = (required(&row, "own")?, required(&row, "theirs")?);
        keys.entry(key).or_default().push(columns);
    }
    let mut all = Vec::new();
    for (name, columns) in keys {
        let [schema, table, _] = &name;
        all.push(Reference {
            parent: parent.clone(),
            child: table::read(conn, schema, table).await?,
            name,
            columns,
        });
    }
    Ok(all)
}

/// The query for the rows that a condition finds: a number and a checksum of their primary keys, for each part.
fn checksums(table: &Table, condition: &str) -> String {
    // Without a primary key a row is told by all its columns.
    let columns = table.selected_key();
    let columns = columns.unwrap_or_else(|_| vec![format!("{} AS k0", table.as_json())]);
    let names: Vec<String> = (0..columns.len()).map(|n| format!("k{n}")).collect();
    format!(
        "SELECT /*+ MAX_EXECUTION_TIME({TIME}) */ CRC32(h) % {PARTS} AS part, \
         CONCAT(COUNT(*), ' ', SUM(CAST(CONV(LEFT(h, 15), 16, 10) AS UNSIGNED))) AS checksum \
         FROM (SELECT SHA2(CONCAT_WS(',', {}), 256) AS h FROM (SELECT {} FROM {} WHERE {condition}) AS found) AS hashes GROUP BY part",
        names.join(", "),
        columns.join(", "),
        table.quoted(),
    )
}

async fn parts(conn: &mut Conn, children: &Children) -> Result<BTreeMap<u64, String>, SqlError> {
    let rows = match ask(conn, &children.query).await {
        // ER_QUERY_TIMEOUT: the next attempt would take as long.
        Err(SqlError::Mysql(mysql_async::Error::Server(error))) if error.code == 3024 => {
            return Err(children.are_too_many());
        }
        rows => rows?,
    };
    let part = |row| Ok((required(row, "part")?, required(row, "checksum")?));
    rows.iter().map(part).collect()
}

/// The parts that are not the same at all members.
fn unlike(members: &[BTreeMap<u64, String>]) -> BTreeSet<u64> {
    let parts = members.iter().flat_map(BTreeMap::keys).copied();
    parts
        .filter(|part| members.windows(2).any(|two| two[0].get(part) != two[1].get(part)))
        .collect()
}

/// A value of an image: a record has those of the server as JSON, and those of the binary log as texts.
fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn name(table: &Table) -> String {
    format!("{}.{}", table.schema, table.name)
}
