//! Copies the rows of conflicts aside, re-asserts them, reads them for comparison. For copies and re-assertions no value leaves the server: MySQL
//! copies its own rows.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::ops::ControlFlow;
use std::time::Duration;

use mysql_async::Conn;

use crate::decide::conflicts::{self, ConflictingRow, Record};
use crate::mysql::gtid::GtidSet;
use crate::mysql::io::binlog;
use crate::mysql::io::connection::{SqlError, ask, run};
use crate::mysql::io::table;
use crate::mysql::quote::identifier;
use crate::mysql::rows::{RowKey, Table};
use crate::names::{GTID_TAG, SCHEMA};
use crate::operator::act::Actor;

use super::account::{self, is_account};
use super::examine::{self, Reads};
use super::session::{Session, both, cause};

/// Deadline of reading what happened to a row since it was copied aside.
const DEADLINE: Duration = Duration::from_secs(20);

/// A row of a conflict with its table, the condition that finds it, and the table of its copy.
struct LocatedRow {
    id: String,
    key: RowKey,
    /// See [`table::identities`].
    identity: RowKey,
    table: Table,
    condition: String,
    /// The table that has its copy.
    copies: String,
    /// Whether another text may be the same key, see [`Table::weights`].
    has_weights: bool,
}

/// Finds the tables and conditions of rows, each row once. Accounts are no such rows.
async fn locate(conn: &mut Conn, rows: impl Iterator<Item = &ConflictingRow>) -> Result<Vec<LocatedRow>, SqlError> {
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
        });
    }
    Ok(located)
}

/// Name of the table in the product's schema that has the copy of a row.
fn copies(id: &str) -> String {
    format!("{}.{}", identifier(SCHEMA), identifier(&format!("kept_{id}")))
}

/// Adds the rows that records of other sides name, as they are at this member.
pub(super) async fn add(
    at: &mut Session,
    rows: &mut Vec<ConflictingRow>,
    more: &[ConflictingRow],
) -> Result<(), SqlError> {
    for target in locate(&mut at.aside, more.iter()).await? {
        if rows.iter().all(|row| row.id != target.id) {
            let mine = examine::image(&mut at.aside, &target.table, &target.condition, Reads::Look).await?;
            rows.push(ConflictingRow {
                id: target.id,
                key: target.key,
                theirs: mine.clone(),
                mine,
            });
        }
    }
    Ok(())
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
async fn copy(aside: &mut Conn, target: &LocatedRow, keep: bool) -> Result<(), SqlError> {
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

/// The rows as they are at this member.
pub(super) async fn images(
    at: &mut Session,
    rows: &[ConflictingRow],
) -> Result<Vec<Option<serde_json::Value>>, SqlError> {
    let mut images = Vec::new();
    for target in locate(&mut at.aside, rows.iter()).await? {
        images.push(examine::image(&mut at.aside, &target.table, &target.condition, Reads::Look).await?);
    }
    for row in rows.iter().filter(|row| is_account(&row.key)) {
        images.push(account::image(&mut at.aside, &row.key).await?);
    }
    Ok(images)
}

/// Deletes and inserts the rows in one logged transaction, so that every member gets them as they are here. A row that the losing side has
/// overwritten here, before it knew of the conflict, is taken from its copy.
pub(super) async fn reassert(
    actor: &Actor<'_>,
    at: &mut Session,
    ordinal: u8,
    records: &[Record],
) -> Result<(), SqlError> {
    // The copies have the ids of this member's own records.
    let (own, others): (Vec<&Record>, Vec<&Record>) = records.iter().partition(|record| record.observer == at.uuid);
    let rows: Vec<ConflictingRow> = own
        .into_iter()
        .chain(others)
        .flat_map(|record| record.rows.clone())
        .collect();
    account::reassert(at, &rows).await?;
    let targets = locate(&mut at.aside, rows.iter()).await?;
    if targets.is_empty() {
        return Ok(());
    }
    run(&mut at.logged, "BEGIN").await?;
    let done = reassert_locked(actor, at, ordinal, records, &targets).await;
    let end = if done.is_ok() { "COMMIT" } else { "ROLLBACK" };
    let ended = run(&mut at.logged, end).await;
    both(done, ended)
}

async fn reassert_locked(
    actor: &Actor<'_>,
    at: &mut Session,
    ordinal: u8,
    records: &[Record],
    targets: &[LocatedRow],
) -> Result<(), SqlError> {
    for target in targets {
        let lock = format!(
            "SELECT 1 FROM {} WHERE {} FOR UPDATE",
            target.table.quoted(),
            target.condition
        );
        ask(&mut at.logged, &lock).await?;
    }
    let ignorant = overwritten(actor, at, ordinal, records).await?;
    for target in targets {
        if !ignorant.contains(&target.id) {
            // The row as it is here now is the right one.
            copy(&mut at.aside, target, false).await?;
        }
    }
    for target in targets {
        let delete = format!("DELETE FROM {} WHERE {}", target.table.quoted(), target.condition);
        run(&mut at.logged, &delete).await?;
    }
    for target in targets {
        let (table, copies, columns) = (target.table.quoted(), &target.copies, target.table.stored_columns());
        let insert = format!(
            "INSERT INTO {table} ({columns}) SELECT {columns} FROM {copies} WHERE {}",
            target.condition
        );
        run(&mut at.logged, &insert).await?;
    }
    Ok(())
}

/// Ids of the rows whose last change here, since they were copied aside, came from the losing side before it knew of the conflict.
pub(super) async fn overwritten(
    actor: &Actor<'_>,
    at: &mut Session,
    ordinal: u8,
    records: &[Record],
) -> Result<Vec<String>, SqlError> {
    let uuid = at.uuid.clone();
    let own = || records.iter().filter(|record| record.observer == uuid);
    let copied = own().filter_map(|record| Some((record.seen, record.kept.as_ref()?)));
    let Some((_, since)) = copied.min_by_key(|(seen, _)| *seen) else {
        return Ok(Vec::new());
    };
    let targets = locate(&mut at.aside, own().flat_map(|record| &record.rows)).await?;
    if targets.is_empty() {
        return Ok(Vec::new());
    }
    let losers = conflicts::losers(actor.observed, records);
    let known = records.iter().try_fold(GtidSet::default(), |known, record| {
        let gtid = record.gtid.parse::<GtidSet>();
        let gtid = gtid.map_err(|error| SqlError::Outdated(error.to_string()))?;
        Ok::<_, SqlError>(known.union(&record.known).union(&gtid))
    })?;
    let log = actor.connect(ordinal).await.map_err(cause)?;
    // Of each key in the log that may be one of these rows' the last change: its number, and whether it came from such a side.
    let mut last: BTreeMap<String, (RowKey, usize, bool)> = BTreeMap::new();
    let mut number = 0;
    binlog::read(log, since, DEADLINE, None, |transaction| {
        let mut parts = transaction.gtid.split(':');
        let (writer, tag) = (parts.next().unwrap_or_default(), parts.next());
        let ignorant = tag != Some(GTID_TAG)
            && losers.iter().any(|loser| loser == writer)
            && transaction.gtid.parse().is_ok_and(|gtid| known.contains(&gtid));
        for change in &transaction.changes {
            let own = || {
                targets
                    .iter()
                    .filter(|target| is_of(&target.table, &change.schema, &change.table))
            };
            let Some(first) = own().next() else { continue };
            for row in [&change.before, &change.after].into_iter().flatten() {
                let Ok(key) = first.table.key(row) else { continue };
                // Only the server knows which texts are one key.
                if own().any(|target| target.has_weights || target.key == key) {
                    number += 1;
                    last.insert(key.to_string(), (key, number, ignorant));
                }
            }
        }
        ControlFlow::Continue(())
    })
    .await?;
    // By identity.
    let mut changed: BTreeMap<String, (usize, bool)> = BTreeMap::new();
    let tables: BTreeMap<String, &Table> = targets
        .iter()
        .map(|target| (target.table.quoted(), &target.table))
        .collect();
    for table in tables.values() {
        let changes: Vec<_> = last
            .values()
            .filter(|(key, ..)| is_of(table, &key.schema, &key.table))
            .collect();
        let keys: Vec<&RowKey> = changes.iter().map(|(key, ..)| key).collect();
        for (identity, (_, number, ignorant)) in table::identities(&mut at.aside, table, &keys)
            .await?
            .iter()
            .zip(changes)
        {
            let change = changed.entry(identity.to_string()).or_default();
            *change = (*change).max((*number, *ignorant));
        }
    }
    let is_ignorant = |target: &LocatedRow| {
        let change = changed.get(&target.identity.to_string());
        change.is_some_and(|(_, ignorant)| *ignorant)
    };
    let mut overwritten = Vec::new();
    for target in targets.into_iter().filter(is_ignorant) {
        // Without the row and without a copy there is nothing to re-assert.
        let present = examine::image(&mut at.aside, &target.table, &target.condition, Reads::Look).await?;
        if present.is_some() || has_copy(&mut at.aside, &target).await? {
            overwritten.push(target.id);
        }
    }
    Ok(overwritten)
}

/// Whether a row has a copy.
async fn has_copy(aside: &mut Conn, target: &LocatedRow) -> Result<bool, SqlError> {
    let query = format!("SELECT 1 FROM {} WHERE {}", target.copies, target.condition);
    match ask(aside, &query).await {
        Ok(rows) => Ok(!rows.is_empty()),
        // ER_NO_SUCH_TABLE: a row that was not there when it was to be copied, at a member that was cloned since.
        Err(SqlError::Mysql(mysql_async::Error::Server(error))) if error.code == 1146 => Ok(false),
        Err(error) => Err(error),
    }
}

fn is_of(table: &Table, schema: &str, name: &str) -> bool {
    table.schema == schema && table.name == name
}
