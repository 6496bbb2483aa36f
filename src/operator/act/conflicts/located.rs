//! Rows of conflicts in their tables, and the copies that are made of them. No value leaves the server for a copy: MySQL copies its own rows.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use mysql_async::Conn;

use crate::decide::conflicts::ConflictingRow;
use crate::mysql::io::connection::{SqlError, ask, run};
use crate::mysql::io::table;
use crate::mysql::quote::identifier;
use crate::mysql::rows::{RowKey, Table};
use crate::names::SCHEMA;

use super::account::is_account;
use super::session::Session;

/// A row of a conflict with its table, the condition that finds it, and the table of its copy.
pub(super) struct LocatedRow {
    pub(super) id: String,
    pub(super) key: RowKey,
    /// See [`table::identities`].
    pub(super) identity: RowKey,
    pub(super) table: Table,
    pub(super) condition: String,
    /// The table that has its copy.
    pub(super) copies: String,
    /// Whether another text may be the same key, see [`Table::weights`].
    pub(super) has_weights: bool,
    /// A trigger that would fire if the row were deleted or inserted by a statement, if that is known.
    pub(super) trigger: Option<String>,
}

/// Finds the tables and conditions of rows, each row once. Accounts are no such rows.
pub(super) async fn locate(
    conn: &mut Conn,
    rows: impl Iterator<Item = &ConflictingRow>,
) -> Result<Vec<LocatedRow>, SqlError> {
    let mut tables: BTreeMap<(String, String), Table> = BTreeMap::new();
    let mut located: Vec<LocatedRow> = Vec::new();
    for row in rows.filter(|row| !is_account(&row.key)) {
        let table = match tables.entry((row.key.schema.clone(), row.key.table.clone())) {
            Entry::Occupied(known) => known.get().clone(),
            Entry::Vacant(new) => new
                .insert(table::read(conn, &row.key.schema, &row.key.table).await?)
                .clone(),
        };
        // The same key of several records needs no question to the server.
        if located.iter().any(|known| known.key == row.key) {
            continue;
        }
        let condition = table.finds(&row.key).map_err(SqlError::Outdated)?;
        let identity = table::identities(conn, &table, &[&row.key]).await?.pop();
        let identity = identity.ok_or_else(|| SqlError::Unreadable(format!("no identity of {}", row.key)))?;
        if located.iter().any(|known| known.identity == identity) {
            continue;
        }
        let weights = table.weights(&row.key).map_err(SqlError::Outdated)?;
        located.push(LocatedRow {
            id: row.id.clone(),
            key: row.key.clone(),
            identity,
            copies: copies(&row.id),
            has_weights: weights.iter().any(Option::is_some),
            table,
            condition,
            trigger: None,
        });
    }
    Ok(located)
}

/// Name of the table in the product's schema that has the copy of a row.
fn copies(id: &str) -> String {
    format!("{}.{}", identifier(SCHEMA), identifier(&format!("kept_{id}")))
}

/// Copies the member's own rows, unlogged. `taken`: rows of this conflict that a side was taken for here before; a copy of such a row is the row from
/// before that, and stays.
pub(super) async fn copy_aside(at: &mut Session, rows: &[ConflictingRow], taken: &[String]) -> Result<(), SqlError> {
    for target in locate(&mut at.aside, rows.iter()).await? {
        copy(&mut at.aside, &target, taken.contains(&target.id)).await?;
    }
    Ok(())
}

/// Copies a row as it is now. `keep`: a copy that is there stays; otherwise it is replaced.
pub(super) async fn copy(aside: &mut Conn, target: &LocatedRow, keep: bool) -> Result<(), SqlError> {
    let (table, copies, columns) = (target.table.quoted(), &target.copies, target.table.stored_columns());
    let condition = &target.condition;
    run(aside, &format!("CREATE TABLE IF NOT EXISTS {copies} LIKE {table}")).await?;
    if !keep {
        run(aside, &format!("DELETE FROM {copies} WHERE {condition}")).await?;
    }
    let verb = if keep { "INSERT IGNORE" } else { "INSERT" };
    let copy = format!("{verb} INTO {copies} ({columns}) SELECT {columns} FROM {table} WHERE {condition}");
    run(aside, &copy).await
}

/// Drops the copies of settled conflicts.
pub(super) async fn forget(at: &mut Session, rows: &[ConflictingRow]) -> Result<(), SqlError> {
    for row in rows {
        run(&mut at.aside, &format!("DROP TABLE IF EXISTS {}", copies(&row.id))).await?;
    }
    Ok(())
}

/// Whether the copy of a row has it; `None`: no copy was made here, so the present row is the right one for all that is known.
pub(super) async fn copied(aside: &mut Conn, target: &LocatedRow) -> Result<Option<bool>, SqlError> {
    let query = format!("SELECT 1 FROM {} WHERE {}", target.copies, target.condition);
    match ask(aside, &query).await {
        Ok(rows) => Ok(Some(!rows.is_empty())),
        // ER_NO_SUCH_TABLE.
        Err(SqlError::Mysql(mysql_async::Error::Server(error))) if error.code == 1146 => Ok(None),
        Err(error) => Err(error),
    }
}
